"""How far a classifier's probabilities can be believed."""

from __future__ import annotations

from typing import Any

from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

__all__ = ["calibration"]


def calibration(scored: DataFrame, bins: int) -> dict[str, Any]:
    """Return how far confidence, the largest probability, is the chance of being right.

    Parameters
    ----------
    scored : DataFrame
        Columns label, prediction (doubles) and probability (a vector).
    bins : int
        Equal parts of [0, 1] into which confidences fall.

    Returns
    -------
    dict
        brier: mean over rows of the squared distance of the probabilities from the label's one
        and the others' zeros, 0 to 2 (Brier, 1950). expectedCalibrationError: the mean over
        rows of the distance between a bin's mean confidence and its accuracy (Guo et al., 2017);
        maximumCalibrationError: the largest of these. calibration: the bins that have rows.
    """
    chances = vector_to_array("probability")
    label = F.col("label").cast("int")
    squares = F.transform(chances, lambda p, i: F.pow(p - (i == label).cast("double"), 2.0))
    confidence = F.array_max(chances)
    rows = scored.select(
        confidence.alias("confidence"),
        (F.col("label") == F.col("prediction")).cast("double").alias("right"),
        F.aggregate(squares, F.lit(0.0), lambda total, each: total + each).alias("square"),
        F.least(F.floor(confidence * bins), F.lit(bins - 1)).cast("int").alias("bin"),
    )
    means = rows.groupBy("bin").agg(
        F.count("*").alias("rows"), F.avg("confidence"), F.avg("right"), F.sum("square")
    )
    found = sorted(map(tuple, means.collect()))
    count = sum(rows for _, rows, *_ in found)
    gaps = [abs(confident - right) for _, _, confident, right, _ in found]
    weighted = sum(gap * rows for gap, (_, rows, *_) in zip(gaps, found, strict=True))
    return {
        "brier": sum(square for *_, square in found) / count,
        "expectedCalibrationError": weighted / count,
        "maximumCalibrationError": max(gaps),
        "calibration": [
            {
                "from": place / bins,
                "to": (place + 1) / bins,
                "rows": rows,
                "confidence": confident,
                "accuracy": right,
            }
            for place, rows, confident, right, _ in found
        ],
    }
