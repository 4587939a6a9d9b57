"""--explain: what a training job would do, told before it does it.

Only the schema, the first rows and the sizes of the files are looked at. Times and memory are
estimates: from counts of operations, and from one matrix product measured on the driver.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.ml import Estimator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.blocks import SMALL_PARTITION
from sparknn.cli.checking import Rules, is_word
from sparknn.cli.estimates import (
    Shape,
    Stage,
    multiplication_rate,
    round_seconds,
    stages_of,
    worker_bytes,
)
from sparknn.cli.session import say
from sparknn.cluster import Cluster
from sparknn.persistence import path_on
from sparknn.schema import feature_shape, quoted

__all__ = ["Counted", "classes_seen", "count_rows", "explain_training"]

LABELS_LOOKED_AT = 10_000
LINES_LOOKED_AT = 1000
SMALL_TEXT = 64 * 2**20
"""Bytes of text up to which rows are counted, and not estimated from the first ones."""


@dataclass(frozen=True)
class Counted:
    """How many rows an input has: exactly, or about."""

    rows: int
    exact: bool

    def __str__(self) -> str:
        return f"{'' if self.exact else 'about '}{self.rows:,} rows"


def count_rows(data: DataFrame, path: str, kind: str | None, share: float = 1) -> Counted:
    """Count the rows where that is cheap; else estimate them from the size of the text.

    share: of the rows, where others are held out: about so many.
    """
    session = data.sparkSession
    size, names = _listed(session, path)
    if kind == "parquet" or any(".parquet" in name for name in names) or size <= SMALL_TEXT:
        return Counted(round(share * data.count()), share == 1)
    first = session.read.text(path).limit(LINES_LOOKED_AT)
    (mean,) = first.agg(F.avg(F.octet_length("value"))).first() or (None,)
    return Counted(round(share * size / ((mean or 0) + 1)), False)


def _listed(session: SparkSession, path: str) -> tuple[int, list[str]]:
    """Return the bytes of all files at a path or glob, and the names of what is found first."""
    try:
        system, where = path_on(session, path)
        found = system.globStatus(where) or []
        size = sum(system.getContentSummary(status.getPath()).getLength() for status in found)
        names = [file.getPath().getName() for s in found for file in system.listStatus(s.getPath())]
    except Py4JJavaError:
        # Not for the sake of an estimate: reading it says what is wrong.
        return 0, []
    return size, names


def classes_seen(data: DataFrame, label: str) -> int:
    """Return how many classes the labels of the first rows are, two or more."""
    column = F.col(quoted(label))
    first = data.select(column.alias("label")).limit(LABELS_LOOKED_AT)
    if is_word(data, label):
        found = first.distinct().count()
    else:
        (highest,) = first.agg(F.max(F.col("label").cast("double"))).first() or (None,)
        # What is no class at all is said by the job itself.
        found = int(highest or 0) + 1
    return max(2, found)


def explain_training(
    name: str,
    estimator: Estimator,
    data: DataFrame,
    rules: Rules,
    counted: Counted,
    hidden: list[int],
) -> dict[str, Any]:
    """Say what would be trained, and return the closing JSON object.

    rules: of the rows, with their width and the classes seen. hidden: sizes of hidden layers.
    """
    cluster = Cluster(data.sparkSession)
    outputs = 1 if rules.classes is None else max(2, rules.classes)
    stages = stages_of(estimator, rules.width, outputs, hidden)
    shape = _shape(cluster, estimator, data, counted.rows)
    block_bytes = _row_bytes(data, rules) * shape.block_rows
    tasks = math.ceil(min(shape.cores, shape.partitions) / max(1, cluster.executors))
    memory = tasks * max(map(worker_bytes, stages))
    disk = math.ceil(block_bytes * shape.partitions / max(1, cluster.executors))
    kind = type(estimator).__name__
    parameters = stages[-1].parameters
    classes = "" if rules.classes is None else f", {outputs} classes seen"
    say(f"{kind}: {rules.width} features{classes}; layers {_dashed(stages[-1].sizes)}")
    say(f"{parameters:,} parameters")
    blocks = f"{shape.partitions} block{'s' if shape.partitions > 1 else ''}"
    say(f"{counted} in {blocks}, one per partition, each of "
        f"{shape.block_rows:,} rows and {_size(block_bytes)}")  # fmt: skip
    say(f"on each of {max(1, cluster.executors)} executors: about {_size(memory)} of memory for "
        f"Python in {tasks} tasks, {_size(disk)} of disk for blocks (fastest where as much memory "
        "is free for its cache)")  # fmt: skip
    told = [_told(stage, shape, cluster.threads) for stage in stages]
    say("estimates, from counts of operations and a matrix product measured on this machine; "
        "nothing was trained")  # fmt: skip
    return {
        "job": name,
        "explain": True,
        "model": kind,
        "features": rules.width,
        **({} if rules.classes is None else {"classes": outputs}),
        "layers": stages[-1].sizes,
        "parameters": parameters,
        "rows": counted.rows,
        "rowsExact": counted.exact,
        "partitions": shape.partitions,
        "blocksPerPartition": 1,
        "rowsPerBlock": shape.block_rows,
        "bytesPerBlock": block_bytes,
        "memoryPerExecutor": memory,
        "diskPerExecutor": disk,
        "stages": told,
    }


def _shape(cluster: Cluster, estimator: Any, data: DataFrame, rows: int) -> Shape:
    """Return how many blocks the rows will be in, by the rules of packing."""
    cluster.prepare()
    wanted = estimator._partitions or cluster.cores
    sources = data.rdd.getNumPartitions()
    few = not estimator._partitions and sources < wanted and rows < SMALL_PARTITION * wanted
    return Shape(rows, sources if few else wanted, cluster.cores)


def _row_bytes(data: DataFrame, rules: Rules) -> int:
    """Return the bytes of a row in a block."""
    columns = 4 * sum(name is not None for name in (rules.table.label, rules.table.weight))
    if rules.table.vector(data):
        shape = feature_shape(data, rules.table.features[0])
        if shape.sparse:
            return shape.row_bytes + columns
    return 4 * rules.width + columns


def _told(stage: Stage, shape: Shape, threads: int) -> dict[str, Any]:
    """Say how a stage goes, and return it as JSON."""
    rate = multiplication_rate(stage, threads)
    seconds, rounds = round_seconds(stage, shape, rate), shape.rounds(stage)
    unit = "iteration" if stage.local_steps is None else "epoch"
    say(f"{stage.name}: about {seconds:.2g} s a round, {rounds} to the {unit}, at most "
        f"{stage.passes} of these: {seconds * rounds * stage.passes:.2g} s")  # fmt: skip
    return {
        "name": stage.name,
        "layers": stage.sizes,
        "operationsPerRow": stage.operations,
        "operationsPerSecond": round(rate),
        "roundsPerEpoch": rounds,
        "epochs": stage.passes,
        "secondsPerRound": float(f"{seconds:.3g}"),
    }


def _dashed(sizes: list[int]) -> str:
    return "-".join(map(str, sizes))


def _size(count: float) -> str:
    """Return bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
