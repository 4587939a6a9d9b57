"""From Arrow batches or Python objects to checked NumPy rows.

Rows arrive as Spark has them: dense and sparse vectors, arrays, single columns, pairs of label
and features. They leave as windows of float64 arrays in which every value is finite and every
label in range. What is not is counted, with the first such row, and never raised here: an
exception in a task would be retried four times and reach the user as a traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array, issparse

from sparknn.sparse import SparseRows, cast
from sparknn.vectors import Vectors, flags, numbers, of_column, of_objects

__all__ = [
    "LOOKED_AT",
    "WIDEST",
    "Faults",
    "Layout",
    "Parser",
    "Table",
    "Window",
    "better_sparse",
    "pair",
]

Window = tuple[np.ndarray, np.ndarray | SparseRows]
"""Positions in the partition, (rows,) int64, and the valid rows that stand there."""

WIDEST = 2**21
"""Features that a dense row may have: tasks hold 64 such rows at a time, in float64."""

MOST_STORED, NARROW = 0.05, 64
"""Up to which share of values set, and from which width on, products of sparse rows are faster.

Measured: as fast as dense float32 ones at 10 % of values set with up to ten units, at 4 to 8 % with
300, in float64 at 20 %. Narrow rows have little to gain, and dense ones keep large columns'
precision by an offset.
"""

WINDOW_BYTES = 4 * 2**20
MOST_CLASSES = 2**20
LOOKED_AT = 200
"""Rows that show whether vectors are sparse."""

LARGEST = float(np.finfo(np.float32).max)


def better_sparse(width: int, stored: float) -> bool:
    """Return whether vectors of `width` with a mean of `stored` values are kept sparse."""
    return width > WIDEST or (width >= NARROW and stored < MOST_STORED * width)


@dataclass(frozen=True)
class Layout:
    """What the columns of a batch are.

    features: the column's name (or names joined), for messages.
    columns: how many single numeric columns hold the features; 0 where one column does.
    targets: names of the target columns; empty where there are none.
    nullable: whether a target that is null is no fault; it is stored as NaN then.
    classes: None where targets are values; else labels are whole numbers below this, or, at 0,
        below any sensible bound.
    weight: name of the weight column, or None.
    width: the number of features that rows must have; None takes the first row's of a partition.
    standard: what gave the width, with a verb, for messages.
    skip: leave invalid rows out instead of reporting them as an error.
    names: of the single features, for messages, where they are known.
    sparse: keep rows as what they store of a column of vectors, dense and sparse ones alike.
    row_bytes: of a mean row on its way from the JVM, where its width does not tell; else 0.
    bounds: the lowest and the highest value that a feature may have, or None.
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
    sparse: bool = False
    row_bytes: int = 0
    nullable: bool = False
    bounds: tuple[float, float] | None = None


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
        values: np.ndarray | csr_array | None = None,
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
    if issparse(value):
        value = value.toarray().ravel()
    if not np.ndim(value):
        return f"{value:g}"
    index = int(np.argmax(~(np.abs(value) <= LARGEST)))
    return f"{value[index]:g} " + (f"in {names[index]!r}" if names else f"at index {index}")


@dataclass
class Table:
    """Some rows before they are checked.

    vectors: the features; rows that are null, of another width or broken hold zeros.
    targets: (rows, targets) float64; weights: (rows,) float64 or None.
    missing: per target column and for the weights, rows where it is null.
    null_reason: what else than null the features may be.
    """

    vectors: Vectors
    targets: np.ndarray
    weights: np.ndarray | None
    missing: dict[str, np.ndarray]
    null_reason: str = "null"


