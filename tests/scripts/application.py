"""A Spark application of its own for tests that need one: another master, an end by force.

Each script beside this one runs in a process of its own and prints a line of JSON. A cluster's
executors get sparknn from sparknn itself: nothing here puts it on their path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from pyspark.find_spark_home import _find_spark_home
from pyspark.sql import DataFrame, SparkSession


@contextmanager
def application(master: str, local_dir: str) -> Iterator[SparkSession]:
    """Start Spark at `master` with its block files under `local_dir`; stop it and clean up."""
    spark = (
        SparkSession.builder.master(master)
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.python.sql.dataFrameDebugging.enabled", "false")
        .config("spark.python.unix.domain.socket.enabled", "true")
        .config("spark.driver.memory", "1g")
        .config("spark.executor.extraJavaOptions", os.environ.get("SPARK_SUBMIT_OPTS", ""))
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.local.dir", local_dir)
        .config("spark.sql.warehouse.dir", f"{local_dir}/warehouse")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("OFF")
    # What the executors of a local cluster print goes here, wherever the test runs.
    printed = Path(_find_spark_home(), "work", spark.sparkContext.applicationId)
    try:
        yield spark
    finally:
        spark.stop()
        shutil.rmtree(printed, ignore_errors=True)


def digits(spark: SparkSession, path: str, by_label: bool = False) -> DataFrame:
    """Return the rows that a test saved as NPZ, in 4 partitions however many cores there are."""
    arrays = np.load(path, allow_pickle=False)
    features, labels = arrays["features"], arrays["labels"]
    if by_label:
        order = np.argsort(labels, kind="stable")
        features, labels = features[order], labels[order]
    pairs = list(zip(features.tolist(), labels.tolist(), strict=True))
    rows = spark.sparkContext.parallelize(pairs, 4)
    return spark.createDataFrame(rows, "features array<double>, label double").cache()


def fingerprint(values) -> str:
    """Return a hash of the bits of some numbers."""
    return hashlib.sha256(np.ascontiguousarray(values, np.float64).tobytes()).hexdigest()


def block_files(local_dir: str) -> list[str]:
    """Return what sparknn has of blocks under `local_dir`; the zip it ships is none."""
    found = (path for path in Path(local_dir).rglob("sparknn-*") if path.suffix != ".zip")
    return sorted(map(str, found))


def executors() -> list[int]:
    """Return the process ids of the executors that this process's own JVM has started."""
    listed = subprocess.run(
        ["ps", "-Aww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    processes = {}
    for line in listed.stdout.splitlines():
        pid, parent, *command = line.split(None, 2)
        processes[int(pid)] = int(parent), "".join(command)
    ours, new = set(), {os.getpid()}
    while new:
        ours |= new
        new = {pid for pid, (parent, _) in processes.items() if parent in ours} - ours
    return sorted(pid for pid in ours if "CoarseGrainedExecutorBackend" in processes[pid][1])
