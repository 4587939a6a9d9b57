"""Vectors as Spark has them, unpacked all at once: Arrow columns and Python objects.

Dense and sparse vectors may stand in one column. They become one float64 array, dense or in
compressed sparse rows; what is wrong with a row is told beside it, and its values are left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from sparknn.sparse import csr

__all__ = ["Vectors", "flags", "numbers", "of_column", "of_objects"]


class Vectors(NamedTuple):
    """Some rows' features.

    features: (rows, features) float array, dense or CSR. null: (rows,) whether there are none.
    wrong: of another width. broken: sparse vectors whose indices are not ascending, from 0 on and
    below the width, or not as many as the values.
    """

    features: Any
    null: np.ndarray
    wrong: np.ndarray
    broken: np.ndarray

    @staticmethod
    def defect(width: int) -> str:
        """Return what is wrong with a broken vector, where `width` features are wanted."""
        return f"a sparse vector whose indices do not ascend from 0 to {width - 1}"


class _Stored(NamedTuple):
    """Rows as the values that they hold, all in one array, row after row.

    numbers: (values,). columns: (values,) where they stand. lengths: (rows,) values of each row.
    """

    numbers: np.ndarray
    columns: np.ndarray
    lengths: np.ndarray

    def array(self, good: np.ndarray, width: int, sparse: bool) -> np.ndarray | csr_array:
        """Return the `good` rows' values, and no others, as (rows, width)."""
        kept = np.repeat(good, self.lengths)
        lengths = np.where(good, self.lengths, 0)
        numbers, columns = self.numbers[kept], self.columns[kept]
        if sparse:
            pointers = np.concatenate([[0], np.cumsum(lengths)])
            return csr(numbers, columns.astype(np.int32), pointers, width)
        rows = np.zeros((len(lengths), width))
        rows[np.repeat(np.arange(len(lengths)), lengths), columns] = numbers
        return rows


def flags(column: pa.Array) -> np.ndarray:
    """Return which elements of a column are null, (rows,) bool."""
    if not column.null_count:
        return np.zeros(len(column), bool)
    return column.is_null().to_numpy(zero_copy_only=False)


def numbers(column: pa.Array) -> np.ndarray:
    """Return a numeric column as (rows,) float64, NaN where null."""
    return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)


def mean_stored(objects: list) -> tuple[int, float, float]:
    """Return the width of vectors, their mean number of values that are not zero, and of bytes.

    Of Python objects; those that are no vectors do not count.
    """
    held = [_stored(each) for each in objects]
    sizes = [size for size, _, _ in held if size is not None]
    if not sizes:
        return 0, 0.0, 0.0
    stored = sum(len(values) for _, _, values in held) / len(sizes)
    return sizes[0], stored, 12 * stored


def of_column(column: pa.Array, width: int, sparse: bool) -> Vectors:
    """Unpack a column of vectors, as struct(type, size, indices, values), or of arrays.

    Arrays are dense whether `sparse` or not.
    """
    null = flags(column)
    if pa.types.is_struct(column.type):
        return _of_structs(column, null, width, sparse)
    lengths = _lengths(column)
    wrong = (lengths != width) & ~null
    # A null element would pass as an arbitrary number; as NaN it is found like any other.
    values = column.flatten().to_numpy(zero_copy_only=False)
    none = np.zeros(len(column), bool)
    if not (null.any() or wrong.any()):
        return Vectors(values.reshape(len(column), width), null, wrong, none)
    rows = np.zeros((len(lengths), width))
    good = ~null & ~wrong
    rows[good] = values[np.repeat(good, lengths)].reshape(np.count_nonzero(good), width)
    return Vectors(rows, null, wrong, none)


def _lengths(column: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)


def _of_structs(column: pa.StructArray, null: np.ndarray, width: int, sparse: bool) -> Vectors:
    kind, size, indices, values = column.flatten()
    dense = pc.fill_null(kind, 1).to_numpy(zero_copy_only=False) == 1
    lengths = _lengths(values)
    sizes = np.where(dense, lengths, pc.fill_null(size, 0).to_numpy(zero_copy_only=False))
    wrong = (sizes != width) & ~null
    stored = values.flatten().to_numpy(zero_copy_only=False)
    if not sparse and dense.all() and not (null.any() or wrong.any()):
        rows = stored.reshape(len(column), width)
        return Vectors(rows, null, wrong, np.zeros(len(column), bool))
    counts = np.where(dense, 0, _lengths(indices))
    broken = ~null & ~dense & (counts != lengths)
    columns = _runs(lengths)
    paired = np.repeat(~dense & ~broken, lengths)
    given = pc.fill_null(indices.flatten(), -1).to_numpy(zero_copy_only=False)
    columns[paired] = given[np.repeat(~dense & ~broken, _lengths(indices))]
    held = _Stored(stored, columns, lengths)
    broken |= _disordered(held, width) & ~null & ~wrong
    if sparse:
        held = _without_zeros(held, dense)
    return Vectors(held.array(~null & ~wrong & ~broken, width, sparse), null, wrong, broken)


