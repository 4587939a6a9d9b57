"""CSV files and lines of numbers as DataFrames, with the faulty lines beside the rows.

Lines come through Spark's text reader, in Arrow batches, and are taken apart in the partitions
(see text_batches.py). A file in which a quoted cell goes on over the end of a line cannot be split
between tasks: it is read whole, by one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from sparknn.cli.column_kinds import NUMBERS, Column, Tally
from sparknn.cli.lines import Dialect
from sparknn.cli.text_batches import (
    FAULT,
    FAULT_TYPE,
    TYPES,
    Taken,
    as_columns,
    counts,
    of_lines,
    of_texts,
    plain_path,
)
from sparknn.cluster import Cluster
from sparknn.schema import quoted

__all__ = ["Examined", "examine", "line_batches", "text_table"]


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
        source.mapInArrow(partial(as_columns, parsed=parsed, columns=columns), schema)
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


def _sources(
    session: SparkSession,
    pieces: Sequence[str],
    whole: Sequence[str],
    dialect: Dialect,
    columns: Sequence[Column] | None = None,
) -> list[tuple[DataFrame, Taken]]:
    """Return the text of files, and how to take it apart."""
    sources: list[tuple[DataFrame, Taken]] = []
    if pieces:
        lines = line_batches(session, pieces)
        sources.append((lines, partial(of_lines, dialect=dialect, columns=columns)))
    if whole:
        texts = line_batches(session, whole, wholetext=True)
        sources.append((texts, partial(of_texts, dialect=dialect)))
    return sources


def line_batches(session: SparkSession, files: Sequence[str], wholetext: bool = False) -> DataFrame:
    """Return files' lines, or whole texts, each with its file and where in it its split begins."""
    place = [F.col("_metadata.file_path").alias("file"), F.col("_metadata.file_block_start")]
    texts = session.read.text(list(files), wholetext=wholetext)
    return texts.select(F.col("value").cast("binary"), *place)


def _counted(
    session: SparkSession, pieces: Sequence[str], whole: Sequence[str], dialect: Dialect
) -> tuple[list[Tally], set[str]]:
    """Return the columns' counts, and the files in which a quote stays open."""
    total, broken = [Tally() for _ in dialect.names], set()
    for source, parsed in _sources(session, pieces, whole, dialect):
        counting = partial(counts, parsed=parsed, width=len(dialect.names))
        for (text,) in source.mapInArrow(counting, "found string").collect():
            found = json.loads(text)
            broken |= set(found["broken"])
            for mine, other in zip(total, found["tallies"], strict=True):
                widths = {int(width): count for width, count in other.pop("widths").items()}
                mine.add(Tally(**other))
                mine.widths.update(widths)
    return total, broken
