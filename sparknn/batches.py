"""A model's function on Spark's batches: what the tasks of `columns` do in Python workers.

Nothing here needs pyspark.ml, which takes a second to load in every new worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from sparknn.blas import blas_threads
from sparknn.vectors import of_column
from sparknn.workers import tidy

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Predict", "Single", "as_frame", "as_structs"]

WIDE, WIDE_ROWS = 4096, 256
"""Features above which vectors stay as they are stored: few of so many are set, as a rule."""

PIECE_ROWS, PIECE_BYTES = 2048, 2**24
"""Most rows, and bytes of features, at a time: a batch of Arrow's may be many more.

Matrix products are slow on few rows, whose every piece has the weights arranged anew for it.
"""

Predict = Callable[[np.ndarray], Any]
"""From (rows, width) float64 to a named tuple of (rows,) and (rows, values) float64 arrays."""


class Single(NamedTuple):
    """One column's values, as `Predict` gives several's."""

    value: np.ndarray


def as_structs(
    predict: Predict, column: pa.Array, parts: Sequence[str], width: int, threads: int
) -> pa.StructArray:
    """Return parts of the predictions for a batch of vectors or arrays, in Arrow's form."""
    found = _predictions(predict, column, width, threads)
    return pa.StructArray.from_arrays([_arrow(found[part]) for part in parts], list(parts))


def as_frame(
    predict: Predict,
    column: pd.DataFrame | pd.Series,
    parts: Sequence[str],
    width: int,
    threads: int,
) -> pd.DataFrame:
    """Return parts of the predictions for a batch of vectors or arrays, in pandas' form."""
    import pandas as pd

    found = _predictions(predict, _from_pandas(column), width, threads)
    return pd.DataFrame({part: _series(found[part]) for part in parts})


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
    tidy()
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
    if column.ndim == 1:
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
    elif vectors.broken[int(bad.argmax())]:
        found = vectors.defect(width)
    elif isinstance(row, dict):
        found = f"{len(row['values']) if row['type'] else row['size']} values wide"
    else:
        found = f"{len(row)} values wide"
    raise ValueError(f"a row's features are {found}; the model takes {width} values")
