"""The end of a fit's files: removed from all executors, also after an end by force."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable

from pyspark import RDD

from sparknn.cluster import Cluster, unless_stopped

__all__ = ["new_directory", "sweep"]

SWEEPS = 5
"""How often executors are swept at the most, where tasks may still have been writing."""


def new_directory() -> str:
    """Return a name for the directories of a fit's files that no other fit has."""
    return f"sparknn-{uuid.uuid4().hex}"


def sweep(
    cluster: Cluster,
    directory: str,
    paths: Iterable[str] = (),
    rdd: RDD | None = None,
    aborted: bool = False,
) -> None:
    """Remove a fit's directory from all executors; files that stay go with their executor.

    Parameters
    ----------
    cluster : Cluster
    directory : str
        The name that the fit's directories have in common.
    paths : iterable of str
        Files in the fit's directories that are known, for those whose executor has died.
    rdd : RDD, optional
        What holds the descriptors, to be forgotten as well.
    aborted : bool, default False
        The fit failed or was interrupted: wait for tasks of its jobs that are still running, and
        sweep again until nothing is found.
    """
    with unless_stopped(f"removing {directory}"), cluster.spared():
        if aborted:
            cluster.settle()
        if rdd is not None:
            rdd.unpersist()
        remove = _remover(directory, {os.path.dirname(path) for path in paths if path})
        with cluster.described("sparknn: removing blocks"):
            for attempt in range(SWEEPS):
                time.sleep(0.1 * attempt)
                if not any(cluster.everywhere(remove)) or not aborted:
                    return


def _remover(directory: str, folders: set[str]) -> Callable[[], bool]:
    """Return the task that removes the directory and says whether there was one."""

    def remove() -> bool:
        here = {os.path.join(d, directory) for d in os.environ["SPARK_LOCAL_DIRS"].split(",")}
        found = [folder for folder in here | folders if os.path.exists(folder)]
        for folder in found:
            shutil.rmtree(folder, ignore_errors=True)
        return bool(found)

    return remove
