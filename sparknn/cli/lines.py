"""From lines of text to columns, with what is wrong in a line beside it. No Spark here.

A batch without quotes is taken apart by Arrow; where there are quotes, or Arrow finds a fault, by
Python's csv module, so that rows count alike either way.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from sparknn.cli.column_kinds import (
    EXACT,
    INTEGER,
    NUMBER,
    NUMBERS,
    WORD,
    Column,
    is_number,
    numbers_of,
)

__all__ = ["Dialect", "Fault", "Parsed", "Typed", "parse", "parse_whole", "split_line", "typed"]

BOM = b"\xef\xbb\xbf"
ROWS = 4096
"""Rows of a whole file that are taken together."""

BLOCK_BYTES = 2**20
"""Of text that Arrow takes apart at a time: columns of larger ones are cache misses."""

NUMERAL = rb"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*$"
"""What a cell of numbers begins a batch with."""

QUOTED_BREAK = "a quoted line break: --multiline reads such rows"


@dataclass(frozen=True)
class Dialect:
    """How lines are written.

    names: of the columns. header: whether the first line that holds something is one of names.
    delimiter: one character; " " stands for any white space, and lines have no quotes then.
    nulls: what stands for a missing value beside an empty cell. multiline: rows may have quoted
    line breaks. skipped: a regular expression; lines in which it is found are left out.
    """

    names: tuple[str, ...]
    header: bool = True
    delimiter: str = ","
    nulls: tuple[str, ...] = ()
    multiline: bool = False
    skipped: str | None = None


class Fault(NamedTuple):
    """A line that is not as it should be: its number from 1, why, and its text."""

    line: int
    reason: str
    text: str


@dataclass
class Parsed:
    """Rows as columns of text or numbers, null where a cell is empty, with their lines' numbers.

    texts: the lines themselves. blank, matched: lines that hold nothing, and those left out on
    request. broken: whether a quoted cell goes on over the end of a line. headless: whether the
    line of names is still to come.
    """

    cells: list[pa.Array]
    lines: list[int]
    texts: list[bytes | str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    blank: int = 0
    matched: int = 0
    broken: bool = False
    headless: bool = False


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the cells of one line."""
    if delimiter == " ":
        return line.split()
    return next(csv.reader([line], delimiter=delimiter), [])


def parse(
    lines: Sequence[bytes],
    first: int,
    dialect: Dialect,
    columns: Sequence[Column] | None = None,
) -> Parsed:
    """Take lines apart, of which the first has the number `first` in its file.

    Where the dialect has a header, it is looked for in these lines.
    columns: what they are, where that is known; cells of numbers may come as such then. Else
    those that look like it do.
    """
    result = Parsed([], [], headless=dialect.header)
    kept: list[bytes] = []
    pattern = re.compile(dialect.skipped.encode()) if dialect.skipped else None
    for number, line in enumerate(lines, first):
        if number == 1:
            line = line.removeprefix(BOM)
        if result.headless and line.strip():
            result.headless = False
        elif result.headless or not line or (line.isspace() and dialect.delimiter != "\t"):
            result.blank += 1
        elif pattern and pattern.search(line):
            result.matched += 1
        else:
            kept.append(b" ".join(line.split()) if dialect.delimiter == " " else line)
            result.lines.append(number)
    text = b"\n".join(kept)
    quoted = b'"' in text and dialect.delimiter != " "
    cells = None
    if not quoted and b"\r" not in text:
        numeric = _numeric(kept, dialect, columns)
        cells = _by_arrow(text, dialect, numeric) if numeric else None
        if cells is None:
            cells = _by_arrow(text, dialect, set())
    if cells is not None:
        return replace(result, cells=cells, texts=list(kept))
    return _by_csv(kept, result, dialect)


def _numeric(
    lines: Sequence[bytes], dialect: Dialect, columns: Sequence[Column] | None
) -> set[int]:
    """Return the places of columns that seem to hold numbers and nothing else."""
    if columns is not None:
        return {i for i, column in enumerate(columns) if column.kind in (NUMBER, INTEGER)}
    if not lines:
        return set()
    cells = lines[0].split(dialect.delimiter.encode())
    pattern = re.compile(NUMERAL)
    return {i for i, cell in enumerate(cells) if pattern.match(cell)}


