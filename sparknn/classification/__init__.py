"""Classifiers, in place of `pyspark.ml.classification`: one changed import, the same answers."""

from sparknn.classification.logistic import LogisticRegression, LogisticRegressionModel
from sparknn.classification.perceptron import (
    MultilayerPerceptronClassificationModel,
    MultilayerPerceptronClassifier,
)

__all__ = [
    "LogisticRegression",
    "LogisticRegressionModel",
    "MultilayerPerceptronClassificationModel",
    "MultilayerPerceptronClassifier",
]
