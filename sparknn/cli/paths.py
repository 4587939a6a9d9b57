"""Paths that a job is given: what must hold of them before anything is read.

Hadoop tells what is wrong with a path on S3 in a page; here it becomes a line.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from sparknn.errors import InvalidDataError
from sparknn.persistence import complete_copies, is_complete, path_on
from sparknn.saved import incomplete

__all__ = ["explained", "placed", "plain", "require_reachable", "require_replaced"]

CLASSES = re.compile(r"ClassNotFoundException: (?:Class )?(org\.apache\.[\w.]*(?:s3a|cloud)\.\w+)")
S3 = re.compile(r"fs\.s3a|awssdk|amazonaws")
PLACE = re.compile(r"s3a://[^\s'`:,;)]+")
SCHEME = re.compile(r"[A-Za-z][\w+.-]*://")
GLOB = re.compile(r"[*?\[{]")

WRONG = (
    (
        r"NoSuchBucket|UnknownStoreException|bucket does not exist",
        "there is no such bucket, or it is another server's: look at its name and at "
        "fs.s3a.endpoint",
    ),
    (
        r"NoAuthWithAWSException|NoAwsCredentials|Unable to load (?:AWS )?credentials",
        "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where there is a "
        "role (docs/s3.md)",
    ),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken",
        "the server does not accept the credentials: look at AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    ),
    (
        r"AccessDenied|Forbidden|Status Code: 403",
        "access denied: these credentials are wrong, or lack the right to it",
    ),
    (
        r"UnknownHost|ConnectException|Connection refused|Unable to execute HTTP request",
        "the server does not answer: look at fs.s3a.endpoint and the network",
    ),
)
"""What is found in Hadoop's errors, and what it means; the first that fits holds."""


def require_reachable(session: SparkSession, options: Mapping[str, Any]) -> None:
    """Raise InvalidDataError for a path among a job's options that it cannot come to.

    On S3 it is asked for; elsewhere a file system of that name is to be there.
    """
    for name, value in options.items():
        if not isinstance(value, str):
            continue
        if re.match(r"s3n?://", value):
            raise InvalidDataError(f"{value}: Hadoop's name for S3 is s3a; give s3a://…")
        if not SCHEME.match(value):
            continue
        # The directory above a glob stands for it.
        place = GLOB.split(value)[0].rpartition("/")[0] if GLOB.search(value) else value
        try:
            system, where = path_on(session, place if "/" in place[6:] else f"{place}/")
            if value.startswith("s3a://"):
                system.exists(where)
        except Py4JJavaError as error:
            reason = explained(str(error)) or plain(error)
            raise InvalidDataError(f"{_option(name)} {value}: {reason}") from None


def require_replaced(session: SparkSession, path: str) -> None:
    """Raise IncompleteError for an output of a job that was killed while it replaced it."""
    if GLOB.search(path) or is_complete(session, path):
        return
    copies = complete_copies(session, path)
    if copies:
        raise incomplete(path, copies[0])


def explained(text: str) -> str | None:
    """Return in a line what an error of Hadoop's s3a means; None where it is another's."""
    missing = CLASSES.search(text)
    if missing:
        line = shlex.join(sys.argv) if sys.argv[0] else "jobs/…"
        return (
            f"this Spark was started without {missing[1].rpartition('.')[2]}. Start it so: "
            f"spark-submit $(python -m sparknn.cli.s3) {line}"
        )
    if not S3.search(text):
        return None
    return next((meaning for sign, meaning in WRONG if re.search(sign, text)), None)


def placed(text: str) -> str | None:
    """Return what `explained` does, with the first path on S3 that the error names."""
    meaning, place = explained(text), PLACE.search(text)
    return f"{place[0]}: {meaning}" if meaning and place else meaning


def plain(error: Exception) -> str:
    """Return an error's own message, or that of the Java exception inside, as one line."""
    java = getattr(error, "java_exception", None)
    text = java.toString() if java is not None else str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def _option(name: str) -> str:
    return "--input" if name == "path" else "--" + name.replace("_", "-")