class Parser:
    """Turns batches into windows of valid rows, counting what it leaves out.

    A window is (positions, rows): the rows' places in the partition, (rows,) int64, and their
    features, targets and weight side by side, (rows, columns) of `dtype`; or, of a sparse layout,
    `SparseRows`.

    seen: rows met so far; kept: rows passed on; faults: why the others were not. notes: what
    those that read the rows have to say of them.
    """

    def __init__(self, layout: Layout, dtype: type = np.float32):
        self.layout = layout
        self.dtype = dtype
        self.width = layout.width
        self.faults = Faults()
        self.seen = 0
        self.kept = 0
        self.notes: list[Any] = []

    def batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Window]:
        """Yield the windows of Arrow batches of features, targets and weight columns."""
        for batch in batches:
            for window in self._windows(batch):
                table = self._table(window)
                yield from self._checked(table)

    def matrices(
        self, parts: Iterable[tuple[np.ndarray, np.ndarray]], together: int
    ) -> Iterator[Window]:
        """Yield the windows of dense features, with targets and weights beside them, none null.

        Cut as batches of `together` rows are, however many the parts hold: offsets and sums, and
        so the bits of a block, go by windows.
        """
        rows = max(1, WINDOW_BYTES // self._row_bytes)
        for features, others in _regrouped(parts, together):
            for start in range(0, len(features), rows):
                piece = slice(start, start + rows)
                yield from self._checked(self._matrix_table(features[piece], others[piece]))

    def objects(self, pairs: Iterable, labelled: bool) -> Iterator[Window]:
        """Yield the windows of (label, features) pairs or LabeledPoints.

        Where not `labelled`, the objects are the features alone.
        """
        window: list = []
        for pair in pairs:
            window.append(pair)
            if len(window) * self._row_bytes >= WINDOW_BYTES or len(window) >= 4096:
                yield from self._checked(self._object_table(window, labelled))
                window = []
        if window:
            yield from self._checked(self._object_table(window, labelled))

    def _windows(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Cut a batch so that its rows, made dense unless they stay sparse, stay small."""
        if self.width is None:
            self.width = self._first_width(batch)
        size = self._row_bytes
        if self.layout.sparse:
            size = batch.nbytes // max(batch.num_rows, 1)
        rows = max(1, WINDOW_BYTES // max(size, 1))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)

    @property
    def _row_bytes(self) -> int:
        return (self.layout.sparse and self.layout.row_bytes) or 8 * max(self.width or 1, 1)

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
            vectors = self._single_columns(batch)
        else:
            vectors = of_column(batch.column(0), self.width or 0, layout.sparse)
        targets = np.empty((batch.num_rows, len(layout.targets)))
        for index, name in enumerate(layout.targets):
            column = batch.column(single + index)
            targets[:, index] = numbers(column)
            missing[name] = flags(column)
        weights = None
        if layout.weight is not None:
            column = batch.column(single + len(layout.targets))
            weights = numbers(column)
            missing[layout.weight] = flags(column)
        return Table(vectors, targets, weights, missing)

    def _single_columns(self, batch: pa.RecordBatch) -> Vectors:
        """Unpack features that are a column each."""
        parts = [batch.column(index) for index in range(self.layout.columns)]
        null = np.logical_or.reduce([flags(part) for part in parts])
        wrong = np.full(len(null), len(parts) != self.width)
        features = np.stack([numbers(part) for part in parts], axis=1)
        return Vectors(features, null, wrong, np.zeros(len(null), bool))

    def _matrix_table(self, features: np.ndarray, others: np.ndarray) -> Table:
        """Name the columns of a window in which everything is a number."""
        layout, none = self.layout, np.zeros(len(features), bool)
        count = len(layout.targets)
        weights = None if layout.weight is None else others[:, count].astype(np.float64)
        names = [*layout.targets, *([] if layout.weight is None else [layout.weight])]
        return Table(
            Vectors(features, none, none, none),
            others[:, :count].astype(np.float64),
            weights,
            dict.fromkeys(names, none),
        )

    def _object_table(self, objects: list, labelled: bool) -> Table:
        """Unpack Python objects: pairs, LabeledPoints, vectors, sequences."""
        pairs = [pair(item) if labelled else (0.0, item) for item in objects]
        labels = [self._numbers_of(label) for label, _ in pairs]
        vectors, self.width = of_objects([v for _, v in pairs], self.width, self.layout.sparse)
        targets = np.array(labels, np.float64).reshape(len(objects), -1)
        what = "no pairs of label and features" if labelled else "no features"
        return Table(vectors, targets, None, {}, f"null, or {what}")

    def _numbers_of(self, label) -> np.ndarray:
        """Return an object's label as a number for each target, NaN where it is none such."""
        count = len(self.layout.targets)
        try:
            numbers = np.ravel(np.nan if label is None else label).astype(np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        return numbers if len(numbers) == count else np.full(count, np.nan)

    def _checked(self, table: Table) -> Iterator[Window]:
        """Yield the valid rows of `table` as one window, or nothing where there are none."""
        rows = self._stored(table)
        count = len(rows)
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

    def _stored(self, table: Table) -> np.ndarray | SparseRows:
        """Return a table's rows in the form in which they are stored."""
        features, targets = table.vectors.features, table.targets
        width = 0 if issparse(features) else features.shape[1]
        columns = width + targets.shape[1] + (table.weights is not None)
        rows = np.empty((len(targets), columns), self.dtype)
        with np.errstate(over="ignore"):
            rows[:, width : width + targets.shape[1]] = targets
            if table.weights is not None:
                rows[:, -1] = table.weights
            if issparse(features):
                return SparseRows(cast(features, self.dtype), rows)
            rows[:, :width] = features
        return rows

    def _bad_features(self, table: Table, start: int) -> np.ndarray:
        layout, (features, null, wrong, broken) = self.layout, table.vectors
        self.faults.note(layout.features, table.null_reason, null, start)
        standard = "the others are" if layout.width is None else layout.standard
        reason = f"not {self.width} values wide, as {standard}"
        self.faults.note(layout.features, reason, wrong, start)
        reason = Vectors.defect(self.width or 0)
        self.faults.note(layout.features, reason, broken, start)
        bad = null | wrong | broken
        values = features.data if issparse(features) else features
        # The extremes show whether any value is NaN or too large; only then is each looked at.
        extremes = np.array([values.min(initial=0), values.max(initial=0)])
        if not (np.abs(extremes) <= LARGEST).all():
            odd = _odd(features) & ~bad
            reason = "NaN, infinite or beyond 32-bit floats"
            self.faults.note(layout.features, reason, odd, start, features, layout.names)
            bad = bad | odd
        if layout.bounds is not None:
            low, high = layout.bounds
            if extremes[0] < low or extremes[1] > high:
                out = _in_rows(features, lambda values: (values < low) | (values > high)) & ~bad
                self.faults.note(layout.features, f"outside [{low:g}, {high:g}]", out, start)
                bad = bad | out
        return bad

    def _bad_targets(self, table: Table, start: int) -> np.ndarray:
        layout = self.layout
        bad = np.zeros(len(table.targets), bool)
        for index, name in enumerate(layout.targets):
            values = table.targets[:, index]
            null = table.missing.get(name, np.zeros(len(values), bool))
            if not layout.nullable:
                self.faults.note(name, "null", null, start)
                bad |= null
            odd = ~(np.abs(values) <= LARGEST) & ~null
            self.faults.note(name, "NaN, infinite or beyond 32-bit floats", odd, start, values)
            bad |= odd
            if layout.classes is not None:
                wrong = ~bad & ~null & ((values < 0) | (values != np.floor(values)))
                self.faults.note(name, "no class label 0, 1, 2, …", wrong, start, values)
                most = layout.classes or MOST_CLASSES
                high = ~bad & ~null & ~wrong & (values >= most)
                last = "last class of the model's outputs" if layout.classes else "highest there is"
                reason = f"a label above {most - 1}, the {last}"
                self.faults.note(name, reason, high, start, values)
                bad |= wrong | high
        return bad

    def _bad_weights(self, table: Table, start: int) -> np.ndarray:
        if table.weights is None or self.layout.weight is None:
            return np.zeros(len(table.targets), bool)
        name, weights = self.layout.weight, table.weights
        null = table.missing[name]
        odd = ~null & ~((weights <= LARGEST) & (weights >= 0))
        self.faults.note(name, "null", null, start)
        self.faults.note(name, "negative, NaN or infinite", odd, start, weights)
        return null | odd


def _regrouped(
    parts: Iterable[tuple[np.ndarray, np.ndarray]], rows: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield the same rows, so many at a time; the last ones may be fewer."""
    held: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part[0])
        while count >= rows:
            whole = [np.concatenate(each) for each in zip(*held, strict=True)]
            yield tuple(each[:rows] for each in whole)
            held, count = [(whole[0][rows:], whole[1][rows:])], count - rows
    if count:
        yield tuple(np.concatenate(each) for each in zip(*held, strict=True))


def _odd(features) -> np.ndarray:
    """Return which rows hold a value that no float32 holds, (rows,) bool."""
    return _in_rows(features, lambda values: ~(np.abs(values) <= LARGEST))


def _in_rows(features, wrong: Callable[[Any], Any]) -> np.ndarray:
    """Return which rows hold a value that is `wrong`, (rows,) bool; zero is not."""
    if not issparse(features):
        return wrong(features).any(axis=1)
    row = np.repeat(np.arange(features.shape[0]), np.diff(features.indptr))
    return np.bincount(row[wrong(features.data)], minlength=features.shape[0]) > 0


def pair(item) -> tuple:
    """Return label and features of a (label, features) pair or a LabeledPoint, else two None."""
    if hasattr(item, "label") and hasattr(item, "features"):
        return item.label, item.features
    try:
        label, features = item
    except (TypeError, ValueError):
        return None, None
    return label, features
