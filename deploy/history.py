"""Spark's history server over the event logs in the bucket, on this machine's loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pyspark

from deploy.errors import MissingToolError

__all__ = ["command", "complete_markers", "serve"]

MAIN = "org.apache.spark.deploy.history.HistoryServer"


def complete_markers(directory: Path) -> None:
    """Put the marker beside each log of an application that has not ended.

    Spark reads a directory of rolling logs only with its marker, and machines do not copy the one
    of a running application.
    """
    for log in directory.rglob("eventlog_v2_*"):
        if log.is_dir() and not any(log.glob("appstatus_*")):
            application = log.name.removeprefix("eventlog_v2_")
            (log / f"appstatus_{application}.inprogress").touch()


def command(directory: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command line of the history server, and its environment.

    Raises
    ------
    MissingToolError
        If there is no Java.
    """
    home = Path(pyspark.__file__).parent
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        raise MissingToolError(
            "the history server needs Java 17 or 21: install it, or set JAVA_HOME"
        )
    options = {
        "spark.history.fs.logDirectory": directory.as_uri(),
        "spark.history.ui.port": str(port),
        # The logs lie there for as long as the server runs.
        "spark.history.fs.cleaner.enabled": "false",
    }
    set_ = " ".join(f"-D{key}={value}" for key, value in options.items())
    environment = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_HISTORY_OPTS": set_,
    }
    return [str(home / "bin" / "spark-class"), MAIN], environment


def serve(directory: Path, port: int) -> int:
    """Run the history server until Ctrl-C, and return its exit status."""
    arguments, environment = command(directory, port)
    process = subprocess.Popen(arguments, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        process.terminate()
        process.wait()
