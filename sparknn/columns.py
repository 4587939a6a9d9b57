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

from sparknn.blas import blas_threads
from sparknn.cluster import Cluster
from sparknn.schema import column_type, feature_columns
from sparknn.vectors import of_column
from sparknn.workers import spare_collector

__all__ = ["Output", "with_column", "with_predictions"]

ARROW = hasattr(F, "arrow_udf")
"""Whether Spark has functions of Arrow arrays, as from 4.1; through pandas rows are objects."""

WIDE, WIDE_ROWS = 4096, 256
"""Features above which vectors stay as they are stored: few of so many are set, as a rule."""

PIECE_ROWS, PIECE_BYTES = 2048, 2**24
"""Most rows, and bytes of features, at a time: a batch of Arrow's may be many more.

Matrix products are slow on few rows, whose every piece has the weights arranged anew for it.
"""


Predict = Callable[[np.ndarray], Any]
"""From (rows, width) float64 to a named tuple of (rows,) and (rows, values) float64 arrays."""


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
    for output in wanted:
        if output.name in dataset.columns:
            raise ValueError(f"the output column {output.name!r} exists already")
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


class _Computed(NamedTuple):
    """One column's values, as `Predict` gives several's."""

    value: np.ndarray


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

    def computed(values: np.ndarray) -> _Computed:
        return _Computed(np.asarray(compute(values), np.float64))

    return with_predictions(dataset, features, width, computed, [Output("value", output, size)])


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
        found = _predictions(predict, column, width, threads)
        return pa.StructArray.from_arrays([_arrow(found[part]) for part in parts], parts)

    def by_pandas(column: pd.DataFrame | pd.Series) -> pd.DataFrame:
        found = _predictions(predict, _from_pandas(column), width, threads)
        lists = {part: _series(found[part]) for part in parts}
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
    predict: Predict, column: pa.Array, width: int, threads: int
) -> dict[str, np.ndarray]:
    """Predict a batch of vectors or arrays, piece by piece."""
    sparse = width > WIDE and pa.types.is_struct(column.type)
    step = WIDE_ROWS if sparse else min(PIECE_ROWS, max(1, PIECE_BYTES // (8 * width)))
    # An empty batch is a piece, too: it says how wide the predictions are.
    starts = range(0, max(len(column), 1), step)
    with blas_threads(threads):
        pieces = [predict(_matrix(column.slice(start, step), width, sparse)) for start in starts]
    spare_collector()
    joined = [np.concatenate(part) for part in zip(*pieces, strict=True)]
    return dict(zip(pieces[0]._fields, joined, strict=True))


def _series(values: np.ndarray) -> Any:
    """Return numbers, (rows,), as they are, and (rows, values) as a list of arrays."""
    return values if values.ndim == 1 else list(values)


def _arrow(values: np.ndarray) -> pa.Array:
    """Return (rows,) as numbers, and (rows, values) as lists."""
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
