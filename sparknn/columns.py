"""Predictions as columns: a vectorised function of the features column alone.

Other columns never leave the JVM, so they keep type, nullability and metadata, and streaming
DataFrames work. Nothing is computed until the columns are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

from sparknn.batches import Predict, Single, as_frame, as_structs
from sparknn.cluster import Cluster
from sparknn.schema import column_type, feature_columns, quoted

__all__ = ["Output", "checked_vectors", "require_new", "with_column", "with_predictions"]

ARROW = hasattr(F, "arrow_udf")
"""Whether Spark has functions of Arrow arrays, as from 4.1; through pandas rows are objects."""


class Output(NamedTuple):
    """A column to add.

    part: the field of a prediction that it holds. name: the column's; "" is not computed. width:
    of a vector; None for a number. metadata: of a column of numbers.
    """

    part: str
    name: str
    width: int | None
    metadata: dict[str, Any] | None = None


def with_predictions(
    dataset: DataFrame, features: str, width: int, predict: Predict, outputs: Sequence[Output]
) -> DataFrame:
    """Return `dataset` with columns for what a model predicts.

    Parameters
    ----------
    features : str
        A vector or array column.
    width : int
        The number of features that `predict` takes.
    predict : callable
        See `Predict`; it is sent to the executors.
    outputs : sequence of Output

    Raises
    ------
    ValueError
        If a column is there already.
    """
    wanted = [output for output in outputs if output.name]
    require_new(dataset, [output.name for output in wanted])
    if not wanted:
        return dataset
    cluster = Cluster(dataset.sparkSession)
    cluster.prepare()
    (column,), _ = feature_columns(dataset, features)
    vectors = isinstance(column_type(dataset, features), VectorUDT)
    compute = _column_function(predict, width, wanted, cluster.threads, vectors)
    # One function several times, which Spark calls once a row; each step on the way to a column of
    # its own for it would have the plan analysed again, longer than a few thousand rows take.
    prediction = compute(column)
    return dataset.select("*", *[_added(prediction[output.part], output) for output in wanted])


def with_column(
    dataset: DataFrame,
    features: str,
    width: int,
    compute: Callable[[np.ndarray], np.ndarray],
    output: str,
    size: int | None = None,
) -> DataFrame:
    """Return `dataset` with one column more, computed from its features.

    Parameters
    ----------
    features : str
        A vector or array column.
    width : int
        The number of features that `compute` takes.
    compute : callable
        From (rows, width) float64 to (rows, size), or to (rows,); it is sent to the executors.
    output : str
        The name of the new column; without one it is not computed.
    size : int, optional
        It holds vectors of this size; without it, numbers.

    Raises
    ------
    ValueError
        If there is a column of this name.
    """

    def computed(values: np.ndarray) -> Single:
        return Single(np.asarray(compute(values), np.float64))

    return with_predictions(dataset, features, width, computed, [Output("value", output, size)])


def require_new(dataset: DataFrame, names: Sequence[str]) -> None:
    """Raise ValueError for a column to add that is there already."""
    for name in names:
        if name in dataset.columns:
            raise ValueError(f"the output column {name!r} exists already")


def checked_vectors(features: str, width: int) -> Column:
    """Return a column of vectors whose rows raise an error where they are null or not so wide."""
    whole = F.col(quoted(features))
    stored = F.unwrap_udt(whole)
    found = F.coalesce(stored["size"], F.size(stored["values"]))
    told = F.when(stored.isNull(), "null").otherwise(
        F.concat(found.cast("string"), F.lit(" values wide"))
    )
    message = F.concat(
        F.lit(f"column {features!r}: a row's features are "),
        told,
        F.lit(f"; the model takes {width} values"),
    )
    return F.when(found == width, whole).otherwise(F.raise_error(message))


def _added(column: Column, output: Output) -> Column:
    """Return one column as MLlib gives it, with the attributes that its own stages read."""
    if output.width is None:
        return column.alias(output.name, metadata=output.metadata or {})
    if not ARROW:
        # On the way from pandas NaN turned into null, which a vector cannot hold.
        column = F.transform(column, lambda x: F.coalesce(x, F.lit(float("nan"))))
    metadata = {"ml_attr": {"num_attrs": output.width}}
    return array_to_vector(column).alias(output.name, metadata=metadata)


def _column_function(
    predict: Predict, width: int, outputs: Sequence[Output], threads: int, vectors: bool
):
    """Return the column function that computes parts of a prediction as a struct."""
    number, vector = DoubleType(), ArrayType(DoubleType())
    parts = [output.part for output in outputs]
    schema = StructType(
        [StructField(part, number if size is None else vector) for part, _, size, _ in outputs]
    )

    def compute(column: pa.Array) -> pa.Array:
        return as_structs(predict, column, parts, width, threads)

    # Spark reads from the hints what a function takes.
    def of_vectors(column: pd.DataFrame) -> pd.DataFrame:
        return as_frame(predict, column, parts, width, threads)

    def of_arrays(column: pd.Series) -> pd.DataFrame:
        return as_frame(predict, column, parts, width, threads)

    if ARROW:
        return F.arrow_udf(compute, schema)
    return F.pandas_udf(of_vectors if vectors else of_arrays, schema)
