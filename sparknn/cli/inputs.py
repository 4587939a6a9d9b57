"""From a path to a DataFrame, on any Hadoop file system: the rows, and what became of others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.arrays import (
    array_table,
    feature_rows,
    idx_array,
    idx_pair,
    npz_arrays,
    row_labels,
)
from sparknn.cli.badlines import Counts, settled
from sparknn.cli.column_kinds import Column, decide
from sparknn.cli.formats import (
    FORMATS,
    BadFileError,
    content_of,
    files_at,
    first_lines,
    kind_of,
)
from sparknn.cli.headers import agreed_header, delimiter_of, names_of
from sparknn.cli.lines import Dialect, split_line
from sparknn.cli.session import say
from sparknn.cli.spark_tables import json_table, libsvm_table, schema_kinds, with_kinds
from sparknn.cli.text_batches import FAULT, plain_path
from sparknn.cli.text_tables import examine, text_table
from sparknn.errors import InvalidDataError
from sparknn.persistence import path_on
from sparknn.schema import quoted

__all__ = [
    "FORMATS",
    "Input",
    "Reading",
    "dialect_of",
    "fold_of",
    "hold_out",
    "read",
    "reading",
    "split_by",
]

UNREADABLE = re.compile(r"\[((?:FAILED_READ_FILE|CANNOT_READ|MALFORMED)[^\]]*)\] ?([^\n]*)")
CAUSE = re.compile(r"^Caused by: (?:[\w$]+\.)*([\w$]+(?:: [^\n]*)?)", re.MULTILINE)


@dataclass(frozen=True)
class Reading:
    """How an input is written, and what to do about what is wrong in it: options of all jobs.

    The fields are the options of `input_options`, by their names.
    """

    kind: str | None = None
    header: bool | None = None
    delimiter: str | None = None
    schema: str | None = None
    numbers_column: tuple[str, ...] = ()
    null_values: tuple[str, ...] = ()
    multiline: bool = False
    skip_matching: str | None = None
    bad_lines: str = "fail"
    max_bad_fraction: float = 0.5
    bad_files: str = "fail"

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Reading:
        """Take these options out of a command's."""
        return cls(**{each.name: options.pop(each.name) for each in fields(cls)})

    @property
    def skip(self) -> bool:
        """Whether bad rows are left out."""
        return self.bad_lines != "fail"


