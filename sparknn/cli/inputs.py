"""From a path to a DataFrame: Parquet, CSV with a header, LIBSVM, on any Hadoop file system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from sparknn.cli.checking import complaint
from sparknn.errors import InvalidDataError
from sparknn.persistence import path_on
from sparknn.schema import quoted

__all__ = ["FORMATS", "fold_of", "hold_out", "read", "reading"]

FORMATS = ("parquet", "csv", "libsvm")
ENDINGS = {"parquet": "parquet", "csv": "csv", "libsvm": "libsvm", "svm": "libsvm"}
MALFORMED = "_sparknn_malformed"
"""The column in which Spark leaves the text of a line that it could not take apart."""

UNREADABLE = re.compile(r"\[((?:FAILED_READ_FILE|CANNOT_READ|MALFORMED)[^\]]*)\] ?([^\n]*)")
CAUSE = re.compile(r"^Caused by: (?:[\w$]+\.)*([\w$]+(?:: [^\n]*)?)", re.MULTILINE)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Name the path in errors about its rows, and make one line of what Spark cannot read."""
    try:
        yield
    except InvalidDataError as error:
        raise InvalidDataError(f"{path}: {error}") from None
    except (Py4JJavaError, PySparkException) as error:
        found = UNREADABLE.search(str(error))
        if not found:
            raise
        raise InvalidDataError(f"{path} cannot be read: {found[2] or found[1]}") from None


def read(
    session: SparkSession, path: str, kind: str | None, skip: bool, width: int | None = None
) -> tuple[DataFrame, int]:
    """Read a file, a directory or a glob.

    Parameters
    ----------
    kind : str, optional
        One of FORMATS; by default what the file names end in.
    skip : bool
        Leave malformed lines of CSV out, in place of an error.
    width : int, optional
        Of LIBSVM's vectors, where the model knows it; by default the largest index found.

    Returns
    -------
    DataFrame, int
        The rows, and how many malformed lines were left out.

    Raises
    ------
    InvalidDataError
        If nothing is there, it cannot be read, its format is not clear, or it has no rows.
    """
    with reading(path):
        try:
            frame = _frame(session, path, kind or _kind_of(session, path), width)
        except (Py4JJavaError, PySparkException) as error:
            # Nothing but the path has been looked at so far.
            raise InvalidDataError(f"it cannot be read: {_reason(error)}") from None
        frame, malformed = _well_formed(frame, skip)
        if frame.isEmpty():
            raise InvalidDataError("the input has no rows")
    return frame, malformed


def _frame(session: SparkSession, path: str, kind: str, width: int | None) -> DataFrame:
    if kind == "parquet":
        return session.read.parquet(path)
    if kind == "csv":
        reader = session.read.option("header", True)
        schema = reader.option("inferSchema", True).csv(path).schema
        if not schema.fields:
            raise InvalidDataError("the input has no rows")
        reader = session.read.option("header", True).option("columnNameOfCorruptRecord", MALFORMED)
        frame = reader.schema(schema.add(MALFORMED, StringType())).csv(path)
    else:
        libsvm = session.read.format("libsvm")
        frame = (libsvm.option("numFeatures", width) if width else libsvm).load(path)
    # Text is slow to parse and is gone through several times.
    return frame.persist(StorageLevel.DISK_ONLY)


def _well_formed(frame: DataFrame, skip: bool) -> tuple[DataFrame, int]:
    """Return a frame's rows but for malformed lines, and how many of these there were."""
    if MALFORMED not in frame.columns:
        return frame, 0
    malformed = F.col(MALFORMED).isNotNull()
    count = frame.filter(malformed).count()
    if count and not skip:
        raise InvalidDataError(
            complaint(frame, malformed, "not as wide as the header, or malformed", F.col(MALFORMED))
        )
    return frame.filter(~malformed).drop(MALFORMED), count


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


def _kind_of(session: SparkSession, path: str) -> str:
    """Return the format that the names of the files at `path` tell."""
    system, where = path_on(session, path)
    found = system.globStatus(where)
    if not found:
        raise InvalidDataError("nothing is there to read")
    names = []
    for status in found:
        files = system.listStatus(status.getPath()) if status.isDirectory() else [status]
        names += [file.getPath().getName() for file in files]
    data = [name for name in names if not name.startswith(("_", "."))]
    kinds = {ENDINGS[part] for name in data for part in name.lower().split(".") if part in ENDINGS}
    if len(kinds) != 1:
        raise InvalidDataError("the file names do not tell the format; say it with --format")
    return kinds.pop()


def hold_out(data: DataFrame, fraction: float, seed: int) -> tuple[DataFrame, DataFrame]:
    """Split rows at random, by a hash of their content: alike on any cluster.

    Returns the rows to train on and the `fraction` of rows held out; equal rows stay together.

    Raises
    ------
    InvalidDataError
        If one side has no rows.
    """
    held: Column = _drawn(data, 1_000_000, F.lit(seed)) < int(fraction * 1_000_000)
    sides = data.filter(~held), data.filter(held)
    for side, purpose in zip(sides, ("to train on", "to measure the model on"), strict=True):
        if side.isEmpty():
            raise InvalidDataError(
                f"--validation {fraction:g} leaves no rows {purpose}: choose another share, or "
                "bring more rows"
            )
    return sides


def fold_of(data: DataFrame, folds: int, seed: int) -> Column:
    """Return which of `folds` folds a row is in, from 0: drawn by its content, as in `hold_out`."""
    return _drawn(data, folds, F.lit(seed), F.lit("fold"))


def _drawn(data: DataFrame, count: int, *salt: Column) -> Column:
    """Return a number below `count` for each row: a hash of its content, wherever it stands."""
    columns = [F.col(quoted(name)) for name in data.columns]
    return F.pmod(F.xxhash64(*salt, *columns), F.lit(count))