def _by_arrow(text: bytes, dialect: Dialect, numeric: set[int]) -> list[pa.Array] | None:
    """Return lines as columns, or None where a line is not as it should be.

    numeric: places of columns of numbers; the others are of text.
    """
    names = [str(index) for index in range(len(dialect.names))]
    if not text:
        return [pa.array([], pa.string()) for _ in names]
    longest = max(map(len, text.split(b"\n")))
    types = {name: pa.float64() if int(name) in numeric else pa.string() for name in names}
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(text),
            arrow_csv.ReadOptions(
                use_threads=False, column_names=names, block_size=max(BLOCK_BYTES, longest + 2)
            ),
            arrow_csv.ParseOptions(delimiter=dialect.delimiter, quote_char=False),
            arrow_csv.ConvertOptions(
                column_types=types,
                null_values=["", *dialect.nulls],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:
        return None
    cells = [_single(column) for column in table.columns]
    # Arrow takes nan and inf for numbers, which they are not in a table.
    if b"n" in text or b"N" in text:
        for place in numeric:
            if pc.all(pc.is_finite(cells[place])).as_py() is False:
                return None
    return cells


def _single(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _by_csv(kept: list[bytes], result: Parsed, dialect: Dialect) -> Parsed:
    """Take lines apart one after the other; a quote that stays open makes the batch broken."""
    csv.field_size_limit(sys.maxsize)
    rows, numbers = [], []
    texts: list[bytes | str] = []
    for line, number in zip(kept, result.lines, strict=True):
        try:
            text = line.decode()
            if dialect.delimiter == " ":
                records = [text.split(" ")]
            else:
                # A quote that stays open takes the second line for part of the same cell.
                records = list(csv.reader([text + "\n", "x"], delimiter=dialect.delimiter))
                result.broken |= len(records) == 1
        except (UnicodeDecodeError, csv.Error) as error:
            result.faults.append(Fault(number, _why(error), repr(line)))
            continue
        reason = _misfit(records[0], dialect)
        if reason:
            result.faults.append(Fault(number, reason, text))
        else:
            rows.append(records[0])
            numbers.append(number)
            texts.append(line)
    return replace(result, cells=_columns(rows, dialect), lines=numbers, texts=texts)


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error)


def _misfit(record: list[str], dialect: Dialect) -> str | None:
    wanted = len(dialect.names)
    if len(record) == wanted:
        return None
    return f"{len(record)} cell{'s' * (len(record) != 1)}, not {wanted}"


def _columns(rows: list[list[str]], dialect: Dialect) -> list[pa.Array]:
    missing = {"", *dialect.nulls}
    turned = zip(*rows) if rows else [()] * len(dialect.names)
    return [
        pa.array([None if cell in missing else cell for cell in column], pa.string())
        for column in turned
    ]


def parse_whole(content: bytes, dialect: Dialect) -> Iterator[Parsed]:
    """Take a whole file apart, whose quoted cells may hold line breaks."""
    csv.field_size_limit(sys.maxsize)
    pattern = re.compile(dialect.skipped) if dialect.skipped else None
    text = content.removeprefix(BOM).decode("utf-8", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter)
    result, rows = Parsed([], []), []
    headless, ended = dialect.header, 0
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            result.faults.append(Fault(reader.line_num, str(error), ""))
            ended = reader.line_num
            continue
        if record is None:
            break
        start, lines, ended = ended + 1, reader.line_num - ended, reader.line_num
        shown = dialect.delimiter.join(record)
        if headless and shown.strip():
            headless = False
            continue
        # A line of nothing but delimiters is a row whose cells are all missing.
        if (headless or len(record) <= 1) and not shown.strip():
            result.blank += 1
            continue
        if pattern and pattern.search(shown):
            result.matched += 1
            continue
        reason = _misfit(record, dialect) or _torn(lines, shown, dialect)
        if reason:
            result.faults.append(Fault(start, reason, _shown(shown)))
        else:
            rows.append(record)
            result.lines.append(start)
            result.texts.append(shown)
        if len(rows) + len(result.faults) >= ROWS:
            yield replace(result, cells=_columns(rows, dialect))
            result, rows = Parsed([], []), []
    yield replace(result, cells=_columns(rows, dialect))


def _torn(lines: int, text: str, dialect: Dialect) -> str | None:
    """Return why a row that has the right number of cells is bad all the same."""
    if lines > 1 and not dialect.multiline:
        return QUOTED_BREAK
    try:
        text.encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    return None


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class Typed(NamedTuple):
    """Good rows as columns of their kinds, their lines' numbers, and what is wrong with others."""

    columns: list[pa.Array]
    lines: list[int]
    faults: list[Fault]


def typed(parsed: Parsed, columns: Sequence[Column]) -> Typed:
    """Turn columns of text into what they are; a cell of another kind makes its row a bad one."""
    arrays: list[pa.Array] = []
    reasons: dict[int, str] = {}
    for column, cells in zip(columns, parsed.cells, strict=True):
        values, other = _converted(cells, column)
        arrays.append(values)
        if other is not None and pc.any(other).as_py():
            for index in pc.indices_nonzero(other).to_pylist():
                reasons.setdefault(index, _reason(column, cells[index].as_py()))
    if not reasons:
        return Typed(arrays, parsed.lines, parsed.faults)
    faults = list(parsed.faults)
    for index, reason in sorted(reasons.items()):
        text = parsed.texts[index]
        text = text.decode() if isinstance(text, bytes) else text
        faults.append(Fault(parsed.lines[index], reason, text))
    kept = [index for index in range(len(parsed.lines)) if index not in reasons]
    lines = [parsed.lines[index] for index in kept]
    return Typed([each.take(pa.array(kept, pa.int64())) for each in arrays], lines, faults)


def _reason(column: Column, cell: str | float) -> str:
    if isinstance(cell, float):
        return f"column {column.name!r}: {f'{cell:g}'!r} is no whole number"
    shown = cell if len(cell) <= 40 else f"{cell[:37]}..."
    if column.kind == NUMBERS:
        return f"column {column.name!r}: not {column.width} numbers ({len(cell.split())} values)"
    kind = "whole number" if is_number(cell) else "number"
    return f"column {column.name!r}: {shown!r} is no {kind}"


def _converted(cells: pa.Array, column: Column) -> tuple[pa.Array, pa.BooleanArray | None]:
    """Return cells as their column's kind, and which cells are filled with something else."""
    if column.kind == WORD:
        return cells, None
    if column.kind == NUMBERS:
        return _lists(cells, column.width)
    values, other = numbers_of(cells)
    if column.kind == NUMBER:
        return values, other
    try:
        return values.cast(pa.int64()), other
    except pa.ArrowInvalid:
        pass  # Fractions, or more than an int64 holds: found one by one.
    fraction = pc.fill_null(pc.not_equal(pc.floor(values), values), False)
    broken = pc.or_(fraction, pc.fill_null(pc.greater(pc.abs(values), EXACT), False))
    values = pc.if_else(broken, pa.scalar(None, pa.float64()), values).cast(pa.int64())
    return values, broken if other is None else pc.or_(other, broken)


def _lists(cells: pa.StringArray, width: int) -> tuple[pa.Array, pa.BooleanArray]:
    """Return cells of numbers with spaces between them as lists, null where one is no such."""
    parts = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(cells))
    flat, strange = numbers_of(parts.flatten())
    right = pc.fill_null(pc.equal(pc.list_value_length(parts), width), False)
    if strange is not None and pc.any(strange).as_py():
        faulty = pc.list_parent_indices(parts).filter(strange)
        places = pa.array(range(len(cells)), pa.int64())
        right = pc.and_(right, pc.invert(pc.is_in(places, faulty)))
    lists = pa.ListArray.from_arrays(parts.offsets, flat)
    values = pc.if_else(right, lists, pa.scalar(None, lists.type))
    return values, pc.and_(pc.is_valid(cells), pc.invert(right))
