"""Blocks made from other blocks on the executors: a layer's outputs are the next one's rows.

No row travels: each task reads its partition's block and writes another. The lineage goes through
the blocks that were read to the rows that those were packed from, so what is lost with an
executor is made again, however many of the files in between are gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pyspark import RDD, Broadcast, TaskContext
from pyspark.serializers import CloudPickleSerializer

from sparknn.blas import blas_threads
from sparknn.blockfiles import Block, BlockWriter, DiskFull, Packed, Summary
from sparknn.blocks import Blocks, require_space, resident
from sparknn.cluster import Cluster, unless_stopped
from sparknn.errors import LostBlockError
from sparknn.eviction import evict
from sparknn.objective import Rows
from sparknn.packing import block_directory, nothing_packed
from sparknn.rows import Faults
from sparknn.sweeping import new_directory, sweep

__all__ = ["MappedBlocks", "mapped"]

logger = logging.getLogger("sparknn")

Mapping = Callable[[Any], np.ndarray]
"""From features, (rows, features), dense or CSR, to (rows, width)."""

CHUNK = 2048
"""Rows that are mapped at a time; always the same, for the bits of products depend on it."""

ATTEMPTS = 5
"""How often it is tried to read blocks whose files are missing."""

_serializer = CloudPickleSerializer()


class MappedBlocks(Blocks):
    """Blocks whose features are a function of other blocks' features.

    They have those blocks' rows, order and weights, and no targets of their own. `source` has to
    stay open as long as these are; its files may be released.
    """

    def __init__(
        self,
        source: Blocks,
        rdd: RDD,
        packed: list[Packed],
        directory: str,
        function: Broadcast,
    ):
        super().__init__(source.cluster, rdd, packed, directory)
        self.source, self._function = source, function

    def evict(self, partitions: list[int], sources: bool) -> None:
        """Drop the descriptors of some partitions, and those of their sources, if so wanted."""
        if sources:
            self.source.evict(partitions, sources)
        super().evict(partitions, sources)

    def close(self, aborted: bool = False) -> None:
        """Delete the block files, and what would be needed to make them again."""
        super().close(aborted)
        with unless_stopped("a broadcast"):
            self._function.destroy()


def mapped(source: Blocks, function: Mapping, name: str = "model") -> MappedBlocks:
    """Return blocks whose features are `function` of the features of `source`.

    Parameters
    ----------
    source : Blocks
        With rows and weights that the new blocks keep.
    function : callable
        From (rows, features) to float (rows, width), row by row; it is sent to the executors, and
        called with chunks of a fixed size.
    name : str
        What the Spark UI calls the model.

    Returns
    -------
    MappedBlocks
        To be closed after use, before `source` is.

    Raises
    ------
    DiskSpaceError
        If an executor's disk is too small.
    LostBlockError
        If blocks of `source` stay missing after they were packed anew several times.
    """
    cluster = source.cluster
    cluster.checkpoint()
    directory = new_directory()
    broadcast = cluster.context.broadcast(_serializer.dumps(function))
    task = _Map(broadcast, directory, cluster.threads)
    rdd = resident(source.rdd.mapPartitionsWithIndex(task))
    try:
        with cluster.described(f"sparknn {name}: the next layer's rows"):
            packed = _collected(cluster, source, rdd)
        return MappedBlocks(source, rdd, packed, directory, broadcast)
    except BaseException:
        sweep(cluster, directory, rdd=rdd, aborted=True)
        with unless_stopped("a broadcast"):
            broadcast.destroy()
        raise


def _collected(cluster: Cluster, source: Blocks, rdd: RDD) -> list[Packed]:
    """Run the mapping; pack anew what it should have read where that is missing."""
    for attempt in range(ATTEMPTS):
        packed = rdd.collect()
        missing = [number for number, item in enumerate(packed) if _is_missing(item.block)]
        if not missing:
            require_space(packed)
            return packed
        logger.warning("packing the blocks of partitions %s again: files missing", missing)
        source.evict(missing, sources=attempt > 0)
        evict(rdd, missing)
        time.sleep(0.2 * attempt)
        cluster.checkpoint()
    raise LostBlockError(
        f"the blocks of partitions {missing} are missing again after {ATTEMPTS} attempts: is "
        "something deleting files under spark.local.dir?"
    )


class _Map:
    """The task that makes one block of another."""

    def __init__(self, function: Broadcast, directory: str, threads: int):
        self.function, self.directory, self.threads = function, directory, threads

    def __call__(self, partition: int, packed: Iterator[Packed]) -> Iterator[Packed]:
        # The iterator is read to its end: a worker that leaves some is thrown away by Spark.
        for item in list(packed):
            yield self._mapped(partition, item)

    def _mapped(self, partition: int, packed: Packed) -> Packed:
        block = packed.block
        if not block.rows:
            # None, or no room for them.
            return replace(nothing_packed(), problem=packed.problem)
        rows = block.open()
        if rows is None:
            return replace(nothing_packed(), block=_nowhere(block))
        function = _serializer.loads(self.function.value)
        name = f"{partition}-{TaskContext.get().taskAttemptId()}"
        folder = block_directory(self.directory, partition)
        try:
            with (
                blas_threads(self.threads),
                BlockWriter(folder, name, 0, block.weighted, moments=True) as writer,
            ):
                for chunk in rows.chunks(CHUNK):
                    writer.add(_row_of_outputs(function, chunk))
                report = Summary(partition, writer.rows, Faults(), writer.features)
                return writer.finish(report, classes=False, compare=False)
        except DiskFull as problem:
            return replace(nothing_packed(), problem=str(problem))


def _row_of_outputs(function: Mapping, rows: Rows) -> np.ndarray:
    """Return the function's values, and the weight where rows have one, side by side."""
    features = rows.features
    if rows.offset is not None and rows.offset.any():
        features = features + rows.offset
    outputs = function(features)
    if rows.weights is None:
        return outputs
    return np.column_stack([outputs, rows.weights])


def _nowhere(block: Block) -> Block:
    """Return the descriptor of a block that could not be made, as its source's file is missing."""
    return Block("", block.rows, block.features, 0, block.weighted, None, 0)


def _is_missing(block: Block) -> bool:
    return block.rows > 0 and not block.path
