"""How well a regression predicts: the names and definitions of MLlib's LinearRegressionSummary.

One job goes through the predictions once, when a number is first asked for. Of weighted rows MLlib
takes their variance times the sum of weights less one for the sum of squares in `r2`, which holds
for weights of one; here it is the sum of squares for any weights.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.stat import Summarizer
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparknn.diagnostics import Diagnostics, Training
from sparknn.fitting import weight_column
from sparknn.schema import numeric_column, quoted

__all__ = [
    "MultilayerPerceptronRegressionSummary",
    "MultilayerPerceptronRegressionTrainingSummary",
]

Number = float | list[float]
"""Of the one target, or of each of several."""


class MultilayerPerceptronRegressionSummary:
    """How well a model predicts some rows, weighted where the model has a weightCol.

    Parameters
    ----------
    model : MultilayerPerceptronRegressionModel
    dataset : DataFrame
        Rows with features and targets; nothing is computed yet.
    """

    def __init__(self, model: Any, dataset: DataFrame):
        self.predictionCol: str = model.getPredictionCol()
        self.labelCols: list[str] = model._targets
        self.featuresCol: str = model.getFeaturesCol()
        self.predictions: DataFrame = model.transform(dataset)
        self._weight = weight_column(model)

    @property
    def labelCol(self) -> str:
        """The target's column; of several, the first one's."""
        return self.labelCols[0]

    @property
    def residuals(self) -> DataFrame:
        """Targets less predictions, in a column `residuals`: doubles, or vectors of several."""
        labels, values = self._values()
        residuals = [label - value for label, value in zip(labels, values, strict=True)]
        column = residuals[0] if len(residuals) == 1 else array_to_vector(F.array(*residuals))
        return self.predictions.select(column.alias("residuals"))

    @property
    def numInstances(self) -> int:
        """The number of rows."""
        return int(self._sums["count"])

    @property
    def meanAbsoluteError(self) -> Number:
        """The mean of |target - prediction|."""
        return self._each(self._part("normL1", 1) / self._sums["weight"])

    @property
    def meanSquaredError(self) -> Number:
        """The mean of (target - prediction)²."""
        return self._each(self._squared_errors / self._sums["weight"])

    @property
    def rootMeanSquaredError(self) -> Number:
        """The root of the mean of (target - prediction)²."""
        return self._each(np.sqrt(self._squared_errors / self._sums["weight"]))

    @property
    def r2(self) -> Number:
        """The share of the targets' variance that is predicted: 1 - squared errors / squares."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._each(1 - self._squared_errors / self._squares(0))

    @property
    def explainedVariance(self) -> Number:
        """The mean of (prediction - mean target)²."""
        shift = self._part("mean", 2) - self._part("mean", 0)
        return self._each(self._squares(2) / self._sums["weight"] + shift**2)

    @property
    def _squared_errors(self) -> np.ndarray:
        return self._part("normL2", 1) ** 2

    def _squares(self, part: int) -> np.ndarray:
        """Return the sum of squared differences from the mean, (targets,)."""
        sums = self._sums
        return self._part("variance", part) * (sums["weight"] - sums["squares"] / sums["weight"])

    def _part(self, metric: str, part: int) -> np.ndarray:
        """Return a metric of the targets (part 0), their residuals (1) or predictions (2)."""
        return self._sums[metric].toArray().reshape(3, -1)[part]

    def _each(self, values: np.ndarray) -> Number:
        return float(values[0]) if len(values) == 1 else values.tolist()

    def _values(self) -> tuple[list[Column], list[Column]]:
        """Return targets and predictions as columns of numbers."""
        labels = [numeric_column(self.predictions, name) for name in self.labelCols]
        prediction = F.col(quoted(self.predictionCol))
        if len(labels) == 1:
            return labels, [prediction]
        return labels, [vector_to_array(prediction)[index] for index in range(len(labels))]

    @cached_property
    def _sums(self) -> dict[str, Any]:
        labels, values = self._values()
        residuals = [label - value for label, value in zip(labels, values, strict=True)]
        weight = F.lit(1.0)
        if self._weight:
            weight = F.col(quoted(self._weight)).cast("double")
        metrics = Summarizer.metrics("mean", "variance", "normL1", "normL2", "count")
        vector = array_to_vector(F.array(*labels, *residuals, *values))
        (found,) = self.predictions.agg(
            metrics.summary(vector, weight).alias("metrics"),
            F.sum(weight).alias("weight"),
            F.sum(weight * weight).alias("squares"),
        ).collect()
        return {**found["metrics"].asDict(), **found.asDict()}


class MultilayerPerceptronRegressionTrainingSummary(
    Diagnostics, MultilayerPerceptronRegressionSummary
):
    """How well a model predicts the rows that it was trained on, and how the training went."""

    def __init__(self, model: Any, training: Training):
        super().__init__(model, training.dataset)
        self._training = training

    @property
    def objectiveHistory(self) -> list[float]:
        """The objective, in the targets' deviations: at the start, then after each iteration.

        Of a minibatch solver, each epoch's mean training loss.
        """
        return self._training.fitted.objective_history
