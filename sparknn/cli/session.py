"""A job's surroundings: its Spark session, its messages, its exit status.

Progress goes to standard error; the last line on standard output is one JSON object, printed only
on success. Status 0 is success, 2 a mistake in what was asked or in the data, 1 anything else.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click
from pyspark import SparkContext
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from sparknn.cli.paths import placed, require_reachable, require_replaced
from sparknn.cluster import Cluster
from sparknn.errors import CheckpointError, InvalidDataError, InvalidParamError, SparknnError
from sparknn.persistence import IncompleteError

__all__ = ["Finished", "closing_line", "run_job", "say", "start_session", "status_of"]

MISTAKES = (InvalidDataError, InvalidParamError, IncompleteError, CheckpointError)
"""Errors that the caller can mend: one line, status 2."""


class Finished(Exception):
    """There is nothing left to do; `result` is the job's closing JSON object."""

    def __init__(self, result: dict[str, Any]):
        super().__init__("finished")
        self.result = result


def run_job(command: click.Command) -> None:
    """Run a job's command, print the JSON object that it returns, and exit."""
    sys.stderr = _standard_error()
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    sys.exit(status_of(lambda: command.main(standalone_mode=False)))


def status_of(job: Callable[[], Any]) -> int:
    """Run `job` and return its exit status; every error that is foreseen takes one line."""
    try:
        result = job()
    except Finished as finished:
        result = finished.result
    except click.ClickException as error:
        # Without the lines on usage that click puts before it.
        say(f"error: {error.format_message()}")
        return 2
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return 130
    except MISTAKES as error:
        say(f"error: {error}")
        return 2
    except AnalysisException as error:
        say(f"error: {str(error).splitlines()[0]}")
        return 2
    except Exception as error:
        return _failure(error)
    # `--help` prints and returns click's own status.
    if isinstance(result, dict):
        print(closing_line(result), flush=True)
    return 0


def closing_line(result: dict[str, Any]) -> str:
    """Return a job's closing JSON object as a line."""
    return json.dumps(_finite(result), allow_nan=False)


def _failure(error: Exception) -> int:
    """Tell what is no mistake in the options or the data, unless it is one about S3."""
    meaning = placed(str(error))
    if meaning:
        say(f"error: {meaning}")
        return 2
    if isinstance(error, SparknnError):
        say(f"error: {error}")
    else:
        traceback.print_exception(error)
    return 1


def _finite(value: Any) -> Any:
    """Return a JSON value with null in place of NaN and infinities, for which JSON has no word."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _standard_error() -> Any:
    """Return the stream for messages.

    spark-submit merges a job's two streams into its own standard output, where the closing line
    should stand alone. Its JVM, whose child the job is, still has a standard error of its own.
    """
    return _JvmErrors() if "PYSPARK_GATEWAY_PORT" in os.environ else sys.stderr


class _JvmErrors(io.TextIOBase):
    """The standard error of spark-submit's JVM."""

    def __init__(self):
        SparkContext._ensure_initialized()
        self._stream = SparkContext._jvm.System.err

    def write(self, text: str) -> int:
        self._stream.print(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        """Return whether somebody watches: whether it is a terminal, where the system can tell."""
        try:
            with open(f"/proc/{os.getppid()}/fd/2", "rb", buffering=0) as stream:
                return stream.isatty()
        except OSError:
            return False


def say(message: str) -> None:
    """Tell the person who watches."""
    print(message, file=sys.stderr, flush=True)


def start_session(name: str) -> SparkSession:
    """Return the session of a job, with workers that start fast.

    Raises
    ------
    InvalidDataError, IncompleteError
        If one of the command's paths is on S3 and cannot be come to, or is an output whose
        replacement was cut short.
    """
    session = (
        SparkSession.builder.appName(name)
        .config("spark.python.unix.domain.socket.enabled", "true")
        # Parameters that come back in the message that a task is done, not in a block of their own.
        .config("spark.task.maxDirectResultSize", "32m")
        .config("spark.ui.showConsoleProgress", "false")
        # Spark would compare what it knows of each column with all others: minutes for a hundred.
        .config("spark.sql.constraintPropagation.enabled", "false")
        # And note where in this code each column was named: 5 ms a time, for messages that a job
        # does not show.
        .config("spark.python.sql.dataFrameDebugging.enabled", "false")
        .getOrCreate()
    )
    cluster = Cluster(session)
    if cluster.local and "PYSPARK_PYTHON" not in os.environ:
        # The workers are on this machine: they get this Python, not the first one on PATH.
        session.sparkContext.pythonExec = sys.executable
    context = click.get_current_context(silent=True)
    options = context.params if context else {}
    require_reachable(session, options)
    for name in ("path", "test"):
        if options.get(name):
            require_replaced(session, options[name])
    return session
