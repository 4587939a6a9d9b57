"""What a saved model or estimator consists of, and how it is read where there is no Spark."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import fs
from pyarrow import parquet as pq

from sparknn.errors import IncompleteError

__all__ = [
    "BAD",
    "MARKER",
    "NEW",
    "OLD",
    "TRIAL",
    "Folder",
    "Saved",
    "arrays_of",
    "incomplete",
    "table_of",
    "unquoted",
]

MARKER = "_COMPLETE"
BAD = ".bad"
"""After a path in the name of where the bad lines of its job's input go."""
NEW, OLD, TRIAL = ".new-", ".old-", ".trial-"
"""Between a path and a run in the names of what that run is to put there, of what was there, and of
a file that tells whether anything can be written there."""
PART = 2**17
"""Numbers to a row of Parquet: a model of any size is read and written in small pieces."""


def incomplete(path: object, copy: object | None) -> IncompleteError:
    """Return the error of a path without its marker.

    copy: the complete copy beside it, which a job had begun to put there, if there is one.
    """
    if copy is not None:
        return IncompleteError(
            f"{path} was being replaced when the job was killed. The complete copy is {copy}: read "
            "that, or run the same command again, which finishes the replacement"
        )
    return IncompleteError(
        f"{path} has no {MARKER}: its writing was cut short, or sparknn did not write it. "
        "Save it again"
    )


def unquoted(name: str) -> str:
    """Return the column that a stage of MLlib means by a name, which may stand in backticks."""
    if len(name) > 1 and name[0] == name[-1] == "`":
        return name[1:-1].replace("``", "`")
    return name


def table_of(name: str, array: np.ndarray) -> pa.Table:
    """Return an array as rows of (name, part, values)."""
    flat = np.ascontiguousarray(array, np.float64).ravel()
    parts = [flat[start : start + PART] for start in range(0, len(flat), PART)]
    return pa.table(
        {
            "name": pa.array([name] * len(parts), pa.string()),
            "part": pa.array(range(len(parts)), pa.int32()),
            "values": pa.array(parts, pa.list_(pa.float64())),
        }
    )


def arrays_of(rows: pa.Table, shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Return the arrays of `table_of`'s rows, which may come in any order."""
    parts: dict[str, dict[int, np.ndarray]] = {name: {} for name in shapes}
    for batch in rows.to_batches():
        names, numbers = batch["name"].to_pylist(), batch["part"].to_pylist()
        for name, part, values in zip(names, numbers, batch["values"], strict=True):
            parts[name][part] = values.values.to_numpy()
    return {
        name: np.concatenate(
            [np.empty(0), *(parts[name][part] for part in sorted(parts[name]))]
        ).reshape(shape)
        for name, shape in shapes.items()
    }


@dataclass(frozen=True)
class Folder:
    """A directory that Spark wrote, on a file system that pyarrow can read."""

    system: fs.FileSystem
    path: str

    @classmethod
    def at(cls, path: str | os.PathLike) -> Folder:
        """Return the directory at a local path, or at a URI as Spark or pyarrow spells it.

        As in Hadoop's paths, nothing in a local one is escaped. A URI's query holds pyarrow's
        options, such as s3://bucket/model?region=eu-west-1.

        Raises ValueError for a scheme that pyarrow does not know.
        """
        text = os.fspath(path)
        local = re.sub(r"^file:(//)?(?=/)", "", text)
        if not re.match(r"[A-Za-z][\w+.-]+:/", local):
            return cls(fs.LocalFileSystem(), os.path.abspath(local))
        uri = re.sub(r"^s3[an]:", "s3:", text).replace(" ", "%20")
        system, place = fs.FileSystem.from_uri(uri)
        return cls(system, place.rstrip("/"))

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.system, f"{self.path}/{name}")

    def __str__(self) -> str:
        return self.path

    def exists(self) -> bool:
        """Return whether there is such a directory, or file."""
        return self.system.get_file_info(self.path).type != fs.FileType.NotFound

    def names(self) -> list[str]:
        """Return what the directory holds, but for what Spark hides; nothing if it is not there."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        names = sorted(info.base_name for info in self.system.get_file_info(selector))
        return [name for name in names if not name.startswith(("_", "."))]

    def require_marker(self) -> None:
        """Raise IncompleteError unless the directory has its marker."""
        if (self / MARKER).exists():
            return
        copy = self.complete_copy()
        if copy is None and not self.exists():
            raise IncompleteError(f"nothing is saved at {self}")
        raise incomplete(self, copy)

    def complete_copy(self) -> Folder | None:
        """Return what a killed job was to put here and left beside it, complete, if anything."""
        parent, _, name = self.path.rpartition("/")
        selector = fs.FileSelector(parent, allow_not_found=True)
        for info in self.system.get_file_info(selector):
            copy = Folder(self.system, info.path.rstrip("/"))
            if info.base_name.startswith(name + NEW) and (copy / MARKER).exists():
                return copy
        return None

    def metadata(self) -> dict[str, Any]:
        """Return the class, uid and params of what is saved; {} if there is no such file."""
        for name in (self / "metadata").names():
            with self.system.open_input_stream(f"{self.path}/metadata/{name}") as stream:
                lines = stream.read().split(b"\n")
            if lines[0]:
                return json.loads(lines[0])
        return {}

    def table(self) -> pa.Table:
        """Return the rows of the Parquet files in `data`."""
        tables = []
        for name in (self / "data").names():
            with self.system.open_input_file(f"{self.path}/data/{name}") as file:
                tables.append(pq.read_table(file))
        if not tables:
            raise IncompleteError(f"{self} has no data: save it again")
        return pa.concat_tables(tables)


class Saved:
    """A saved stage: its directory, its class's full name, its params, and the rest of the JSON."""

    def __init__(self, folder: Folder):
        self.folder, self.metadata = folder, folder.metadata()
        self.kind: str = self.metadata.get("class", "")
        self.params: dict[str, Any] = {
            **self.metadata.get("defaultParamMap", {}),
            **self.metadata.get("paramMap", {}),
        }

    def __str__(self) -> str:
        return f"{self.kind.rpartition('.')[2]} in {self.folder}"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of what sparknn saved."""
        return arrays_of(self.folder.table(), self.metadata["shapes"])
