"""Predictions as columns: a vectorised function of the features column alone.

Other columns never leave the JVM, so they keep type, nullability and metadata, and streaming
DataFrames work. Nothing is computed until the columns are used.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType
from threadpoolctl import threadpool_limits

from sparknn.cluster import Cluster
from sparknn.prediction import Prediction
from sparknn.schema import column_type, feature_columns
from sparknn.vectors import of_column

__all__ = ["with_column", "with_predictions"]

ARROW = hasattr(F, "arrow_udf")
"""Whether Spark has functions of Arrow arrays, as from 4.1; through pandas rows are objects."""

WIDE, WIDE_ROWS = 4096, 256
"""Features above which vectors stay as they are stored: few of so many are set, as a rule."""

PIECE_BYTES = 2**21
"""Of features: a batch of Arrow's leaves the cache, and so would the network's layers."""


def with_predictions(
    dataset: DataFrame,
    features: str,
    width: int,
    predict: Callable[[np.ndarray], Prediction],
    names: Prediction,
    classes: int,
) -> DataFrame:
    """Return `dataset` with columns for raw predictions, probabilities and labels.

    Parameters
    ----------
    features : str
        A vector or array column.
    width : int
        The number of features that `predict` takes.
    predict : callable
        From (rows, width) float64 to a Prediction; it is sent to the executors.
    names : Prediction
        The names of the new columns; one that is "" is not computed.
    classes : int

    Raises
    ------
    ValueError
        If a column is there already.
    """
    wanted = {part: name for part, name in names._asdict().items() if name}
    for name in wanted.values():
        if name in dataset.columns:
            raise ValueError(f"the output column {name!r} exists already")
    if not wanted:
        return dataset
    cluster = Cluster(dataset.sparkSession)
    cluster.prepare()
    (column,), _ = feature_columns(dataset, features)
    held = f"prediction_{uuid.uuid4().hex}"
    vectors = isinstance(column_type(dataset, features), VectorUDT)
    compute = _column_function(predict, width, list(wanted), cluster.threads, vectors)
    computed = dataset.select("*", compute(column).alias(held))
    outputs = [_output(F.col(held)[part], part, name, classes) for part, name in wanted.items()]
    return computed.select("*", *outputs).drop(held)


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
        The name of the new column.
    size : int, optional
        It holds vectors of this size; without it, numbers.

    Raises
    ------
    ValueError
        If there is a column of this name.
    """
    if output in dataset.columns:
        raise ValueError(f"the output column {output!r} exists already")
    cluster = Cluster(dataset.sparkSession)
    cluster.prepare()
    (column,), _ = feature_columns(dataset, features)
    vectors = isinstance(column_type(dataset, features), VectorUDT)
    computed = _single_function(compute, width, size, cluster.threads, vectors)(column)
    if size is None:
        return dataset.select("*", computed.alias(output))
    # A select of its own, or Spark computes the function once for each use of its value.
    held = f"computed_{uuid.uuid4().hex}"
    rows = dataset.select("*", computed.alias(held))
    return rows.select("*", _vector(F.col(held), output, size)).drop(held)


def _single_function(
    compute: Callable[[np.ndarray], np.ndarray],
    width: int,
    size: int | None,
    threads: int,
    vectors: bool,
):
    """Return the column function that computes numbers, or arrays of numbers."""
    kind = DoubleType() if size is None else ArrayType(DoubleType())

    def values(column: pa.Array) -> np.ndarray:
        pieces = _pieces(compute, column, width, threads)
        return np.concatenate(pieces).astype(np.float64, copy=False)

    def of_arrow(column: pa.Array) -> pa.Array:
        return _arrow(values(column))

    def by_pandas(column: pd.DataFrame | pd.Series) -> pd.Series:
        found = values(_from_pandas(column))
        return pd.Series(found if size is None else list(found))

    # Spark reads from the hints what a function takes.
    def of_vectors(column: pd.DataFrame) -> pd.Series:
        return by_pandas(column)

    def of_arrays(column: pd.Series) -> pd.Series:
        return by_pandas(column)

    if ARROW:
        return F.arrow_udf(of_arrow, kind)
    return F.pandas_udf(of_vectors if vectors else of_arrays, kind)