class Input(NamedTuple):
    """Rows, what their columns are (None for typed formats), and what became of the others."""

    rows: DataFrame
    columns: list[Column] | None
    counts: Counts


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Name the path in errors about its rows, and make one line of what Spark cannot read."""
    try:
        yield
    except BadFileError:
        raise
    except InvalidDataError as error:
        raise InvalidDataError(f"{path}: {error}") from None
    except (Py4JJavaError, PySparkException) as error:
        found = UNREADABLE.search(str(error))
        if not found:
            raise
        raise InvalidDataError(f"{path} cannot be read: {found[2] or found[1]}") from None


def read(
    session: SparkSession,
    path: str,
    how: Reading | None = None,
    *,
    words: Sequence[str] = (),
    known: Sequence[Column] | None = None,
    width: int | None = None,
    part: str = "train",
) -> Input:
    """Read a file, a directory or a glob.

    Parameters
    ----------
    how : Reading
        By default what the file names and first lines tell.
    words : sequence of str
        Columns that are categories, or not used: no number is looked for in them.
    known : sequence of Column, optional
        What columns were found to be in the training input; others are looked at anew.
    width : int, optional
        Of LIBSVM's vectors, where the model knows it; by default the largest index found.
    part : str
        "train" or "test", for arrays of both in one file.

    Raises
    ------
    InvalidDataError
        If nothing is there, a file cannot be read (a BadFileError), the format is not clear,
        lines are bad and not to be left out, or there are no rows.
    """
    how = how or Reading()
    with reading(path):
        files = files_at(session, path)
        left_out: list[str] = []
        while True:
            asked = _Asked(files, None if left_out else path, how, words, known, width, part)
            try:
                found = _attempt(session, asked)
                break
            except BadFileError as error:
                broken = [file for file in files if plain_path(file) == plain_path(error.path)]
                if how.bad_files != "skip" or files == broken:
                    raise
                say(f"left out whole: {error}")
                left_out += map(plain_path, broken)
                files = [file for file in files if file not in broken]
        found.counts.files_left_out = left_out
        if found.rows.isEmpty():
            raise InvalidDataError("the input has no rows")
    return found


class _Asked(NamedTuple):
    """What `read` was asked; path: None where some of its files are left out."""

    files: list[str]
    path: str | None
    how: Reading
    words: Sequence[str]
    known: Sequence[Column] | None
    width: int | None
    part: str


def _attempt(session: SparkSession, asked: _Asked) -> Input:
    """Read files; raise BadFileError for one of them that cannot be read to its end."""
    frame, how = None, asked.how
    try:
        frame, columns = _table(session, asked)
        if FAULT not in frame.columns:
            return Input(frame, columns, Counts())
        # Text is slow to parse and is gone through several times.
        frame = frame.persist(StorageLevel.DISK_ONLY)
        rows, counts = settled(frame, how.bad_lines, how.max_bad_fraction)
        return Input(rows, columns, counts)
    except (Py4JJavaError, PySparkException) as error:
        if frame is not None:
            frame.unpersist()
        broken = _file_in(str(error), asked.files)
        if broken is None and "Traceback" in str(error):
            raise
        if broken is None:
            raise InvalidDataError(f"it cannot be read: {_reason(error)}") from None
        raise BadFileError(plain_path(broken), _reason(error)) from None


def _table(session: SparkSession, asked: _Asked) -> tuple[DataFrame, list[Column]]:
    """Return an input as columns of their kinds, with FAULT where the format knows bad lines."""
    files, how = asked.files, asked.how
    kind = how.kind or kind_of(files)
    if kind in ("csv", "text"):
        return _text(session, kind, asked)
    if kind == "json":
        frame = json_table(session, files)
    elif kind == "libsvm":
        frame = libsvm_table(session, files, asked.width)
    elif kind == "parquet":
        # The columns that directories' names hold are known from the path they are under.
        frame = session.read.parquet(*([asked.path] if asked.path else files))
        if how.bad_files == "skip":
            frame.write.format("noop").mode("overwrite").save()
    else:
        frame = _arrays(session, files, kind, asked.part)
    named = plain_path(asked.path or files[0])
    given = schema_kinds(how.schema)
    return with_kinds(
        frame, named, given, how.numbers_column, asked.words, how.null_values, asked.known
    )


def _file_in(message: str, files: Sequence[str]) -> str | None:
    """Return which of the files an error of Spark's names."""
    # Spark encodes names, Hadoop does not.
    plain = f"{message}\n{unquote(message)}".replace("file:///", "file:/")
    named = [file for file in files if file in plain or plain_path(file) in plain]
    # One name may be the beginning of another.
    return max(named, key=len) if named else None


def _text(session: SparkSession, kind: str, asked: _Asked) -> tuple[DataFrame, list[Column]]:
    """Return CSV, or lines of numbers, as columns of their kinds and with FAULT."""
    how, files = asked.how, asked.files
    dialect, given = dialect_of(session, files, kind, how)
    before = {column.name: column for column in asked.known or ()}
    found = examine(session, files, dialect)
    columns = [
        before.get(column.name, column)
        for column in decide(dialect.names, found.tallies, given, asked.words, how.numbers_column)
    ]
    return text_table(session, files, found.whole, dialect, columns), columns


def dialect_of(
    session: SparkSession, files: list[str], kind: str, how: Reading
) -> tuple[Dialect, dict[str, str]]:
    """Return how lines of CSV, or of numbers, are written, and the kinds that a schema names.

    Raises InvalidDataError where the files do not agree, or not with what was said of them.
    """
    dialect, header = _dialect(session, files, kind, how)
    given = schema_kinds(how.schema)
    if given and not header:
        if len(given) != len(dialect.names):
            raise InvalidDataError(
                f"--schema names {len(given)} columns, and the lines have {len(dialect.names)}"
            )
        dialect = replace(dialect, names=tuple(given))
    missing = [name for name in (*given, *how.numbers_column) if name not in dialect.names]
    if missing:
        raise InvalidDataError(f"no column {missing[0]!r}; there are {', '.join(dialect.names)}")
    return dialect, given


