"""Text that is numbers and nothing else, read straight into blocks.

Nothing of it passes through the JVM as columns, of which some hundred cost more than the parsing.
What is not sure here (a quote, a word, an empty cell, a line of another width) is left to the
ordinary way, whole (see text_tables.py), so that rows count alike on both. All of this is done in
tasks, and needs no Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sparknn.cli.column_kinds import EXACT, Column
from sparknn.cli.decimals import numbers
from sparknn.cli.lines import BOM, Dialect, parse, typed
from sparknn.cli.text_batches import runs
from sparknn.rows import LOOKED_AT

__all__ = ["Facts", "Places", "Range", "Texts", "opened", "rows_of", "sent"]

CHUNK_BYTES = 2**20
"""Of lines that come together; what Arrow likes."""

PIECE_BYTES = 2**17
"""Of lines that are taken apart together, while all of them stay in a core's cache."""

MOST_LABELS = 10_000
"""Different labels, above which the ordinary way is to say what is wrong."""


class NotPlainError(Exception):
    """There is something in a text that is not sure to be a number."""


Texts = Callable[[Iterable[pa.RecordBatch]], Iterator[bytes]]
"""From a partition's batches to whole lines, each with a line feed, without the files' headers."""


class Places(NamedTuple):
    """Which of a line's cells are used: features, and what stands beside them, the label first.

    classes: whether labels are to be told apart.
    """

    features: list[int]
    others: list[int]
    classes: bool


class Range(NamedTuple):
    """The lines of a file that begin in a range of its bytes."""

    path: str
    start: int
    length: int


@dataclass
class Facts:
    """What there is in some lines of numbers.

    fractional: (columns,) which hold more than whole numbers. negative_zero: (columns,) which hold
    -0, which is 0 in a column of whole numbers. rows, blank: lines that are rows, and that hold
    nothing. largest: of the absolute values that are not written in a few digits. labels: the
    different ones. stored: how many features are not 0, in each of the first rows. doubt: what is
    not plain.
    """

    fractional: np.ndarray
    negative_zero: np.ndarray
    rows: int = 0
    blank: int = 0
    largest: float = 0.0
    labels: set[float] = field(default_factory=set)
    stored: list[int] = field(default_factory=list)
    doubt: str = ""

    def add(self, other: Facts) -> Facts:
        """Add what is in the lines that follow, and return all."""
        self.fractional = self.fractional | other.fractional
        self.negative_zero = self.negative_zero | other.negative_zero
        self.rows += other.rows
        self.blank += other.blank
        self.largest = max(self.largest, other.largest)
        self.labels |= other.labels
        self.stored += other.stored[: LOOKED_AT - len(self.stored)]
        self.doubt = self.doubt or other.doubt
        return self

    def note(self, blank: int, rows: np.ndarray, places: Places) -> None:
        """Add blank lines, and rows, (rows, columns)."""
        self.blank += blank
        self.rows += len(rows)
        if not len(rows):
            return
        if rows.dtype.kind == "f":
            size = np.abs(rows)
            self.fractional |= ((np.floor(rows) != rows) | (size > EXACT)).any(axis=0)
            self.negative_zero |= ((rows == 0) & np.signbit(rows)).any(axis=0)
            self.largest = max(self.largest, float(size.max()))
        if len(self.stored) < LOOKED_AT:
            first = _chosen(rows[: LOOKED_AT - len(self.stored)], places.features)
            self.stored += np.count_nonzero(first, axis=1).tolist()
        if places.classes:
            self.labels |= set(np.unique(rows[:, places.others[0]]).tolist())
            if len(self.labels) > MOST_LABELS:
                raise NotPlainError("too many labels")


