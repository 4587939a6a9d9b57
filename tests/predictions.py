"""What models say of some rows, by Spark and by NumPy."""

from __future__ import annotations

import numpy as np
from pyspark.sql import DataFrame
from threadpoolctl import threadpool_limits

from sparknn.prediction import Prediction


def by_spark(model, data: DataFrame) -> Prediction:
    """What `transform` says of a DataFrame's rows, in order."""
    found = model.transform(data).collect()
    names = ("rawPrediction", "probability")
    vectors = [np.array([row[name].toArray() for row in found]) for name in names]
    return Prediction(*vectors, np.array([row.prediction for row in found]))


def by_numpy(model, data) -> Prediction:
    with threadpool_limits(1, "blas"):
        return Prediction(
            model.decision_function(data), model.predict_proba(data), model.predict(data)
        )


def assert_same(found: Prediction, expected: Prediction, tolerance: float) -> None:
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(found.label, expected.label)
