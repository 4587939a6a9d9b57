"""From a path to a DataFrame: Parquet, CSV with a header, LIBSVM, on any Hadoop file system."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType

from sparknn.errors import InvalidDataError
from sparknn.persistence import path_on
from sparknn.schema import column_type, is_numeric, quoted

__all__ = ["FORMATS", "Table", "choose_columns", "hold_out", "read"]

FORMATS = ("parquet", "csv", "libsvm")
ENDINGS = {"parquet": "parquet", "csv": "csv", "libsvm": "libsvm", "svm": "libsvm"}


@dataclass(frozen=True)
class Table:
    """Which columns train.

    label: its name. features: one vector or array column, or several numeric ones.
    """

    label: str
    features: list[str]

    def vector(self, data: DataFrame) -> bool:
        """Return whether a single vector or array column holds the features."""
        if len(self.features) != 1:
            return False
        return isinstance(column_type(data, self.features[0]), (VectorUDT, ArrayType))


def read(session: SparkSession, path: str, kind: str | None, width: int | None = None) -> DataFrame:
    """Read a file, a directory or a glob.

    Parameters
    ----------
    kind : str, optional
        One of FORMATS; by default what the file names end in.
    width : int, optional
        Of LIBSVM's vectors, where the model knows it; by default the largest index found.

    Raises
    ------
    InvalidDataError
        If nothing is there, or its format is not clear.
    """
    kind = kind or _kind_of(session, path)
    if kind == "parquet":
        return session.read.parquet(path)
    if kind == "csv":
        options = {"header": True, "inferSchema": True, "mode": "FAILFAST"}
        frame = session.read.options(**options).csv(path)
    else:
        reader = session.read.format("libsvm")
        frame = (reader.option("numFeatures", width) if width else reader).load(path)
    # Text is slow to parse and is gone through several times.
    return frame.persist(StorageLevel.DISK_ONLY)


def _kind_of(session: SparkSession, path: str) -> str:
    """Return the format that the names of the files at `path` tell."""
    system, where = path_on(session, path)
    found = system.globStatus(where)
    if not found:
        raise InvalidDataError(f"nothing to read at {path}")
    names = []
    for status in found:
        files = system.listStatus(status.getPath()) if status.isDirectory() else [status]
        names += [file.getPath().getName() for file in files]
    data = [name for name in names if not name.startswith(("_", "."))]
    kinds = {ENDINGS[part] for name in data for part in name.lower().split(".") if part in ENDINGS}
    if len(kinds) != 1:
        raise InvalidDataError(
            f"the file names at {path} do not tell the format; say it with --format"
        )
    return kinds.pop()


def choose_columns(
    data: DataFrame, label: str, features: str | None, weight: str | None = None
) -> Table:
    """Return the columns to train on; by default all but the label and the weight.

    features: comma-separated names, or None: a vector or array column called "features", else
    every other column.

    Raises
    ------
    InvalidDataError
        If a column is missing or of a type that cannot be used.
    """
    column_type(data, label)
    if features:
        names = [name.strip() for name in features.split(",")]
    elif "features" in data.columns and label != "features":
        names = ["features"]
    else:
        names = [name for name in data.columns if name not in (label, weight)]
    table = Table(label, names)
    if not table.vector(data):
        words = [name for name in names if not is_numeric(data, name)]
        if words:
            raise InvalidDataError(
                f"features are numbers, and {', '.join(words)} are none: name the columns to use "
                "with --features"
            )
    return table


def is_word(data: DataFrame, name: str) -> bool:
    """Return whether a column holds strings."""
    return isinstance(column_type(data, name), StringType)


def hold_out(data: DataFrame, fraction: float, seed: int) -> tuple[DataFrame, DataFrame]:
    """Split rows at random, by a hash of their content: alike on any cluster.

    Returns the rows to train on and the `fraction` of rows held out; equal rows stay together.
    """
    columns = [F.col(quoted(name)) for name in data.columns]
    draw = F.pmod(F.xxhash64(F.lit(seed), *columns), F.lit(1_000_000))
    held: Column = draw < int(fraction * 1_000_000)
    return data.filter(~held), data.filter(held)
