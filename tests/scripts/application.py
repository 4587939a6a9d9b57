"""A Spark application of its own for tests that need one: another master, an end by force.

Each script beside this one is run by `run_script` in a process of its own and prints one line of
JSON. Executors of a cluster get sparknn from sparknn itself: nothing here puts it on their path.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from pyspark.sql import DataFrame, SparkSession


def session(master: str, local_dir: str) -> SparkSession:
    """Start Spark at `master` with its block files under `local_dir`."""
    spark = (
        SparkSession.builder.master(master)
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.python.unix.domain.socket.enabled", "true")
        .config("spark.driver.memory", "1g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.local.dir", local_dir)
        .config("spark.sql.warehouse.dir", f"{local_dir}/warehouse")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("OFF")
    return spark


def digits(spark: SparkSession, path: str, by_label: bool = False) -> DataFrame:
    """Return rows that a test saved as NPZ, in 4 partitions whatever the number of cores."""
    arrays = np.load(path)
    order = np.argsort(arrays["labels"] if by_label else arrays["order"], kind="stable")
    features, labels = arrays["features"][order].tolist(), arrays["labels"][order].tolist()
    rows = spark.sparkContext.parallelize(list(zip(features, labels, strict=True)), 4)
    return spark.createDataFrame(rows, "features array<double>, label double")


def fingerprint(values) -> str:
    """Return a hash of the bits of some numbers."""
    return hashlib.sha256(np.ascontiguousarray(values, np.float64).tobytes()).hexdigest()


def block_files(local_dir: str) -> list[str]:
    """Return what sparknn has of blocks under `local_dir`; the zip it ships is none."""
    found = (path for path in Path(local_dir).rglob("*") if path.suffix != ".zip")
    return [str(path) for path in found if path.name.startswith("sparknn-")]


def executors() -> list[int]:
    """Return the process ids of the executors that this process's own JVM has started."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    processes = [line.split(None, 2) for line in listed.stdout.splitlines()]
    ours, grown = {os.getpid()}, True
    while grown:
        new = {int(pid) for pid, parent, *_ in processes if int(parent) in ours} - ours
        ours |= new
        grown = bool(new)
    return sorted(
        int(pid)
        for pid, _, *args in processes
        if int(pid) in ours and args and "CoarseGrainedExecutorBackend" in args[0]
    )
