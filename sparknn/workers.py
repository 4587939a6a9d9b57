"""What Spark's Python workers need because they are used again and again."""

from __future__ import annotations

import gc
import os
import socket
import sys
from contextlib import suppress
from stat import S_ISSOCK

__all__ = ["hurry", "tidy"]

OPEN_FILES = "/proc/self/fd"

_modules = 0


def hurry() -> None:
    """Acknowledge what the executor has sent so far; to be called before a task reads its input.

    Without `spark.python.unix.domain.socket.enabled`, executor and worker talk by TCP. The
    executor sends the task first and then its input, which, where it is small, Nagle's algorithm
    holds back until the task is acknowledged; the worker's kernel delays that by 40 ms, in hope
    of an answer to put it into. So a job whose tasks do nothing took 100 ms, and takes 55.
    """
    if not (hasattr(socket, "TCP_QUICKACK") and os.path.isdir(OPEN_FILES)):
        return
    if socket.getdefaulttimeout() is not None:
        # Looking at the executor's connection would have it block no longer.
        return
    for number in map(int, os.listdir(OPEN_FILES)):
        # What listed them is among them and closed by now, and not every socket has the option.
        with suppress(OSError):
            if S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as each:
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def tidy() -> None:
    """Leave a worker as its next task had best find it."""
    _spare_collector()
    _forget_archives()


def _spare_collector() -> None:
    """Take all that is loaded out of the garbage collector's sight, once for each import of more.

    pyspark collects garbage after each task. With pandas, SciPy and pyspark.ml loaded a look at
    everything takes longer than a small round: it made 130 ms of one of 60 ms.
    """
    global _modules
    if len(sys.modules) != _modules:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)


def _forget_archives() -> None:
    """Drop the finders for modules in Spark's own ZIP files, which are made anew where needed.

    Workers load pyspark from an archive, and before each task pyspark 4.0 has every finder, one
    for each of its packages, read the archive's whole directory again: 480 ms for a task of 80 ms.
    """
    own = [sys.modules[name].__loader__ for name in ("pyspark", "py4j") if name in sys.modules]
    archives = {getattr(loader, "archive", "") for loader in own}
    for place, finder in list(sys.path_importer_cache.items()):
        if getattr(finder, "archive", None) in archives:
            sys.path_importer_cache.pop(place, None)
