"""Which files an input is, what format they are in, and how they begin: on any file system."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from sparknn.cli.text_batches import plain_path
from sparknn.errors import InvalidDataError
from sparknn.persistence import path_on

__all__ = [
    "FORMATS",
    "BadFileError",
    "any_packed",
    "content_of",
    "files_at",
    "first_lines",
    "kind_of",
]

FORMATS = ("csv", "parquet", "json", "libsvm", "text", "npz", "idx")

ENDINGS = {
    "parquet": "parquet",
    "csv": "csv",
    "tsv": "csv",
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "libsvm": "libsvm",
    "svm": "libsvm",
    "txt": "text",
    "npz": "npz",
}
IDX = re.compile(r"-idx\d-ubyte(\.gz)?$")

HEAD_BYTES = 2**14
MOST_HEAD_BYTES = 2**26
"""How much of a file is read for its first lines: at first, and at most."""

UTF16 = (b"\xff\xfe", b"\xfe\xff")


class BadFileError(InvalidDataError):
    """A file that cannot be read to its end. path: which one."""

    def __init__(self, path: str, reason: str):
        super().__init__(
            f"{path} cannot be read: {reason}. Replace the file, or leave it out whole with "
            "--bad-files skip"
        )
        self.path = path


def files_at(session: SparkSession, path: str) -> list[str]:
    """Return the data files at a path, in a directory or matching a glob, sorted.

    Raises InvalidDataError where there is none.
    """
    system, where = path_on(session, path)
    found = system.globStatus(where)
    files: list[str] = []
    for status in found or []:
        if not status.isDirectory():
            files.append(status.getPath().toString())
            continue
        top = status.getPath().toString()
        listed = system.listFiles(status.getPath(), True)
        while listed.hasNext():
            name = listed.next().getPath().toString()
            # Spark, too, keeps its own files and those under way under such names.
            if not re.search(r"/[_.]", name[len(top) :]):
                files.append(name)
    if not files:
        raise InvalidDataError("nothing is there to read")
    return sorted(files)


def kind_of(files: Iterable[str]) -> str:
    """Return the format that files' names tell; raise InvalidDataError where they do not."""
    kinds = set()
    for file in files:
        name = file.rpartition("/")[2].lower()
        if IDX.search(name):
            kinds.add("idx")
        kinds |= {ENDINGS[part] for part in name.split(".")[1:] if part in ENDINGS}
    if len(kinds) != 1:
        raise InvalidDataError("the file names do not tell the format; say it with --format")
    return kinds.pop()


def first_lines(session: SparkSession, path: str, count: int = 2) -> list[str]:
    """Return a text file's first lines that hold something, without a byte-order mark.

    Raises BadFileError where it cannot be read, or is UTF-16.
    """
    size = HEAD_BYTES
    while True:
        head = content_of(session, path, size)
        if head[:2] in UTF16:
            raise BadFileError(path, "it is UTF-16, and UTF-8 is wanted")
        whole = len(head) < size or size >= MOST_HEAD_BYTES
        lines = re.split(rb"\r\n|\n|\r", head.removeprefix(b"\xef\xbb\xbf"))
        lines = [line for line in (lines if whole else lines[:-1]) if line.strip()]
        if len(lines) >= count or whole:
            return [line.decode("utf-8", "replace") for line in lines[:count]]
        size *= 16


def content_of(session: SparkSession, path: str, size: int = 2**31 - 1) -> bytes:
    """Return a file's content, unpacked, up to a number of bytes; raise BadFileError."""
    system, where = path_on(session, path)
    try:
        codec = _codecs(session, system).getCodec(where)
        if codec is None and path.startswith("file:"):
            # By way of the JVM every byte costs half a microsecond.
            with open(plain_path(path), "rb") as file:
                return file.read(size)
        stream = system.open(where)
        try:
            packed = codec.createInputStream(stream) if codec is not None else stream
            return bytes(packed.readNBytes(size))
        finally:
            stream.close()
    except OSError as error:
        raise BadFileError(path, str(error)) from None
    except Py4JJavaError as error:
        raise BadFileError(path, str(error.java_exception.getMessage())) from None


def any_packed(session: SparkSession, files: Sequence[str]) -> bool:
    """Return whether a file is packed, by its name, with one of Hadoop's codecs."""
    system, _ = path_on(session, files[0])
    codecs, path = _codecs(session, system), session.sparkContext._jvm.org.apache.hadoop.fs.Path
    return any(codecs.getCodec(path(file)) is not None for file in files)


def _codecs(session: SparkSession, system: Any) -> Any:
    packages = session.sparkContext._jvm.org.apache.hadoop.io.compress
    return packages.CompressionCodecFactory(system.getConf())