def _dialect(
    session: SparkSession, files: list[str], kind: str, how: Reading
) -> tuple[Dialect, bool]:
    """Return how lines are written, by what was said and by how the files begin."""
    heads = {plain_path(file): first_lines(session, file) for file in files}
    filled = [lines for lines in heads.values() if lines]
    if not filled:
        raise InvalidDataError("the input has no rows")
    delimiter = how.delimiter or (" " if kind == "text" else delimiter_of(filled[0][0]))
    header = False
    if kind == "csv":
        header = agreed_header(heads, delimiter, how.header)
    first = split_line(filled[0][0], delimiter)
    dialect = Dialect(
        names_of(first, header),
        header,
        delimiter,
        how.null_values,
        how.multiline,
        how.skip_matching,
    )
    return dialect, header


def _arrays(session: SparkSession, files: list[str], kind: str, part: str) -> DataFrame:
    """Return the rows of an .npz file, or of IDX files of images and labels."""
    if kind == "npz":
        if len(files) > 1:
            raise InvalidDataError(f"there are {len(files)} .npz files; name one")
        return array_table(session, *npz_arrays(files[0], content_of(session, files[0]), part))

    def exists(file: str) -> bool:
        system, where = path_on(session, file)
        return system.exists(where)

    images, labels = idx_pair(files, part, exists)
    features = feature_rows(images, idx_array(images, content_of(session, images)))
    if labels is None:
        say(f"no labels stand beside {images}")
        return array_table(session, features, None)
    found = idx_array(labels, content_of(session, labels))
    return array_table(session, features, row_labels(labels, found, len(features)))


def _reason(error: Exception) -> str:
    """Return what is at the bottom of one of Spark's errors, in a line."""
    text = str(error)
    causes = CAUSE.findall(text)
    if causes:
        return causes[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Py4J's own first line says only that a call failed.
    told = [line for line in lines if not line.startswith(("An error occurred", ":"))]
    java = [line[1:].strip() for line in lines if line.startswith(":")]
    return (java or told or [type(error).__name__])[0]


def hold_out(data: DataFrame, fraction: float, seed: int) -> tuple[DataFrame, DataFrame]:
    """Split rows at random, by a hash of their content: alike on any cluster.

    Returns the rows to train on and the `fraction` of rows held out; equal rows stay together.

    Raises
    ------
    InvalidDataError
        If one side has no rows.
    """
    held: SparkColumn = _drawn(data, 1_000_000, F.lit(seed)) < int(fraction * 1_000_000)
    sides = data.filter(~held), data.filter(held)
    for side, purpose in zip(sides, ("to train on", "to measure the model on"), strict=True):
        if side.isEmpty():
            raise InvalidDataError(
                f"--validation {fraction:g} leaves no rows {purpose}: choose another share, or "
                "bring more rows"
            )
    return sides


def split_by(data: DataFrame, column: str, values: Sequence[str]) -> tuple[DataFrame, DataFrame]:
    """Split rows by a column: return those to train on, and those that hold one of `values`.

    Raises
    ------
    InvalidDataError
        If one side has no rows.
    """
    cell = F.col(quoted(column)).cast("string")
    held = F.coalesce(cell.isin(list(values)), F.lit(False))
    sides = data.filter(~held), data.filter(held)
    if any(side.isEmpty() for side in sides):
        found = sorted(str(row[0]) for row in data.select(cell).distinct().limit(20).collect())
        raise InvalidDataError(
            f"--split-column {column}={','.join(values)} leaves no rows on one side; the column "
            f"holds {', '.join(found)}"
        )
    return sides


def fold_of(data: DataFrame, folds: int, seed: int) -> SparkColumn:
    """Return which of `folds` folds a row is in, from 0: drawn by its content, as in `hold_out`."""
    return _drawn(data, folds, F.lit(seed), F.lit("fold"))


def _drawn(data: DataFrame, count: int, *salt: SparkColumn) -> SparkColumn:
    """Return a number below `count` for each row: a hash of its content, wherever it stands."""
    columns = [F.col(quoted(name)) for name in data.columns]
    return F.pmod(F.xxhash64(*salt, *columns), F.lit(count))
