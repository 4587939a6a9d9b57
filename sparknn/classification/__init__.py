"""Classifiers, in place of `pyspark.ml.classification`: one changed import, the same answers."""

from pyspark.ml.classification import (
    BinaryLogisticRegressionSummary,
    LogisticRegressionSummary,
    MultilayerPerceptronClassificationSummary,
)

from sparknn.classification.dbn import (
    DeepBeliefNetworkClassificationModel,
    DeepBeliefNetworkClassifier,
)
from sparknn.classification.logistic import LogisticRegression, LogisticRegressionModel
from sparknn.classification.perceptron import (
    MultilayerPerceptronClassificationModel,
    MultilayerPerceptronClassifier,
)
from sparknn.classification.summary import (
    BinaryLogisticRegressionTrainingSummary,
    LogisticRegressionTrainingSummary,
    MultilayerPerceptronClassificationTrainingSummary,
)

__all__ = [
    "DeepBeliefNetworkClassificationModel",
    "DeepBeliefNetworkClassifier",
    "LogisticRegression",
    "LogisticRegressionModel",
    "LogisticRegressionSummary",
    "LogisticRegressionTrainingSummary",
    "BinaryLogisticRegressionSummary",
    "BinaryLogisticRegressionTrainingSummary",
    "MultilayerPerceptronClassificationModel",
    "MultilayerPerceptronClassificationSummary",
    "MultilayerPerceptronClassificationTrainingSummary",
    "MultilayerPerceptronClassifier",
]
