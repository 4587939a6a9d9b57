"""Regression, by the conventions of `pyspark.ml.regression`, which has no such network."""

from sparknn.regression.dbn import (
    DeepBeliefNetworkRegressionModel,
    DeepBeliefNetworkRegressor,
)
from sparknn.regression.perceptron import (
    MultilayerPerceptronRegressionModel,
    MultilayerPerceptronRegressor,
)
from sparknn.regression.summary import (
    MultilayerPerceptronRegressionSummary,
    MultilayerPerceptronRegressionTrainingSummary,
)

__all__ = [
    "DeepBeliefNetworkRegressionModel",
    "DeepBeliefNetworkRegressor",
    "MultilayerPerceptronRegressionModel",
    "MultilayerPerceptronRegressionSummary",
    "MultilayerPerceptronRegressionTrainingSummary",
    "MultilayerPerceptronRegressor",
]
