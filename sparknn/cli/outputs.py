"""What jobs write: whole or not at all, and never in the place of something unasked."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import click
from py4j.protocol import Py4JJavaError
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.paths import explained, plain
from sparknn.cli.replacement import Store, contents, remove, replace, seal
from sparknn.cli.session import Finished, say
from sparknn.errors import InvalidDataError
from sparknn.persistence import (
    IncompleteError,
    beside,
    complete_copies,
    is_complete,
    path_on,
    require_complete,
)
from sparknn.saved import NEW, OLD, TRIAL

__all__ = ["load_model", "require_free", "save_model", "write_aside", "write_rows"]

COMMAND = "sparknn.command"
"""Where click's context keeps what the job was asked, from before its inputs were read."""

READ = ("path", "test", "model")
"""The names of the options whose files decide, with the options themselves, what is written."""


def require_free(session: SparkSession, path: str | None, overwrite: bool) -> None:
    """Raise InvalidDataError where `path` must not be replaced or cannot be written.

    path: None where nothing is to be written.

    A replacement that a killed job had begun is finished first. Where that job was asked the same
    as this one, of the same files, its output is this one's, too, and Finished is raised.
    """
    if not path:
        return
    context = click.get_current_context(silent=True)
    command = _command(session, context) if context else None
    if context:
        context.meta[COMMAND] = command
    base = path.rstrip("/")
    store = Store(session, base)
    done = _settle(store, base, overwrite)
    if done is not None and context and command == done:
        raise Finished({"job": context.command.name, "output": path, "finished": True})
    _require_absent(store, base, overwrite)
    # Tried, because permissions say little about object stores; better now than after training.
    system, trial = path_on(session, f"{base}{TRIAL}{uuid.uuid4().hex[:8]}")
    try:
        system.create(trial, False).close()
        system.delete(trial, False)
    except Py4JJavaError as error:
        reason = explained(str(error)) or plain(error)
        raise InvalidDataError(f"--output {path} cannot be written: {reason}") from error


def save_model(session: SparkSession, pipeline: PipelineModel, path: str, overwrite: bool) -> None:
    """Save a pipeline; an older one at `path` stays until the new one is complete."""
    write_aside(session, path, overwrite, pipeline.save, PipelineModel.load)


def load_model(session: SparkSession, path: str) -> PipelineModel:
    """Load what `save_model` saved; raise IncompleteError for anything else."""
    require_complete(session, path)
    system, stages = path_on(session, f"{path}/stages")
    if not system.exists(stages):
        raise IncompleteError(f"{path} holds no pipeline; a training job's --output does")
    return PipelineModel.load(path)


def write_rows(session: SparkSession, rows: DataFrame, path: str, overwrite: bool) -> int:
    """Write rows as Parquet, as `write_aside` does; return how many they are."""
    seen = Observation()
    observed = rows.observe(seen, F.count(F.lit(1)).alias("rows"))

    def check(place: str) -> None:
        found = session.read.parquet(place).count()
        if found != seen.get["rows"]:
            raise OSError(f"{place} holds {found} rows of the {seen.get['rows']} written")

    write_aside(session, path, overwrite, lambda place: observed.write.parquet(place), check)
    return seen.get["rows"]


def write_aside(
    session: SparkSession,
    path: str,
    overwrite: bool,
    write: Callable[[str], Any],
    check: Callable[[str], Any],
) -> None:
    """Call `write` with a path beside `path`, and `check`, and put what was written at `path`.

    When `write` or `check` fails, what was written is removed and what was at `path` is untouched.
    After that there is a complete copy at every moment, here or there, whatever happens.
    """
    base = path.rstrip("/")
    store = Store(session, base)
    _require_absent(store, base, overwrite)
    context = click.get_current_context(silent=True)
    new = f"{base}{NEW}{uuid.uuid4().hex[:8]}"
    try:
        write(new)
        check(new)
    except BaseException:
        store.delete(new)
        raise
    seal(store, new, {"command": context.meta.get(COMMAND) if context else None})
    try:
        replace(store, base, new)
    except (OSError, Py4JJavaError) as error:
        raise OSError(
            f"{base} could not be replaced ({plain(error)}). The complete output is {new}: run the "
            "same command again, which puts it in its place"
        ) from error


def _require_absent(store: Store, base: str, overwrite: bool) -> None:
    if not overwrite and store.exists(base):
        raise InvalidDataError(f"{base} exists: choose another --output, or give --overwrite")


def _settle(store: Store, base: str, overwrite: bool) -> str | None:
    """Finish what killed jobs had begun to put at a path, and remove what they left.

    Returns what the job was asked whose output that is, or None where nothing was begun.
    """
    session = store.session
    newest, *older = [*complete_copies(session, base), None]
    command = None
    if newest is not None:
        facts = contents(store, newest)
        # Without --overwrite nothing is replaced but what is part of the copy itself.
        mine = store.files(base) if store.exists(base) else {}
        if not overwrite and (is_complete(session, base) or not set(mine) <= set(facts["files"])):
            raise InvalidDataError(
                f"{base} exists, and {newest} was to replace it when a job was killed: give "
                "--overwrite to finish that"
            )
        say(f"finishing a killed job's replacement: {newest} becomes {base}")
        replace(store, base, newest)
        command = facts.get("command")
    if is_complete(session, base):
        for left in [*filter(None, older), *beside(session, base, OLD)]:
            remove(store, left)
    for left in beside(session, base, NEW):
        say(f"{left} is incomplete: unless another job writes there just now, remove it")
    return command


def _command(session: SparkSession, context: click.Context) -> str:
    """Return a digest of what a job is asked: its options, and the files that it is to read."""
    asked = {name: value for name, value in context.params.items() if name != "overwrite"}
    files = [_listing(session, asked[name]) for name in READ if asked.get(name)]
    text = json.dumps([context.command.name, asked, files], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _listing(session: SparkSession, path: str) -> list[str]:
    """Return what the file system says of the files at a path and below: their sizes and times."""
    system, where = path_on(session, path)
    told = []
    for found in system.globStatus(where) or []:
        files = system.listFiles(found.getPath(), True)
        while files.hasNext():
            told.append(files.next().toString())
    # Reading a file changes this.
    return sorted(re.sub(r"access_time=\d+", "", text) for text in told)
