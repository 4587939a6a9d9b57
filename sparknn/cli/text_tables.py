"""CSV files and lines of numbers as DataFrames, with the faulty lines beside the rows.

Lines come through Spark's text reader, in Arrow batches, and are taken apart in the partitions
(see lines.py). A file in which a quoted cell goes on over the end of a line cannot be split
between tasks: it is read whole, by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
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
from sparknn.cli.formats import plain_path
from sparknn.cli.lines import Dialect, Fault, Parsed, parse, parse_whole, typed
from sparknn.cluster import Cluster
from sparknn.schema import quoted

__all__ = [
    "FAULT",
    "FAULT_TYPE",
    "Examined",
    "examine",
    "line_batches",
    "runs",
    "text_table",
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

PIECE_BYTES = 4 * 2**20
"""Of lines that are taken apart together."""


class Examined(NamedTuple):
    """What the columns' cells are, and the files that must be read whole."""

    tallies: list[Tally]
    whole: list[str]


def examine(session: SparkSession, files: Sequence[str], dialect: Dialect) -> Examined:
    """Count what the cells of every column are, in all rows."""
    Cluster(session).prepare()
    if dialect.multiline:
        return Examined(_counted(session, [], files, dialect)[0], list(files))
    tallies, broken = _counted(session, files, [], dialect)
    if broken:
        whole = [file for file in files if plain_path(file) in broken]
        others = [file for file in files if file not in whole]
        tallies, _ = _counted(session, others, whole, dialect)
        return Examined(tallies, whole)
    return Examined(tallies, [])


def text_table(
    session: SparkSession,
    files: Sequence[str],
    whole: Sequence[str],
    dialect: Dialect,
    columns: Sequence[Column],
) -> DataFrame:
    """Return the rows of files as columns of their kinds, and what is wrong with lines in FAULT.

    whole: those of the files that are to be read whole.
    """
    Cluster(session).prepare()
    fields = [StructField(column.name, TYPES[column.kind][0]) for column in columns]
    schema = StructType([*fields, StructField(FAULT, FAULT_TYPE)])
    pieces = [file for file in files if file not in whole]
    frames = [
        source.mapInArrow(partial(_batches, parsed=parsed, columns=columns), schema)
        for source, parsed in _sources(session, pieces, whole, dialect, columns)
    ]
    frame = frames[0]
    for each in frames[1:]:
        frame = frame.union(each)
    chosen = []
    for column in columns:
        cell = F.col(quoted(column.name))
        if column.kind == NUMBERS:
            cell = F.when(cell.isNotNull(), array_to_vector(cell)).alias(column.name)
        chosen.append(cell)
    return frame.select(*chosen, FAULT)


class _Part(NamedTuple):
    """Some lines of a file; where they stand in it is known if `numbered`."""

    file: str
    numbered: bool
    parsed: Parsed


_Reader = Callable[[Iterable[pa.RecordBatch]], Iterator[_Part]]


def _sources(
    session: SparkSession,
    pieces: Sequence[str],
    whole: Sequence[str],
    dialect: Dialect,
    columns: Sequence[Column] | None = None,
) -> list[tuple[DataFrame, _Reader]]:
    """Return the text of files, and how to take it apart."""
    sources: list[tuple[DataFrame, _Reader]] = []
    if pieces:
        lines = line_batches(session, pieces)
        sources.append((lines, partial(_parts, dialect=dialect, columns=columns)))
    if whole:
        texts = line_batches(session, whole, wholetext=True)
        sources.append((texts, partial(_whole_parts, dialect=dialect)))
    return sources


def line_batches(session: SparkSession, files: Sequence[str], wholetext: bool = False) -> DataFrame:
    """Return files' lines, or whole texts, each with its file and where in it its split begins."""
    place = [F.col("_metadata.file_path").alias("file"), F.col("_metadata.file_block_start")]
    texts = session.read.text(list(files), wholetext=wholetext)
    return texts.select(F.col("value").cast("binary"), *place)


def _parts(
    batches: Iterable[pa.RecordBatch], dialect: Dialect, columns: Sequence[Column] | None
) -> Iterator[_Part]:
    """Take batches of lines apart; those of one file follow one another."""
    seen: dict[tuple[str, int], int] = {}
    for batch in batches:
        for (uri, start), lines in runs(batch):
            first = seen.get((uri, start), 1 if start == 0 else 2)
            seen[uri, start] = first + len(lines)
            yield _Part(plain_path(uri), start == 0, parse(lines, first, dialect, columns))


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


def _whole_parts(batches: Iterable[pa.RecordBatch], dialect: Dialect) -> Iterator[_Part]:
    for batch in batches:
        for content, uri, _ in zip(*(column.to_pylist() for column in batch.columns)):
            for parsed in parse_whole(content, dialect):
                yield _Part(plain_path(uri), True, parsed)


def _counted(
    session: SparkSession, pieces: Sequence[str], whole: Sequence[str], dialect: Dialect
) -> tuple[list[Tally], set[str]]:
    """Return the columns' counts, and the files in which a quote stays open."""
    total, broken = [Tally() for _ in dialect.names], set()
    for source, parsed in _sources(session, pieces, whole, dialect):
        counting = partial(_tallies, parsed=parsed, width=len(dialect.names))
        for (text,) in source.mapInArrow(counting, "found string").collect():
            found = json.loads(text)
            broken |= set(found["broken"])
            for mine, other in zip(total, found["tallies"], strict=True):
                widths = {int(width): count for width, count in other.pop("widths").items()}
                mine.add(Tally(**other))
                mine.widths.update(widths)
    return total, broken


def _tallies(
    batches: Iterable[pa.RecordBatch], parsed: _Reader, width: int
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


def _batches(
    batches: Iterable[pa.RecordBatch],
    parsed: _Reader,
    columns: Sequence[Column],
) -> Iterator[pa.RecordBatch]:
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
