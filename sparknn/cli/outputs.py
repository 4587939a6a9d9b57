"""What jobs write: whole or not at all, and never in the place of something unasked."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from py4j.protocol import Py4JJavaError
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession

from sparknn.errors import InvalidDataError
from sparknn.persistence import IncompleteError, mark_complete, path_on, require_complete

__all__ = ["load_model", "require_free", "save_model", "write_aside"]


def require_free(session: SparkSession, path: str, overwrite: bool) -> None:
    """Raise InvalidDataError where `path` must not be replaced or cannot be written."""
    system, where = path_on(session, path)
    if system.exists(where) and not overwrite:
        raise InvalidDataError(f"{path} exists: choose another --output, or give --overwrite")
    # Tried, because permissions say little about object stores; better now than after training.
    _, trial = path_on(session, f"{path.rstrip('/')}.new-{uuid.uuid4().hex[:8]}")
    try:
        system.create(trial, False).close()
        system.delete(trial, False)
    except Py4JJavaError as error:
        reason = error.java_exception.getMessage()
        raise InvalidDataError(f"--output {path} cannot be written: {reason}") from error


def save_model(session: SparkSession, pipeline: PipelineModel, path: str, overwrite: bool) -> None:
    """Save a pipeline; an older one at `path` stays until the new one is complete."""

    def write(place: str) -> None:
        pipeline.save(place)
        mark_complete(session, place)

    write_aside(session, path, overwrite, write)


def load_model(session: SparkSession, path: str) -> PipelineModel:
    """Load what `save_model` saved; raise IncompleteError for anything else."""
    require_complete(session, path)
    system, stages = path_on(session, f"{path}/stages")
    if not system.exists(stages):
        raise IncompleteError(f"{path} holds no pipeline; a training job's --output does")
    return PipelineModel.load(path)


def write_aside(
    session: SparkSession, path: str, overwrite: bool, write: Callable[[str], None]
) -> None:
    """Call `write` with a path beside `path`, and move what it wrote to `path`.

    When `write` fails, what it left is removed and what was at `path` is untouched.
    """
    require_free(session, path, overwrite)
    run = uuid.uuid4().hex[:8]
    base = path.rstrip("/")
    system, target = path_on(session, base)
    _, new = path_on(session, f"{base}.new-{run}")
    _, old = path_on(session, f"{base}.old-{run}")
    try:
        write(f"{base}.new-{run}")
    except BaseException:
        system.delete(new, True)
        raise
    replaced = system.exists(target)
    if replaced and not system.rename(target, old):
        raise OSError(f"could not move {target} aside; the complete output is at {new}")
    if not system.rename(new, target):
        if replaced:
            system.rename(old, target)
        raise OSError(f"could not move {new} to {target}; the complete output is at {new}")
    if replaced:
        system.delete(old, True)
