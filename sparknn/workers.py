"""What Spark's Python workers need because they are used again and again."""

from __future__ import annotations

import gc
import sys

__all__ = ["spare_collector"]

_modules = 0


def spare_collector() -> None:
    """Take all that is loaded out of the garbage collector's sight, once for each import of more.

    pyspark collects garbage after each task. With pandas, SciPy and pyspark.ml loaded a look at
    everything takes longer than a small round: it made 130 ms of one of 60 ms.
    """
    global _modules
    if len(sys.modules) != _modules:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)