def rows_of(
    batches: Iterable[pa.RecordBatch],
    notes: list[Facts],
    texts: Texts,
    dialect: Dialect,
    columns: Sequence[Column],
    places: Places,
    strict: bool,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a partition's features and the numbers beside them, as `readers.Read` has it.

    What there is in all lines is noted at the end. strict: raise at the first doubt, which is the
    end of the rows otherwise, and noted.
    """
    facts = Facts(*np.zeros((2, len(columns)), bool))
    batches = iter(batches)
    try:
        for text in texts(batches):
            for blank, rows in _pieces(text, dialect, columns):
                facts.note(blank, rows, places)
                if len(rows):
                    yield _chosen(rows, places.features), _chosen(rows, places.others)
    except (NotPlainError, OSError) as error:
        if strict:
            raise
        facts.doubt = str(error)
    # A task that does not read all it is given costs its worker.
    for _ in batches:
        pass
    notes.append(facts)


def opened(
    batches: Iterable[pa.RecordBatch], ranges: list[list[Range]], dialect: Dialect
) -> Iterator[bytes]:
    """Read the ranges whose numbers a partition is given."""
    for batch in batches:
        for number in batch.column(0).to_pylist():
            for each in ranges[number]:
                for place, text in enumerate(_in_range(each)):
                    yield _plain_lines(text, dialect, not (each.start or place))


def _in_range(wanted: Range) -> Iterator[bytes]:
    """Read the lines that belong to a range by Hadoop's rule, on which Spark's reader stands.

    They are those that begin behind the range's first byte, or in a file's first one, and no
    further than at the byte that follows the range.
    """
    end = wanted.start + wanted.length
    with open(wanted.path, "rb") as file:
        if wanted.start:
            file.seek(wanted.start)
            file.readline()
        at, rest = file.tell(), b""
        if at > end:
            return
        while at < end:
            block = file.read(min(CHUNK_BYTES, end - at))
            if not block:
                break
            at += len(block)
            cut = block.rfind(b"\n") + 1
            if cut:
                yield rest + block[:cut]
                rest = b""
            rest += block[cut:]
        rest += file.readline()
        if rest:
            yield rest if rest.endswith(b"\n") else rest + b"\n"


def sent(batches: Iterable[pa.RecordBatch], dialect: Dialect) -> Iterator[bytes]:
    """Join the lines that Spark's text reader has sent."""
    seen: set[tuple[str, int]] = set()
    for batch in batches:
        for key, lines in runs(batch):
            first = key[1] == 0 and key not in seen
            seen.add(key)
            yield _plain_lines(b"\n".join(lines) + b"\n", dialect, first)


def _plain_lines(text: bytes, dialect: Dialect, first: bool) -> bytes:
    """Return lines that end in line feeds alone; first: without what a file may begin with."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if b"\r" in text:
        raise NotPlainError("a carriage return within a line")
    if first:
        text = text.removeprefix(BOM)
        if dialect.header:
            return _without_names(text)
    return text


def _without_names(text: bytes) -> bytes:
    """Return lines without the first that holds something, which is a header."""
    at = len(text) - len(text.lstrip())
    if at == len(text):
        raise NotPlainError("no header in the first lines")
    return text[: text.rfind(b"\n", 0, at) + 1] + text[text.index(b"\n", at) + 1 :]


def _pieces(
    text: bytes, dialect: Dialect, columns: Sequence[Column]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the blank lines and the rows of pieces of a text; raise NotPlainError."""
    for start, stop in _cuts(text):
        rows = numbers(_bytes(text, start, stop), len(columns), dialect.delimiter)
        if rows is None:
            yield _by_lines(text[start:], dialect, columns)
            return
        yield 0, rows


def _cuts(text: bytes) -> Iterator[tuple[int, int]]:
    """Cut a text into runs of whole lines, of PIECE_BYTES or of one line."""
    start = 0
    while start < len(text):
        stop = text.rfind(b"\n", start, start + PIECE_BYTES) + 1
        stop = stop or text.index(b"\n", start) + 1
        yield start, stop
        start = stop


def _bytes(text: bytes, start: int, stop: int) -> np.ndarray:
    return np.frombuffer(text, np.uint8, stop - start, start)


def _by_lines(text: bytes, dialect: Dialect, columns: Sequence[Column]) -> tuple[int, np.ndarray]:
    """Take lines apart as the ordinary way does: their blank ones, and rows of float64."""
    if b'"' in text:
        raise NotPlainError("a quote")
    # No line has the number 1, which a header has.
    parsed = parse(
        text.removesuffix(b"\n").split(b"\n"), 2, replace(dialect, header=False), columns
    )
    good = typed(parsed, columns)
    if good.faults:
        raise NotPlainError(good.faults[0].reason)
    if any(values.null_count for values in good.columns):
        raise NotPlainError("an empty cell")
    if not good.lines:
        return parsed.blank, np.empty((0, len(columns)))
    return parsed.blank, np.stack([values.to_numpy() for values in good.columns], axis=1)


def _chosen(rows: np.ndarray, places: list[int]) -> np.ndarray:
    """Return some columns, copied in runs of neighbours: one by one they take longer to copy."""
    if not places:
        return rows[:, :0]
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    parts = [rows[:, run[0] : run[-1] + 1] for run in np.split(np.array(places), breaks)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
