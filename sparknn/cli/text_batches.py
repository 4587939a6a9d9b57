"""Batches of lines, taken apart in the tasks into columns and faulty lines.

Nothing here needs pyspark.ml, which takes a second to load in every new worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from sparknn.cli.column_kinds import INTEGER, NUMBER, NUMBERS, WORD, Column, Tally, tally
from sparknn.cli.lines import Dialect, Fault, Parsed, parse, parse_whole, typed

__all__ = [
    "FAULT",
    "FAULT_TYPE",
    "TYPES",
    "Taken",
    "as_columns",
    "counts",
    "decoded",
    "of_lines",
    "of_texts",
    "plain_path",
    "runs",
]

FAULT = "_sparknn_fault"
"""The column that says what is wrong with a line; null in rows."""

FAULT_TYPE = StructType(
    [
        StructField("what", StringType()),
        StructField("file", StringType()),
        StructField("line", LongType()),
        StructField("reason", StringType()),
        StructField("text", StringType()),
        StructField("count", LongType()),
    ]
)
"""what: "bad", "blank" or "matched". line: from 1, null where a file is read in pieces."""

_FAULT_ARROW = pa.struct(
    [
        ("what", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("text", pa.string()),
        ("count", pa.int64()),
    ]
)

TYPES: dict[str, tuple[DataType, pa.DataType]] = {
    NUMBER: (DoubleType(), pa.float64()),
    INTEGER: (LongType(), pa.int64()),
    WORD: (StringType(), pa.string()),
    NUMBERS: (ArrayType(DoubleType()), pa.list_(pa.float64())),
}
"""What columns of each kind are, to Spark and to Arrow."""

PIECE_BYTES = 4 * 2**20
"""Of lines that are taken apart together."""


class _Part(NamedTuple):
    """Some lines of a file; where they stand in it is known if `numbered`."""

    file: str
    numbered: bool
    parsed: Parsed


Taken = Callable[[Iterable[pa.RecordBatch]], Iterator[_Part]]
"""From a partition's batches of text to what its lines are."""


def plain_path(path: str) -> str:
    """Return a file's path as messages have it: one on this machine without its scheme."""
    if not path.startswith("file:"):
        return path
    return "/" + path.removeprefix("file:").lstrip("/")


def decoded(uri: str) -> str:
    """Return the plain path of a file as Spark's tasks name it: encoded, unlike Hadoop's paths."""
    return plain_path(unquote(uri))


def of_lines(
    batches: Iterable[pa.RecordBatch], dialect: Dialect, columns: Sequence[Column] | None
) -> Iterator[_Part]:
    """Take batches of lines apart; those of one file follow one another."""
    seen: dict[tuple[str, int], tuple[int, bool]] = {}
    bare = replace(dialect, header=False)
    for batch in batches:
        for (uri, start), lines in runs(batch):
            first, headless = seen.get((uri, start), (1, True) if start == 0 else (2, False))
            parsed = parse(lines, first, dialect if headless else bare, columns)
            seen[uri, start] = first + len(lines), parsed.headless
            yield _Part(decoded(uri), start == 0, parsed)


def runs(batch: pa.RecordBatch) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """Return a batch's lines, those of one file and split together, in pieces of some MB."""
    lines, files, starts = (column.to_pylist() for column in batch.columns)
    begin, size = 0, 0
    for index, line in enumerate(lines):
        size += len(line)
        last = index + 1 == len(lines)
        key = files[index], starts[index]
        if last or size >= PIECE_BYTES or key != (files[index + 1], starts[index + 1]):
            yield key, lines[begin : index + 1]
            begin, size = index + 1, 0


def of_texts(batches: Iterable[pa.RecordBatch], dialect: Dialect) -> Iterator[_Part]:
    """Take batches of whole files' texts apart."""
    for batch in batches:
        for content, uri, _ in zip(*(column.to_pylist() for column in batch.columns)):
            for parsed in parse_whole(content, dialect):
                yield _Part(decoded(uri), True, parsed)


def counts(
    batches: Iterable[pa.RecordBatch], parsed: Taken, width: int
) -> Iterator[pa.RecordBatch]:
    """Count a partition's cells; the counts go back as one JSON text."""
    total, broken = [Tally() for _ in range(width)], set()
    for part in parsed(batches):
        if part.parsed.broken:
            broken.add(part.file)
        for mine, cells in zip(total, part.parsed.cells, strict=True):
            mine.add(tally(cells))
    found = {"tallies": [vars(each) for each in total], "broken": sorted(broken)}
    yield pa.record_batch([pa.array([json.dumps(found)])], ["found"])


def as_columns(
    batches: Iterable[pa.RecordBatch],
    parsed: Taken,
    columns: Sequence[Column],
) -> Iterator[pa.RecordBatch]:
    """Return a partition's rows as columns of their kinds, and its faulty lines in FAULT."""
    names = [*(column.name for column in columns), FAULT]
    for part in parsed(batches):
        good = typed(part.parsed, columns)
        rows = len(good.lines)
        if rows:
            yield pa.record_batch([*good.columns, pa.nulls(rows, _FAULT_ARROW)], names)
        faults = _told(part, good.faults)
        if faults:
            cells = [pa.nulls(len(faults), TYPES[column.kind][1]) for column in columns]
            yield pa.record_batch([*cells, pa.array(faults, _FAULT_ARROW)], names)


def _told(part: _Part, faults: Sequence[Fault]) -> list[dict]:
    """Return what FAULT holds for a part's faulty lines, and for those that are no rows."""
    told = [
        {
            "what": "bad",
            "file": part.file,
            "line": fault.line if part.numbered else None,
            "reason": fault.reason,
            "text": fault.text,
            "count": 1,
        }
        for fault in faults
    ]
    for what, count in (("blank", part.parsed.blank), ("matched", part.parsed.matched)):
        if count:
            told.append({"what": what, "file": part.file, "count": count})
    return told
