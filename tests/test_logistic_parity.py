"""LogisticRegression against MLlib on real data: both at a tight tolerance, unique optima."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from pyspark.ml.linalg import DenseMatrix, DenseVector, Vectors
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_diabetes, load_digits, load_wine

from sparknn.classification import LogisticRegression

TIGHT = {"maxIter": 500, "tol": 1e-9}


def digits() -> tuple[np.ndarray, np.ndarray]:
    features, labels = load_digits(return_X_y=True)
    return features[:250], labels[:250]


def lively_digits() -> tuple[np.ndarray, np.ndarray]:
    """The pixels that vary: without standardization the others make MLlib run out of maxIter."""
    features, labels = digits()
    return features[:, features.std(0) > 3], labels


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Whether the disease went on by more than the median, from the unscaled columns."""
    features, target = load_diabetes(return_X_y=True, scaled=False)
    return features, (target > np.median(target)).astype(float)


def wine() -> tuple[np.ndarray, np.ndarray]:
    return load_wine(return_X_y=True)


def box(units: int, features: int, low: float, high: float) -> dict:
    size = units * features
    return {
        "lowerBoundsOnCoefficients": DenseMatrix(units, features, [low] * size),
        "upperBoundsOnCoefficients": DenseMatrix(units, features, [high] * size),
    }


CASES: dict[str, tuple[Callable, dict, bool]] = {
    "digits l2": (digits, {"regParam": 0.1}, False),
    "digits l2 sparse, weighted, unscaled": (
        lively_digits,
        {"regParam": 0.1, "weightCol": "weight", "standardization": False},
        True,
    ),
    "digits elastic net": (digits, {"regParam": 0.05, "elasticNetParam": 0.5}, False),
    "diabetes l1": (diabetes, {"regParam": 0.02, "elasticNetParam": 1.0}, False),
    "diabetes elastic net, weighted": (
        diabetes,
        {"regParam": 0.1, "elasticNetParam": 0.3, "weightCol": "weight"},
        False,
    ),
    "wine box, weighted": (
        wine,
        {"regParam": 0.1, "weightCol": "weight", **box(3, 13, -0.3, 0.2)},
        False,
    ),
    "wine nonnegative, intercepts bounded": (
        wine,
        {
            "regParam": 0.1,
            **box(3, 13, 0.0, 10.0),
            "upperBoundsOnIntercepts": DenseVector([-0.5, 0.0, 0.5]),
        },
        False,
    ),
}


def frame(spark: SparkSession, features: np.ndarray, labels: np.ndarray, sparse: bool) -> DataFrame:
    weights = np.random.default_rng(4).uniform(0.1, 2, len(features)).round(3)
    size = features.shape[1]
    vectors = [
        Vectors.sparse(size, {int(i): float(x[i]) for i in np.flatnonzero(x)})
        if sparse
        else Vectors.dense(x)
        for x in features
    ]
    rows = [
        (vector, float(y), float(w)) for vector, y, w in zip(vectors, labels, weights, strict=True)
    ]
    table = spark.createDataFrame(spark.sparkContext.parallelize(rows, 2))
    return table.toDF("features", "label", "weight").cache()


@pytest.mark.parametrize("case", CASES)
def test_coefficients_and_zeros_are_mllibs(spark: SparkSession, case: str) -> None:
    load, params, sparse = CASES[case]
    features, labels = load()
    data = frame(spark, features, labels, sparse)
    theirs = mllib.LogisticRegression(**TIGHT, **params).fit(data)
    ours = LogisticRegression(**TIGHT, **params).fit(data)
    data.unpersist()
    scale = features.std(0)
    expected = theirs.coefficientMatrix.toArray() * scale
    got = ours.coefficientMatrix.toArray() * scale
    largest = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * largest)
    small = np.abs(expected) < 1e-4 * largest
    np.testing.assert_array_equal((got == 0) | small, (expected == 0) | small)
    assert ours.summary.objectiveHistory[-1] == pytest.approx(
        theirs.summary.objectiveHistory[-1], rel=1e-6
    )
    centre = features.mean(0)
    margins = [
        model.coefficientMatrix.toArray() @ centre + model.interceptVector.toArray()
        for model in (ours, theirs)
    ]
    np.testing.assert_allclose(margins[0], margins[1], atol=1e-3 * max(1, largest))
