"""From scores to labels: MLlib's `threshold` and `thresholds`.

`thresholds` divide the classes' probabilities before the largest wins. Two classes have also
`threshold`, the probability above which class 1 is predicted: p stands for [1 - p, p].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pyspark.ml.classification import _LogisticRegressionParams
from pyspark.ml.param import Param, Params, TypeConverters

from sparknn.params import require

__all__ = ["LogisticParams", "check_thresholds", "labels_by", "labels_of_margins"]


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
                return 0.0
        return super().getThreshold()

    def setThresholds(self, value: list[float]):
        """Sets the value of thresholds and clears threshold."""
        # pyspark has this method, too, but hidden behind one that clears nothing.
        return _LogisticRegressionParams.setThresholds(self, value)


def check_thresholds(instance: Params, classes: int | None = None) -> None:
    """Raise ValueError for thresholds out of range, or, with `classes`, of another number."""
    if instance.hasParam("threshold"):
        require(instance, "threshold", lambda v: 0 <= v <= 1, "in [0, 1]")
        instance._checkThresholdConsistency()
    require(
        instance,
        "thresholds",
        lambda values: min(values, default=-1) >= 0 and list(values).count(0) <= 1,
        "greater than 0, but for at most one 0",
    )
    if classes is None or not instance.isDefined("thresholds"):
        return
    count = len(instance.getOrDefault("thresholds"))
    if count != classes:
        raise ValueError(
            f"{type(instance).__name__}: thresholds must be one for each class: there are "
            f"{classes} classes and {count} thresholds"
        )


def labels_by(probability: np.ndarray, thresholds: list[float]) -> np.ndarray:
    """Return each row's class, (rows,), whose probability over its threshold is largest.

    probability: (rows, classes). A class of threshold 0 always wins.
    """
    scale = np.asarray(thresholds, np.float64)
    scaled = np.full(probability.shape, np.inf)
    np.divide(probability, scale, out=scaled, where=scale != 0)
    return scaled.argmax(axis=1)


def labels_of_margins(threshold: float, column: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return MLlib's rule from two classes' margins, (rows,), to whether they are class 1.

    MLlib compares what it has computed already: margins where the raw column is wanted ("raw"),
    else the column of probabilities ("probability"), else class 1's probability on its own
    ("label"). They differ only where rounding, or a threshold of 0 or 1, decides.
    """
    if column == "raw":
        with np.errstate(divide="ignore"):
            limit = np.log(np.float64(threshold) / np.float64(1 - threshold))
        return lambda margins: margins > limit
    if column == "probability":
        return lambda margins: 1 - odds(margins) > threshold
    return lambda margins: odds(-margins) > threshold


def odds(margins: np.ndarray) -> np.ndarray:
    """Return the probability of class 0 for margins of class 1."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(margins))
