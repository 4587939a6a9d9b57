"""From Arrow batches or Python objects to checked NumPy rows.

Rows arrive as Spark has them: dense and sparse vectors, arrays, single columns, pairs of label
and features. They leave as windows of float64 arrays in which every value is finite and every
label in range. What is not is counted, with the first such row, and never raised here: an
exception in a task would be retried four times and reach the user as a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Faults", "Layout", "Parser", "Table", "dense_rows"]

WINDOW_BYTES = 4 * 2**20
MOST_CLASSES = 2**20
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Layout:
    """What the columns of a batch are.

    features: the column's name (or names joined), for messages.
    columns: how many single numeric columns hold the features; 0 where one column does.
    targets: names of the target columns; empty where there are none.
    classes: None where targets are values; else labels are whole numbers below this, or, at 0,
        below any sensible bound.
    weight: name of the weight column, or None.
    width: the number of features that rows must have; None takes the first row's of a partition.
    standard: what gave the width, with a verb, for messages.
    skip: leave invalid rows out instead of reporting them as an error.
    names: of the single features, for messages, where they are known.
    """

    features: str = "features"
    columns: int = 0
    targets: tuple[str, ...] = ()
    classes: int | None = None
    weight: str | None = None
    width: int | None = None
    standard: str = "the model's input is"
    skip: bool = False
    names: tuple[str, ...] = ()


@dataclass
class Faults:
    """Invalid rows by column and reason: how many, and the first one's position and value."""

    entries: dict[tuple[str, str], tuple[int, int, str]] = field(default_factory=dict)

    def note(
        self,
        column: str,
        reason: str,
        bad: np.ndarray,
        start: int,
        values: np.ndarray | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        """Count the rows in which `bad` is set; the first of all has position `start`.

        values: (rows,) or (rows, features), of which the invalid one stands in the message.
        """
        count = int(np.count_nonzero(bad))
        if not count:
            return
        first = int(np.argmax(bad))
        seen, position, example = self.entries.get((column, reason), (0, 0, ""))
        if not seen:
            position = start + first
            example = "" if values is None else _example(values[first], names)
        self.entries[column, reason] = (seen + count, position, example)


def _example(value, names: tuple[str, ...]) -> str:
    """Return a value as it stands in a message; of a row of features the first invalid one."""
    if not np.ndim(value):
        return f"{value:g}"
    index = int(np.argmax(~(np.abs(value) <= LARGEST)))
    return f"{value[index]:g} " + (f"in {names[index]!r}" if names else f"at index {index}")


@dataclass
class Table:
    """Some rows before they are checked.

    features: (rows, features) float array; rows of another width hold zeros.
    targets: (rows, targets) float64; weights: (rows,) float64 or None.
    null: rows whose features are null; wrong: rows of another width; missing: per target column
        and for the weights, rows where it is null.
    null_reason: what else than null the rows in `null` may be.
    """

    features: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None
    null: np.ndarray
    wrong: np.ndarray
    missing: dict[str, np.ndarray]
    null_reason: str = "null"


class Parser:
    """Turns batches into windows of valid rows, counting what it leaves out.

    A window is (positions, rows): the rows' places in the partition, (rows,) int64, and their
    features, targets and weight side by side, (rows, columns) of `dtype`.

    seen: rows met so far; kept: rows passed on; faults: why the others were not.
    """

    def __init__(self, layout: Layout, dtype: type = np.float32):
        self.layout = layout
        self.dtype = dtype
        self.width = layout.width
        self.faults = Faults()
        self.seen = 0
        self.kept = 0

    def batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the windows of Arrow batches of features, targets and weight columns."""
        for batch in batches:
            for window in self._windows(batch):
                table = self._table(window)
                yield from self._checked(table)

    def objects(self, pairs: Iterable, labelled: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the windows of (label, features) pairs or LabeledPoints.

        Where not `labelled`, the objects are the features alone.
        """
        window: list = []
        for pair in pairs:
            window.append(pair)
            if len(window) * (self.width or 1) * 8 >= WINDOW_BYTES or len(window) >= 4096:
                yield from self._checked(self._object_table(window, labelled))
                window = []
        if window:
            yield from self._checked(self._object_table(window, labelled))

    def _windows(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Cut a batch so that its rows, made dense, stay small."""
        if self.width is None:
            self.width = self._first_width(batch)
        rows = max(1, WINDOW_BYTES // (8 * max(self.width or 1, 1)))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)

    def _first_width(self, batch: pa.RecordBatch) -> int | None:
        """Return the features of the first row that has any."""
        if self.layout.columns:
            return self.layout.columns
        column = batch.column(0).drop_null()
        if not len(column):
            return None
        first = column[0].as_py()
        if isinstance(first, dict):
            return len(first["values"]) if first["type"] == 1 else first["size"]
        return len(first)

    def _table(self, batch: pa.RecordBatch) -> Table:
        """Unpack an Arrow batch whose columns are features, targets and weight, in that order."""
        layout = self.layout
        single = layout.columns or 1
        missing: dict[str, np.ndarray] = {}
        if layout.columns:
            parts = [batch.column(index) for index in range(single)]
            features = np.stack([_numbers(part) for part in parts], axis=1)
            null = np.logical_or.reduce([_nulls(part) for part in parts])
            wrong = np.full(len(null), single != self.width)
        else:
            features, null, wrong = dense_rows(batch.column(0), self.width or 0)
        targets = np.empty((batch.num_rows, len(layout.targets)))
        for index, name in enumerate(layout.targets):
            column = batch.column(single + index)
            targets[:, index] = _numbers(column)
            missing[name] = _nulls(column)
        weights = None
        if layout.weight is not None:
            column = batch.column(single + len(layout.targets))
            weights = _numbers(column)
            missing[layout.weight] = _nulls(column)
        return Table(features, targets, weights, null, wrong, missing)

    def _object_table(self, objects: list, labelled: bool) -> Table:
        """Unpack Python objects: pairs, LabeledPoints, vectors, sequences."""
        labels, vectors = [], []
        for item in objects:
            label, vector = _pair(item) if labelled else (0.0, item)
            labels.append(self._numbers_of(label))
            vectors.append(_dense(vector))
        if self.width is None:
            self.width = next((len(vector) for vector in vectors if vector is not None), None)
        rows, width = len(objects), self.width or 0
        null = np.fromiter((vector is None for vector in vectors), bool, rows)
        wrong = np.fromiter((v is not None and len(v) != width for v in vectors), bool, rows)
        features = np.zeros((rows, width))
        for index in np.flatnonzero(~(null | wrong)):
            features[index] = vectors[index]
        targets = np.array(labels, np.float64).reshape(rows, -1)
        what = "no pairs of label and features" if labelled else "no features"
        return Table(features, targets, None, null, wrong, {}, f"null, or {what}")

    def _numbers_of(self, label) -> np.ndarray:
        """Return an object's label as a number for each target, NaN where it is none such."""
        count = len(self.layout.targets)
        try:
            numbers = np.ravel(np.nan if label is None else label).astype(np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        return numbers if len(numbers) == count else np.full(count, np.nan)

    def _checked(self, table: Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the valid rows of `table` as one window, or nothing where there are none."""
        count, width = table.features.shape
        rows = np.empty(
            (count, width + table.targets.shape[1] + (table.weights is not None)), self.dtype
        )
        with np.errstate(over="ignore"):
            rows[:, :width] = table.features
            rows[:, width : width + table.targets.shape[1]] = table.targets
            if table.weights is not None:
                rows[:, -1] = table.weights
        start, self.seen = self.seen, self.seen + count
        bad = self._bad_features(table, start)
        bad |= self._bad_targets(table, start)
        bad |= self._bad_weights(table, start)
        positions = np.arange(start, start + count)
        if bad.any():
            rows, positions = rows[~bad], positions[~bad]
        self.kept += len(rows)
        if len(rows):
            yield positions, rows

    def _bad_features(self, table: Table, start: int) -> np.ndarray:
        layout, features = self.layout, table.features
        self.faults.note(layout.features, table.null_reason, table.null, start)
        standard = "the others are" if layout.width is None else layout.standard
        reason = f"not {self.width} values wide, as {standard}"
        self.faults.note(layout.features, reason, table.wrong, start)
        bad = table.null | table.wrong
        # The extremes show whether any value is NaN or too large; only then is each looked at.
        extremes = np.array([features.min(initial=0), features.max(initial=0)])
        if not (np.abs(extremes) <= LARGEST).all():
            odd = ~(np.abs(features) <= LARGEST).all(axis=1) & ~bad
            reason = "NaN, infinite or beyond 32-bit floats"
            self.faults.note(layout.features, reason, odd, start, features, layout.names)
            bad = bad | odd
        return bad

    def _bad_targets(self, table: Table, start: int) -> np.ndarray:
        layout = self.layout
        bad = np.zeros(len(table.null), bool)
        for index, name in enumerate(layout.targets):
            values = table.targets[:, index]
            null = table.missing.get(name, np.zeros(len(values), bool))
            self.faults.note(name, "null", null, start)
            odd = ~(np.abs(values) <= LARGEST) & ~null
            self.faults.note(name, "NaN, infinite or beyond 32-bit floats", odd, start, values)
            bad |= null | odd
            if layout.classes is not None:
                wrong = ~bad & ((values < 0) | (values != np.floor(values)))
                self.faults.note(name, "no class label 0, 1, 2, …", wrong, start, values)
                most = layout.classes or MOST_CLASSES
                high = ~bad & ~wrong & (values >= most)
                reason = f"a label above {most - 1}, the last class of the model's outputs"
                self.faults.note(name, reason, high, start, values)
                bad |= wrong | high
        return bad

    def _bad_weights(self, table: Table, start: int) -> np.ndarray:
        if table.weights is None or self.layout.weight is None:
            return np.zeros(len(table.null), bool)
        name, weights = self.layout.weight, table.weights
        null = table.missing[name]
        odd = ~null & ~((weights <= LARGEST) & (weights >= 0))
        self.faults.note(name, "null", null, start)
        self.faults.note(name, "negative, NaN or infinite", odd, start, weights)
        return null | odd


def _nulls(column: pa.Array) -> np.ndarray:
    if not column.null_count:
        return np.zeros(len(column), bool)
    return column.is_null().to_numpy(zero_copy_only=False)


def _numbers(column: pa.Array) -> np.ndarray:
    """Return a numeric column as (rows,) float64, NaN where null."""
    return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)


def dense_rows(column: pa.Array, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a column of vectors or arrays as (rows, width) floats, with its null and odd rows."""
    null = _nulls(column)
    if pa.types.is_struct(column.type):
        return _unwrapped_vectors(column, null, width)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    wrong = (lengths != width) & ~null
    values = column.flatten()
    # A null element would pass as an arbitrary number; as NaN it is found like any other.
    numbers = values.to_numpy(zero_copy_only=False)
    if not (null.any() or wrong.any()):
        return numbers.reshape(len(column), width), null, wrong
    return _scatter(numbers, lengths, ~null & ~wrong, width), null, wrong


def _unwrapped_vectors(
    column: pa.StructArray, null: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Spark's vectors, as struct(type, size, indices, values), as dense rows."""
    kind, size, indices, values = column.flatten()
    dense = pc.fill_null(kind, 1).to_numpy(zero_copy_only=False) == 1
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    sizes = np.where(dense, lengths, pc.fill_null(size, 0).to_numpy(zero_copy_only=False))
    wrong = (sizes != width) & ~null
    numbers = values.flatten().to_numpy(zero_copy_only=False)
    if dense.all() and not (null.any() or wrong.any()):
        return numbers.reshape(len(column), width), null, wrong
    good = ~null & ~wrong
    rows = _scatter(numbers, lengths, good & dense, width)
    sparse = good & ~dense
    taken = np.repeat(sparse, lengths)
    places = np.zeros(len(numbers), np.int64)
    places[np.repeat(~dense & ~null, lengths)] = indices.flatten().to_numpy(zero_copy_only=False)
    row_of = np.repeat(np.arange(len(column)), lengths)
    rows[row_of[taken], places[taken]] = numbers[taken]
    return rows, null, wrong


def _scatter(numbers: np.ndarray, lengths: np.ndarray, good: np.ndarray, width: int) -> np.ndarray:
    """Return (rows, width) zeros with the `good` rows' values, which stand one after another."""
    rows = np.zeros((len(lengths), width))
    rows[good] = numbers[np.repeat(good, lengths)].reshape(np.count_nonzero(good), width)
    return rows


def _pair(item) -> tuple:
    """Return label and features of a (label, features) pair or a LabeledPoint, else two None."""
    if hasattr(item, "label") and hasattr(item, "features"):
        return item.label, item.features
    try:
        label, features = item
    except (TypeError, ValueError):
        return None, None
    return label, features


def _dense(vector) -> np.ndarray | None:
    """Return a vector, array or sequence of numbers as (features,) float64, else None."""
    dense = vector.toArray() if hasattr(vector, "toArray") else vector
    if isinstance(dense, (str, bytes)) or dense is None:
        return None
    try:
        return np.asarray(dense, np.float64).ravel()
    except (TypeError, ValueError):
        return None
