"""sparknn against MLlib on a million one-hot columns, in one session on the same cores.

    python benchmarks/sparse.py

Each row sets some columns, a few of which are common and most of them rare, as after one-hot
encoding; labels are drawn from a logistic model of them. Both sides fit logistic regression with
the same settings, on the same cached DataFrame. Each section prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyspark.ml.classification as mllib
from local import local_session
from pyspark.ml.linalg import SparseVector, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DoubleType, StructField, StructType

import sparknn.classification as ours


class Rows:
    """Makes the rows of a partition: indices by a power law, in groups of equal size."""

    def __init__(self, columns: int, stored: int):
        self.columns, self.stored = columns, stored

    def __call__(self, partition: int, numbers) -> Any:
        random = np.random.default_rng(partition)
        count = len(list(numbers))
        group = self.columns // self.stored
        places = (random.random((count, self.stored)) ** 3 * group).astype(np.int64)
        indices = places + np.arange(self.stored) * group
        # The same weights everywhere, without an array of them to send.
        weights = np.sin(indices * 12.9898) * (3 / np.sqrt(self.stored))
        chance = 1 / (1 + np.exp(-weights.sum(axis=1)))
        labels = (random.random(count) < chance).astype(np.float64)
        ones = np.ones(self.stored)
        for label, row in zip(labels.tolist(), indices.astype(np.int32), strict=True):
            yield SparseVector(self.columns, row, ones), label


def made(session: SparkSession, rows: int, columns: int, stored: int) -> DataFrame:
    """Return cached rows of `features` and `label`, one partition per core."""
    context = session.sparkContext
    numbers = context.range(rows, numSlices=context.defaultParallelism)
    schema = StructType([StructField("features", VectorUDT()), StructField("label", DoubleType())])
    pairs = numbers.mapPartitionsWithIndex(Rows(columns, stored))
    data = session.createDataFrame(pairs, schema).cache()
    data.count()
    return data


class WorkerMemory:
    """Samples the resident memory of Spark's Python workers, all together, and keeps the peak.

    Pages of mapped files, which the system may drop, are told apart from a worker's own.
    """

    def __init__(self) -> None:
        self.own = self.all = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> WorkerMemory:
        self.thread.start()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(0.05):
            found = [_resident(process) for process in _descendants(os.getpid())]
            self.own = max(self.own, sum(own for own, _ in found))
            self.all = max(self.all, sum(own + mapped for own, mapped in found))


def _descendants(ancestor: int) -> list[Path]:
    """Return the processes below one: Spark's JVM, and the workers of this session alone."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return [Path(f"/proc/{process}") for process in found]


def _resident(process: Path) -> tuple[int, int]:
    """Return the bytes of a Python worker: its own, and of files; zeros for the JVM."""
    try:
        if b"java" in (process / "cmdline").read_bytes().split(b"\0")[0]:
            return 0, 0
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return 0, 0
    kilobytes = {line.split(":")[0]: line.split()[1] for line in lines if "Rss" in line}
    own, mapped = int(kilobytes.get("RssAnon", 0)), int(kilobytes.get("RssFile", 0))
    return 1024 * own, 1024 * mapped


def timed(fit: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    model = fit()
    return time.perf_counter() - began, model


def of_mllib(data: DataFrame, settings: dict[str, Any]) -> dict[str, Any]:
    seconds, model = timed(lambda: mllib.LogisticRegression(**settings).fit(data))
    history = model.summary.objectiveHistory
    return {
        "seconds": round(seconds, 1),
        "iterations": len(history) - 1,
        "objective": round(float(history[-1]), 8),
    }


def of_sparknn(data: DataFrame, settings: dict[str, Any]) -> dict[str, Any]:
    with WorkerMemory() as memory:
        seconds, model = timed(lambda: ours.LogisticRegression(**settings).fit(data))
    fitted = model.training
    rounds = fitted.rounds
    return {
        "seconds": round(seconds, 1),
        "iterations": fitted.iterations,
        "objective": round(float(fitted.objective_history[-1]), 8),
        "rounds": len(rounds),
        "compute_s": round(sum(each.compute for each in rounds), 2),
        "other_s": round(sum(each.other for each in rounds), 2),
        "training_s": round(fitted.seconds, 1),
        "peak_worker_MB": round(memory.own / 1e6),
        "peak_worker_MB_with_mapped_files": round(memory.all / 1e6),
    }


@click.command()
@click.option("--rows", default=200_000, show_default=True)
@click.option("--columns", default=1_000_000, show_default=True)
@click.option("--set", "stored", default=30, show_default=True, help="Columns set in each row.")
@click.option("--cores", default=2, show_default=True)
@click.option("--memory", default="6g", show_default=True, help="Of the JVM.")
@click.option("--iterations", default=100, show_default=True)
@click.option("--penalty", default=1e-4, show_default=True, help="regParam.")
@click.option("--only", type=click.Choice(["mllib", "sparknn"]), help="One side alone.")
def main(rows, columns, stored, cores, memory, iterations, penalty, only) -> None:
    """Fit logistic regression on rows of one-hot columns with MLlib and with sparknn."""
    settings = {"maxIter": iterations, "regParam": penalty, "tol": 1e-6}
    results = {}
    with local_session(cores, memory) as session:
        data = made(session, rows, columns, stored)
        for name, measure in (("sparknn", of_sparknn), ("mllib", of_mllib)):
            if only in (None, name):
                # The first fit of a session starts workers and compiles; neither side's counts.
                measure(data.limit(1000), {**settings, "maxIter": 1})
                results[name] = measure(data, settings)
                print(json.dumps({name: results[name]}), flush=True)
    if len(results) == 2:
        ratio = results["mllib"]["seconds"] / results["sparknn"]["seconds"]
        print(json.dumps({"times_mllib": round(ratio, 2)}))


if __name__ == "__main__":
    main()