def _output(column: Column, part: str, name: str, classes: int) -> Column:
    """Return one column as MLlib gives it, with the attributes that its own stages read."""
    if part == "label":
        return column.alias(name, metadata={"ml_attr": {"type": "nominal", "num_vals": classes}})
    return _vector(column, name, classes)


def _vector(column: Column, name: str, size: int) -> Column:
    """Return a column of arrays as vectors of `size`."""
    if not ARROW:
        # On the way from pandas NaN turned into null, which a vector cannot hold.
        column = F.transform(column, lambda x: F.coalesce(x, F.lit(float("nan"))))
    return array_to_vector(column).alias(name, metadata={"ml_attr": {"num_attrs": size}})


def _column_function(
    predict: Callable[[np.ndarray], Prediction],
    width: int,
    parts: list[str],
    threads: int,
    vectors: bool,
):
    """Return the column function that computes `parts` of a prediction as a struct."""
    vector = ArrayType(DoubleType())
    schema = StructType(
        [StructField(part, DoubleType() if part == "label" else vector) for part in parts]
    )

    def compute(column: pa.Array) -> pa.Array:
        found = _predictions(predict, column, width, threads)
        return pa.StructArray.from_arrays([_arrow(found[part]) for part in parts], parts)

    def by_pandas(column: pd.DataFrame | pd.Series) -> pd.DataFrame:
        found = _predictions(predict, _from_pandas(column), width, threads)
        lists = {part: found[part] if part == "label" else list(found[part]) for part in parts}
        return pd.DataFrame(lists)

    # Spark reads from the hints what a function takes.
    def of_vectors(column: pd.DataFrame) -> pd.DataFrame:
        return by_pandas(column)

    def of_arrays(column: pd.Series) -> pd.DataFrame:
        return by_pandas(column)

    if ARROW:
        return F.arrow_udf(compute, schema)
    return F.pandas_udf(of_vectors if vectors else of_arrays, schema)


def _predictions(
    predict: Callable[[np.ndarray], Prediction], column: pa.Array, width: int, threads: int
) -> dict[str, np.ndarray]:
    """Predict a batch of vectors or arrays."""
    pieces = _pieces(predict, column, width, threads)
    joined = [np.concatenate(part) for part in zip(*pieces, strict=True)]
    return Prediction(*joined)._asdict()


def _pieces(
    compute: Callable[[np.ndarray], Any], column: pa.Array, width: int, threads: int
) -> list[Any]:
    """Return what is computed of a batch of vectors or arrays, in pieces that stay in cache."""
    sparse = width > WIDE and pa.types.is_struct(column.type)
    step = WIDE_ROWS if sparse else max(1, PIECE_BYTES // (8 * width))
    # An empty batch is a piece, too: it says how many classes there are.
    starts = range(0, max(len(column), 1), step)
    with threadpool_limits(threads, "blas"):
        return [compute(_matrix(column.slice(start, step), width, sparse)) for start in starts]


def _arrow(values: np.ndarray) -> pa.Array:
    """Return labels, (rows,), as numbers, and scores, (rows, classes), as lists."""
    if values.ndim == 1:
        return pa.array(values)
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.ravel()))


def _from_pandas(column: pd.DataFrame | pd.Series) -> pa.Array:
    """Return arrays, or vectors as pandas columns of their structs' fields, as Arrow has them."""
    if isinstance(column, pd.Series):
        return pa.array(column, pa.list_(pa.float64()), from_pandas=False)
    fields = [
        pa.field("type", pa.int8()),
        pa.field("size", pa.int32()),
        pa.field("indices", pa.list_(pa.int32())),
        pa.field("values", pa.list_(pa.float64())),
    ]
    arrays = [
        pa.array(column[field.name], field.type, from_pandas=field.name != "values")
        for field in fields
    ]
    null = pa.array(column["values"].isna().to_numpy())
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=null)


def _matrix(column: pa.Array, width: int, sparse: bool) -> Any:
    """Return arrays, or vectors as structs, as (rows, width) float64, dense or CSR."""
    vectors = of_column(column, width, sparse)
    bad = vectors.null | vectors.wrong | vectors.broken
    if not bad.any():
        return vectors.features
    row = column[int(bad.argmax())].as_py()
    if row is None:
        found = "null"
    elif isinstance(row, dict):
        found = f"{len(row['values']) if row['type'] else row['size']} values wide"
    else:
        found = f"{len(row)} values wide"
    raise ValueError(f"a row's features are {found}; the model takes {width} values")