def _runs(lengths: np.ndarray) -> np.ndarray:
    """Return 0, 1, 2, … up to each of `lengths`, joined."""
    return np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _disordered(held: _Stored, width: int) -> np.ndarray:
    """Return which rows' columns do not ascend from 0 on and below `width`, (rows,) bool."""
    columns = held.columns
    odd = (columns < 0) | (columns >= width)
    row = np.repeat(np.arange(len(held.lengths)), held.lengths)
    odd[1:] |= (columns[1:] <= columns[:-1]) & (row[1:] == row[:-1])
    return np.bincount(row[odd], minlength=len(held.lengths)) > 0


def _without_zeros(held: _Stored, dense: np.ndarray) -> _Stored:
    """Return the rows without the zeros of those that were `dense`."""
    if not dense.any():
        return held
    kept = (held.numbers != 0) | np.repeat(~dense, held.lengths)
    row = np.repeat(np.arange(len(dense)), held.lengths)[kept]
    lengths = np.bincount(row, minlength=len(dense))
    return _Stored(held.numbers[kept], held.columns[kept], lengths)


def of_objects(objects: list, width: int | None, sparse: bool) -> tuple[Vectors, int | None]:
    """Unpack vectors, arrays and sequences of numbers; a width of None is the first one's."""
    if sparse:
        return _sparse_objects(objects, width)
    held = [_dense(each) for each in objects]
    if width is None:
        width = next((len(values) for values in held if values is not None), None)
    null = np.array([values is None for values in held], bool)
    wrong = np.array([v is not None and len(v) != width for v in held], bool)
    features = np.zeros((len(objects), width or 0))
    for index in np.flatnonzero(~(null | wrong)):
        features[index] = held[index]
    return Vectors(features, null, wrong, np.zeros(len(objects), bool)), width


def _sparse_objects(objects: list, width: int | None) -> tuple[Vectors, int | None]:
    held = [_stored(each) for each in objects]
    if width is None:
        width = next((size for size, _, _ in held if size is not None), None)
    null = np.array([size is None for size, _, _ in held], bool)
    wrong = np.array([size is not None and size != width for size, _, _ in held], bool)
    broken = np.array([len(columns) != len(values) for _, columns, values in held], bool)
    nothing = np.empty(0, np.int64), np.empty(0)
    parts = [nothing if odd else each[1:] for each, odd in zip(held, null | broken, strict=True)]
    stored = _Stored(
        np.concatenate([values for _, values in parts]),
        np.concatenate([columns for columns, _ in parts]),
        np.array([len(values) for _, values in parts], np.int64),
    )
    broken = (broken | _disordered(stored, width or 0)) & ~null & ~wrong
    features = stored.array(~(null | wrong | broken), width or 0, sparse=True)
    return Vectors(features, null, wrong, broken), width


def _stored(vector) -> tuple[int | None, np.ndarray, np.ndarray]:
    """Return a vector's size, the columns it sets, and their values; no size where it is none."""
    if all(hasattr(vector, name) for name in ("size", "indices", "values")):
        values = np.asarray(vector.values, np.float64)
        return int(vector.size), np.asarray(vector.indices, np.int64), values
    whole = _dense(vector)
    if whole is None:
        return None, np.empty(0, np.int64), np.empty(0)
    columns = np.flatnonzero(whole)
    return len(whole), columns, whole[columns]


def _dense(vector) -> np.ndarray | None:
    """Return a vector, array or sequence of numbers as (features,) float64, else None."""
    dense = vector.toArray() if hasattr(vector, "toArray") else vector
    if isinstance(dense, (str, bytes)) or dense is None:
        return None
    try:
        return np.asarray(dense, np.float64).ravel()
    except (TypeError, ValueError):
        return None
