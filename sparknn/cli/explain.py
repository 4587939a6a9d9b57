"""--explain: what a training job would do, told before it does it.

Rows are read to know what columns are, and counted; their values are not checked. Times and memory
are estimates: from counts of operations, and from one matrix product measured on the driver.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pyspark.ml import Estimator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.blocks import SMALL_PARTITION
from sparknn.cli.checking import Rules
from sparknn.cli.encoding import Recipe
from sparknn.cli.estimates import (
    Shape,
    Stage,
    multiplication_rate,
    round_seconds,
    stages_of,
    worker_bytes,
)
from sparknn.cli.preparation import label_indexer, number_of_classes
from sparknn.cli.session import say
from sparknn.cluster import Cluster
from sparknn.schema import feature_shape, quoted

__all__ = ["Counted", "classes_seen", "count_rows", "explain_training", "width_seen"]

ROWS_LOOKED_AT = 10_000
"""For words: those of labels and categories."""


@dataclass(frozen=True)
class Counted:
    """How many rows an input has: exactly, or about."""

    rows: int
    exact: bool

    def __str__(self) -> str:
        return f"{'' if self.exact else 'about '}{self.rows:,} rows"


def count_rows(data: DataFrame, share: float = 1) -> Counted:
    """Count rows; of those of which others are held out, it is about this share."""
    return Counted(round(share * data.count()), share == 1)


def width_seen(data: DataFrame, rules: Rules, recipe: Recipe) -> int:
    """Return how many features rows have when bins and categories are a column each.

    Categories are those of the first rows.
    """
    width = rules.width - len(recipe.bins)
    for _, bounds in recipe.bins:
        width += bounds if isinstance(bounds, int) else len(bounds) + 1
    more = 1 if recipe.unseen == "keep" else 0
    for name in rules.table.categories:
        first = data.select(F.col(quoted(name))).limit(ROWS_LOOKED_AT)
        width += first.distinct().count() + more
    return width


def classes_seen(data: DataFrame, label: str) -> int:
    """Return how many classes the labels of the first rows are, two or more."""
    first = data.select(F.col(quoted(label))).limit(ROWS_LOOKED_AT)
    return max(2, number_of_classes(first, label, label_indexer(first, label)))


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
    shape = _shape(cluster, estimator, data, counted.rows)
    stages = stages_of(estimator, rules.width, outputs, hidden, shape.partitions)
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
    unit = "iteration" if stage.minibatch is None else "epoch"
    say(f"{stage.name}: about {seconds:.2g} s a round, {rounds:.4g} to the {unit}, at most "
        f"{stage.passes} of these: {seconds * rounds * stage.passes:.2g} s")  # fmt: skip
    return {
        "name": stage.name,
        "layers": stage.sizes,
        "operationsPerRow": stage.operations,
        "operationsPerSecond": round(rate),
        "roundsPerEpoch": float(f"{rounds:.4g}"),
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
