"""Saving and loading estimators and models: JSON and Parquet, never pickles.

What MLlib saved is read, too, by MLlib's own reader, and taken over from there.

A saved instance is a directory with `metadata` (JSON, as pyspark.ml's own), `data` (Parquet, only
where there are arrays) and, written last, the marker that makes it complete. Object stores have
no rename, so a directory without its marker is one whose writing was cut short.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.ml.linalg import Matrices, Matrix, Vector
from pyspark.ml.param import TypeConverters
from pyspark.ml.util import (
    DefaultParamsReader,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql import SparkSession

from sparknn.errors import IncompleteError
from sparknn.saved import MARKER, NEW, arrays_of, incomplete, table_of

__all__ = [
    "MARKER",
    "IncompleteError",
    "Persistent",
    "Reader",
    "Writer",
    "as_json",
    "beside",
    "complete_copies",
    "is_complete",
    "mark_complete",
    "path_on",
    "require_complete",
]


class Persistent(MLReadable, MLWritable):
    """Gives a pyspark.ml stage `write`, `save`, `read` and `load`.

    A subclass that holds arrays overrides `_arrays`, `_facts` and `_restored`; one that has a
    counterpart of the same name in MLlib has `fromMLlib`.
    """

    def write(self) -> Writer:
        """Return a writer; `write().overwrite().save(path)` replaces what is there."""
        return Writer(self)

    @classmethod
    def read(cls) -> Reader:
        """Return a reader of what was saved by this class, or by MLlib's of the same name.

        Its `load(path)` raises IncompleteError for what was not saved whole, or is another thing.
        """
        return Reader(cls)

    def _arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays to save."""
        return {}

    def _facts(self) -> dict[str, Any]:
        """Return what else to save, as JSON values."""
        return {}

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]):
        """Return an instance that holds what was saved; its params are set afterwards."""
        return cls()


def as_json(value: Any) -> Any:
    """Return a param's value as JSON has it: vectors and matrices as lists, row by row."""
    return value.toArray().tolist() if isinstance(value, (Vector, Matrix)) else value


class Writer(MLWriter):
    """Writes an instance's arrays, then its metadata, then the marker."""

    def __init__(self, instance: Persistent):
        super().__init__()
        self.instance = instance

    def saveImpl(self, path: str) -> None:
        system, where = path_on(self.sparkSession, path)
        if system.exists(where):
            raise FileExistsError(f"{path} exists: write().overwrite().save(path) replaces it")
        arrays = self.instance._arrays()
        if arrays:
            table = pa.concat_tables([table_of(name, array) for name, array in arrays.items()])
            frame = self.sparkSession.createDataFrame(table)
            frame.coalesce(1).write.parquet(f"{path}/data")
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        DefaultParamsWriter.saveMetadata(
            self.instance,
            path,
            self.sparkSession,
            extraMetadata={"shapes": shapes, "facts": self.instance._facts()},
            paramMap={
                param.name: as_json(value) for param, value in self.instance._paramMap.items()
            },
        )
        mark_complete(self.sparkSession, path)


class NothingSavedError(AnalysisException, IncompleteError):
    """There is nothing at the path; also the error that pyspark raises there, for its callers."""


class Reader(MLReader):
    """Reads what `Writer` wrote, or MLlib's writer of the class of the same name."""

    def __init__(self, kind: type[Persistent]):
        super().__init__()
        self.kind = kind

    def load(self, path: str):
        session = self.sparkSession
        theirs = _counterpart(session, self.kind, path)
        if theirs is not None:
            return self.kind.fromMLlib(theirs.read().session(session).load(path))
        require_complete(session, path)
        name = f"{self.kind.__module__}.{self.kind.__name__}"
        metadata = DefaultParamsReader.loadMetadata(path, session, name)
        arrays = {}
        if metadata["shapes"]:
            rows = session.read.parquet(f"{path}/data").toArrow()
            arrays = arrays_of(rows, metadata["shapes"])
        instance = self.kind._restored(arrays, metadata["facts"])
        instance._resetUid(metadata["uid"])
        for name, value in metadata["paramMap"].items():
            if instance.getParam(name).typeConverter is TypeConverters.toMatrix:
                columns = np.transpose(value)
                metadata["paramMap"][name] = Matrices.dense(*columns.T.shape, columns.ravel())
        DefaultParamsReader.getAndSetParams(instance, metadata)
        return instance


def _counterpart(session: SparkSession, kind: type[Persistent], path: str) -> Any:
    """Return MLlib's class of the same name, if that is what is saved at `path`."""
    if not hasattr(kind, "fromMLlib"):
        return None
    system, metadata = path_on(session, f"{path}/metadata")
    if not system.exists(metadata) or system.exists(path_on(session, f"{path}/{MARKER}")[1]):
        return None
    lines = session.read.text(f"{path}/metadata").head(1)
    saved = json.loads(lines[0].value)["class"] if lines else None
    module = kind.__module__.split(".")[1]
    if saved != f"org.apache.spark.ml.{module}.{kind.__name__}":
        return None
    return getattr(import_module(f"pyspark.ml.{module}"), kind.__name__)


def path_on(session: SparkSession, path: str):
    """Return Hadoop's file system and path objects for `path`."""
    where = session._jvm.org.apache.hadoop.fs.Path(path)
    return where.getFileSystem(session.sparkContext._jsc.hadoopConfiguration()), where


def mark_complete(session: SparkSession, path: str, facts: dict[str, Any] | None = None) -> None:
    """Write the marker of a directory whose other files are all there; it holds `facts`."""
    system, marker = path_on(session, f"{path}/{MARKER}")
    stream = system.create(marker, True)
    try:
        if facts is not None:
            stream.write(bytearray(json.dumps(facts).encode()))
    finally:
        stream.close()


def is_complete(session: SparkSession, path: str) -> bool:
    """Return whether `path` has its marker."""
    system, marker = path_on(session, f"{path}/{MARKER}")
    return system.exists(marker)


def beside(session: SparkSession, path: str, between: str) -> list[str]:
    """Return the paths beside `path` whose names are its own, `between` and a run's eight digits.

    between: NEW, or OLD for what waited there until a new copy had taken its place.
    """
    base = path.rstrip("/")
    system, where = path_on(session, base)
    parent, name = where.getParent(), where.getName()
    if parent is None or not name or not system.exists(parent):
        return []
    pattern = re.compile(re.escape(name + between) + "[0-9a-f]{8}")
    names = [status.getPath().getName() for status in system.listStatus(parent)]
    return [base + found[len(name) :] for found in names if pattern.fullmatch(found)]


def complete_copies(session: SparkSession, path: str) -> list[str]:
    """Return what killed jobs were to put at `path` and left beside it, complete, newest first."""
    found = []
    for copy in beside(session, path, NEW):
        system, marker = path_on(session, f"{copy}/{MARKER}")
        if system.exists(marker):
            found.append((system.getFileStatus(marker).getModificationTime(), copy))
    return [copy for _, copy in sorted(found, reverse=True)]


def require_complete(session: SparkSession, path: str) -> None:
    """Raise IncompleteError unless `path` has its marker."""
    if is_complete(session, path):
        return
    copies = complete_copies(session, path)
    system, where = path_on(session, path)
    if not copies and not system.exists(where):
        raise NothingSavedError(f"Path does not exist: nothing is saved at {path}")
    raise incomplete(path, copies[0] if copies else None)
