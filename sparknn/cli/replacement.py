"""Putting a complete copy in the place of an older output: killed anywhere, one of them is whole.

A job writes beside its output, at PATH.new-<run>, and seals what it wrote by a marker that lists
its files. What follows can be cut short at any point and done again:

- Where a directory is renamed in one step (local disks, HDFS), the old one is renamed out of the
  way, the new one takes its place, and the old one is removed.
- Elsewhere (S3, which has no rename) the old marker is removed, then the old files; the new files
  are copied, the marker last; and only then the copy they come from is removed.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import SparkSession

from sparknn.errors import IncompleteError
from sparknn.persistence import MARKER, mark_complete, path_on
from sparknn.saved import NEW, OLD

__all__ = ["Store", "contents", "remove", "replace", "seal"]

MOVING = ("file", "hdfs", "viewfs")
"""Schemes of file systems that rename a directory in one step."""

COPIES_AT_A_TIME = 8
LARGEST_COPY = 5 * 2**30
"""Bytes that S3 copies in one request."""


class Store:
    """The file system of an output, as far as its replacement goes: each call is one step."""

    def __init__(self, session: SparkSession, path: str):
        self.session = session
        self.system, _ = path_on(session, path)
        self.scheme: str = self.system.getUri().getScheme()
        self.moves = self.scheme in MOVING

    def _at(self, path: str) -> Any:
        return path_on(self.session, path)[1]

    def exists(self, path: str) -> bool:
        """Return whether there is a file or directory."""
        return self.system.exists(self._at(path))

    def is_directory(self, path: str) -> bool:
        """Return whether there is a directory."""
        return self.exists(path) and self.system.getFileStatus(self._at(path)).isDirectory()

    def files(self, path: str) -> dict[str, int]:
        """Return the files in a directory and below, but for its marker, and their bytes."""
        base = self.system.makeQualified(self._at(path)).toString()
        found, walk = {}, self.system.listFiles(self._at(path), True)
        while walk.hasNext():
            status = walk.next()
            found[status.getPath().toString()[len(base) + 1 :]] = status.getLen()
        found.pop(MARKER, None)
        return found

    def read(self, path: str) -> bytes:
        """Return a small file's content."""
        stream = self.system.open(self._at(path))
        try:
            return bytes(stream.readAllBytes())
        finally:
            stream.close()

    def mark(self, path: str, facts: dict[str, Any]) -> None:
        """Write a directory's marker."""
        mark_complete(self.session, path, facts)

    def delete(self, path: str) -> None:
        """Delete a file or a directory, if it is there."""
        self.system.delete(self._at(path), True)

    def rename(self, source: str, target: str) -> None:
        """Rename a directory to a name that is free."""
        if not self.system.rename(self._at(source), self._at(target)):
            raise OSError(f"could not rename {source} to {target}")

    def copy(self, source: str, target: str, size: int) -> None:
        """Copy a file: within S3 where it can be, else through the driver."""
        if self.scheme == "s3a" and size < LARGEST_COPY:
            try:
                self._copy_within_s3(source, target)
                return
            except Py4JJavaError:
                raise
            except Py4JError:
                # A Hadoop whose s3a has no such methods. The copy through the driver is as good.
                self.scheme = "s3a without copies"
        jvm: Any = self.session._jvm
        jvm.org.apache.hadoop.fs.FileUtil.copy(
            self.system, self._at(source), self.system, self._at(target), False,
            self.session.sparkContext._jsc.hadoopConfiguration(),
        )  # fmt: skip

    def _copy_within_s3(self, source: str, target: str) -> None:
        # s3a copies only to rename, and then deletes sources before all are copied.
        inner = self.system.getS3AInternals()
        about = inner.getObjectMetadata(self._at(source))
        keys = [self._at(path).toUri().getPath()[1:] for path in (source, target)]
        request = self.system.getRequestFactory().newCopyObjectRequestBuilder(*keys, about).build()
        inner.getAmazonS3Client("replacement of an output").copyObject(request)


def seal(store: Store, new: str, facts: dict[str, Any]) -> None:
    """Mark a copy as complete: with its files, and with `facts` about the job that wrote it."""
    store.mark(new, {**facts, "files": store.files(new)})


def contents(store: Store, path: str) -> dict[str, Any]:
    """Return what a complete copy's marker holds.

    Raises IncompleteError where its files are not those of the marker.
    """
    text = store.read(f"{path}/{MARKER}")
    facts = json.loads(text) if text else {}
    if facts.get("files") != store.files(path):
        raise IncompleteError(f"{path} has other files than its {MARKER} lists: remove it")
    return facts


def replace(store: Store, path: str, new: str) -> None:
    """Put the complete copy `new` in the place of `path`; or go on with that."""
    facts = contents(store, new)
    if store.moves:
        _by_renaming(store, path, new)
    else:
        _by_copying(store, path, new, facts)


def remove(store: Store, path: str) -> None:
    """Remove a directory, if it is there: what makes it look complete first."""
    if not store.is_directory(path):
        store.delete(path)
        return
    for name in (MARKER, "_SUCCESS"):
        store.delete(f"{path}/{name}")
    store.delete(path)


def _by_renaming(store: Store, path: str, new: str) -> None:
    old = f"{path}{OLD}{new[len(path + NEW) :]}"
    if store.exists(path):
        store.rename(path, old)
    store.rename(new, path)
    remove(store, old)


def _by_copying(store: Store, path: str, new: str, facts: dict[str, Any]) -> None:
    remove(store, path)
    files: dict[str, int] = dict(facts["files"])
    done = files.pop("_SUCCESS", None)
    with ThreadPoolExecutor(COPIES_AT_A_TIME) as pool:
        # Each result is asked for, so that an error is raised here.
        list(pool.map(lambda n: store.copy(f"{new}/{n}", f"{path}/{n}", files[n]), files))
    if done is not None:
        store.copy(f"{new}/_SUCCESS", f"{path}/_SUCCESS", done)
    if store.files(path) != facts["files"]:
        raise OSError(f"{path} differs from {new}, which is complete: run the command again")
    store.mark(path, facts)
    remove(store, new)
