"""From scores to labels: MLlib's `threshold` and `thresholds`.

`thresholds` divide the classes' probabilities before the largest wins. Two classes have also
`threshold`, the probability above which class 1 is predicted: p stands for [1 - p, p].
"""

from __future__ import annotations

from pyspark.ml.classification import _LogisticRegressionParams
from pyspark.ml.param import Param, Params, TypeConverters

from sparknn.errors import InvalidParamError
from sparknn.params import require
from sparknn.prediction import fault_of_thresholds, threshold_of

__all__ = ["LogisticParams", "check_thresholds"]


class LogisticParams(_LogisticRegressionParams):
    """The params of logistic regression and its model, as far as they are not quite MLlib's."""

    aggregationDepth: Param[int] = Param(
        Params._dummy(),
        "aggregationDepth",
        "of MLlib's tree of sums (>= 2); without effect here, where partial sums are few and go "
        "to the driver at once, or through a shuffle when they are large",
        typeConverter=TypeConverters.toInt,
    )
    maxBlockSizeInMB: Param[float] = Param(
        Params._dummy(),
        "maxBlockSizeInMB",
        "most megabytes of rows that l-bfgs works on at a time in a task (>= 0); 0.0: what suits "
        "a core's cache, about one",
        typeConverter=TypeConverters.toFloat,
    )

    def getThreshold(self) -> float:
        """Gets the probability above which class 1 is predicted.

        Where `thresholds` is set, to two values, it is what they come to. Raises ValueError for
        any other number of them, or where `threshold` is set, too, and is not the same.
        """
        if self.isSet(self.thresholds):
            values = self.getOrDefault(self.thresholds)
            if len(values) == 2 and values[1] == 0 and not self.isSet(self.threshold):
                return threshold_of(values)
        return super().getThreshold()

    def setThresholds(self, value: list[float]):
        """Sets the value of thresholds and clears threshold."""
        # pyspark has this method, too, but hidden behind one that clears nothing.
        return _LogisticRegressionParams.setThresholds(self, value)


def check_thresholds(instance: Params, classes: int | None = None) -> None:
    """Raise InvalidParamError for thresholds out of range, or, with `classes`, too many or few."""
    if instance.hasParam("threshold"):
        require(instance, "threshold", lambda v: 0 <= v <= 1, "in [0, 1]")
        instance._checkThresholdConsistency()
    if instance.isDefined("thresholds"):
        fault = fault_of_thresholds(instance.getOrDefault("thresholds"), classes)
        if fault:
            raise InvalidParamError(f"{type(instance).__name__}: {fault}")
