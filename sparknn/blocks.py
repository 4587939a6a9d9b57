"""From rows on Spark to resident blocks: each partition packed once, in a file of its executor.

The RDD that is cached holds descriptors only; a round maps the files behind them. So the training
set uses no memory of the JVM, nothing is streamed to Python in a round, and a block that is lost
with its executor is packed again by Spark's own lineage.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pyspark import RDD, StorageLevel
from pyspark.sql import Column, DataFrame

from sparknn.blockfiles import Packed, Summary
from sparknn.cluster import Cluster, unless_stopped
from sparknn.dealing import alike
from sparknn.errors import DiskSpaceError, InvalidDataError, LostBlockError
from sparknn.eviction import evict
from sparknn.packing import ONE, Packer, Source, nothing_packed
from sparknn.readers import Reader
from sparknn.rows import WIDEST, Layout, better_sparse, pair
from sparknn.sweeping import new_directory, sweep
from sparknn.vectors import mean_stored

__all__ = ["Blocks", "check_packed", "inspect", "pack", "require_space", "resident"]

logger = logging.getLogger("sparknn")

LOOKED_AT = 200
"""Elements of an RDD that show whether its vectors are sparse."""

SMALL_PARTITION = 1000
"""Rows below which a partition is not worth a task of its own."""


class Blocks:
    """A packed data set: descriptors on Spark, files on the executors.

    rdd: the cached RDD of `Packed`, one to a partition. packed: the same on the driver.
    rows, features, targets: its sizes. weight: the sum of the rows' weights.
    skipped: invalid rows that were left out.
    histogram: (classes,) weight of each class, where targets are class labels.
    found: what `moments` has found out: every setting of a grid asks.
    """

    def __init__(self, cluster: Cluster, rdd: RDD, packed: list[Packed], directory: str):
        self.cluster, self.rdd, self.packed = cluster, rdd, packed
        self._directory = directory
        self.found: dict[str, Any] = {}
        blocks = [item.block for item in packed]
        self.rows = sum(block.rows for block in blocks)
        filled = [block for block in blocks if block.rows]
        self.features = filled[0].features if filled else 0
        self.targets = filled[0].targets if filled else 0
        self.sparse = any(block.sparse for block in filled)
        summaries = [summary for item in packed for summary in item.summaries]
        self.weight = sum(summary.weight for summary in summaries)
        self.skipped = sum(summary.seen for summary in summaries) - self.rows
        histograms = [s.histogram for s in summaries if s.histogram is not None]
        classes = max(map(len, histograms), default=0)
        self.histogram = np.zeros(classes)
        for histogram in histograms:
            self.histogram[: len(histogram)] += histogram

    @property
    def partition_rows(self) -> list[int]:
        """The rows of each partition's block."""
        return [item.block.rows for item in self.packed]

    @property
    def filled(self) -> int:
        """How many partitions have rows."""
        return sum(map(bool, self.partition_rows))

    @property
    def bytes(self) -> int:
        """The size of all block files."""
        return sum(item.block.bytes for item in self.packed)

    def evict(self, partitions: list[int], sources: bool) -> None:
        """Drop the descriptors of some partitions, so that Spark makes their blocks anew.

        sources: for blocks that were made from others, also drop those they were made from.
        """
        evict(self.rdd, partitions)

    def release(self) -> None:
        """Delete the block files that other blocks were made from; those stay recomputable.

        To be closed all the same: what is made again on the way leaves files again.
        """
        paths = {item.block.path for item in self.packed}
        sweep(self.cluster, self._directory, paths, self.rdd)

    def close(self, aborted: bool = False) -> None:
        """Delete the block files, on all executors, and forget the descriptors.

        aborted: tasks may still be running, of a job that failed or was cancelled.
        """
        paths = {item.block.path for item in self.packed}
        sweep(self.cluster, self._directory, paths, self.rdd, aborted)

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close(aborted=kind is not None)


def pack(
    cluster: Cluster,
    data: DataFrame | RDD | Reader,
    source: Source,
    partitions: int | None = None,
    columns: Sequence[Column] = (),
) -> Blocks:
    """Pack a data set into one resident block per partition.

    Parameters
    ----------
    cluster : Cluster
    data : DataFrame, RDD or Reader
        An RDD of (label, features) pairs or LabeledPoints, or of features where the layout has
        no targets. A Reader's rows are what the layout says.
    source : Source
    partitions : int, optional
        By default one per core, or fewer where there are few rows.
    columns : sequence of Column
        For a DataFrame: features, targets, weight, in this order (see `schema`).

    Returns
    -------
    Blocks
        To be closed after use.

    Raises
    ------
    InvalidDataError
        If rows are invalid, differ in width, or there are none.
    DiskSpaceError
        If an executor's disk is too small.
    """
    if isinstance(data, RDD):
        source = replace(source, layout=_looked_at(cluster, data, source.layout))
    _require_narrow(source.layout)
    cluster.prepare()
    directory = new_directory()
    in_place = rows = _selected(data, columns)
    packer = Packer(source, directory, data.read if isinstance(data, Reader) else None)
    if isinstance(data, Reader) and data.given is not None:
        in_place = data.given
    try:
        with cluster.described("sparknn: packing rows into blocks"):
            return _pack(cluster, rows, packer.in_place(in_place), packer, partitions)
    except BaseException:
        sweep(cluster, directory, aborted=True)
        raise


def _pack(
    cluster: Cluster, rows: DataFrame | RDD, rdd: RDD, packer: Packer, partitions: int | None
) -> Blocks:
    """Pack in place where the partitions serve as they are, else deal the rows out.

    rdd: what packs them in place.
    """
    sources = rdd.getNumPartitions()
    wanted = partitions or cluster.cores
    in_place = sources == wanted or (not partitions and sources < wanted)
    if in_place and not packer.source.deal:
        blocks = _collect(cluster, rdd, packer, sources)
        few = not partitions and blocks.rows < SMALL_PARTITION * wanted
        if (sources == wanted or few) and (not packer.source.compare or _alike(blocks)):
            return blocks
        wanted = sources if few else wanted
        blocks.close()
    dealt = packer.dealt(cluster, rows, wanted)
    return _collect(cluster, dealt, packer, wanted)


def _looked_at(cluster: Cluster, data: RDD, layout: Layout) -> Layout:
    """Return the layout of an RDD, sparse where its first elements are better kept so."""
    with cluster.described("sparknn: looking at the first rows"):
        elements = data.take(LOOKED_AT)
    width, stored, size = mean_stored(
        [pair(element)[1] if layout.targets else element for element in elements]
    )
    if not better_sparse(layout.width or width, stored):
        return layout
    if layout.width is None:
        layout = replace(layout, width=width, standard="the first row is")
    return replace(layout, sparse=True, row_bytes=max(int(size), 1))


def _require_narrow(layout: Layout) -> None:
    if layout.width and layout.width > WIDEST and not layout.sparse:
        raise InvalidDataError(
            f"column {layout.features!r} is {layout.width} values wide. Only vectors may be: other "
            f"rows are stored dense, and more than {WIDEST} values to a row would exhaust the "
            "executors' memory; hash them into fewer columns (FeatureHasher), or "
            "select some"
        )


def _selected(data: DataFrame | RDD | Reader, columns: Sequence[Column]) -> DataFrame | RDD:
    """Return a DataFrame's columns under plain names: two may be the same."""
    if isinstance(data, Reader):
        return data.source
    if isinstance(data, RDD):
        return data
    return data.select(*[column.alias(f"c{place}") for place, column in enumerate(columns)])


def inspect(cluster: Cluster, data: DataFrame, layout: Layout, columns: Sequence[Column]) -> int:
    """Look for invalid rows without packing any, and return how many rows there are.

    For what is computed from the rows before they are packed, such as a scaler: one NaN among
    them would spoil it, and every row after it.

    Raises InvalidDataError as `pack` does.
    """
    cluster.prepare()
    packer = Packer(Source(layout), "")
    with cluster.described("sparknn: looking for invalid rows"):
        found = packer.looked_at(_selected(data, columns)).collect()
    summaries = [summary for packed in found for summary in packed.summaries]
    if not layout.skip:
        _raise_faults(summaries)
    return sum(summary.seen for summary in summaries)


def _collect(cluster: Cluster, rdd: RDD, packer: Packer, partitions: int) -> Blocks:
    """Run the packing and check what came of it."""
    cluster.checkpoint()
    rdd = resident(rdd)
    try:
        items = rdd.collect()
        if len(items) < partitions:
            # Nobody packed what holds no rows.
            bare, rdd = rdd, resident(rdd.mapPartitions(_one))
            items = rdd.collect()
            # A block that is lost is to be packed anew, from the rows.
            bare.unpersist()
        check_packed(items, packer.source.layout)
        blocks = Blocks(cluster, rdd, items, packer.directory)
    except BaseException:
        with unless_stopped("forgetting descriptors"):
            rdd.unpersist()
        raise
    if blocks.skipped:
        logger.warning(
            "left out %d invalid rows of %d", blocks.skipped, blocks.skipped + blocks.rows
        )
    return blocks


def resident(descriptors: RDD) -> RDD:
    """Return an RDD of one descriptor to a partition as one that Spark caches."""
    return descriptors._reserialize(ONE).persist(StorageLevel.MEMORY_AND_DISK)


def _one(packed: Iterator[Packed]) -> Iterator[Packed]:
    """Give every partition its descriptor: one without rows may have been packed by nobody."""
    yield from list(packed) or [nothing_packed()]


def _alike(blocks: Blocks) -> bool:
    segments = [s.segments for item in blocks.packed for s in item.summaries]
    return alike([segment for segment in segments if segment is not None])


def require_space(packed: Iterable[Any]) -> None:
    """Raise DiskSpaceError where an executor's disk was too small for a block: a `problem`."""
    for item in packed:
        if item.problem:
            raise DiskSpaceError(
                f"not enough disk for the training blocks: {item.problem}. Free some, point "
                "spark.local.dir at a larger disk, or use more executors"
            )


def check_packed(packed: list[Packed], layout: Layout) -> None:
    """Raise an error that names what is wrong with the data, if anything is."""
    require_space(packed)
    summaries = [summary for item in packed for summary in item.summaries]
    if not layout.skip:
        _raise_faults(summaries)
    widths = sorted({s.width for s in summaries if s.width is not None})
    if len(widths) > 1:
        raise InvalidDataError(
            f"column {layout.features!r}: rows differ in width, some hold {widths[0]} values and "
            f"others {widths[-1]}"
        )
    if sum(summary.fingerprint for summary in summaries) % 2**64:
        raise LostBlockError(
            "rows came out twice, or not at all, when a task that deals them was run again: the "
            "input has no fixed order (an unordered shuffle); cache or save it before training"
        )
    if not widths:
        seen = sum(summary.seen for summary in summaries)
        raise InvalidDataError(
            f"no valid row is left of {seen}" if seen else "the input has no rows"
        )
    if not sum(summary.weight for summary in summaries):
        raise InvalidDataError(f"column {layout.weight!r}: every row has weight 0, none counts")


def _raise_faults(summaries: list[Summary]) -> None:
    """Raise an error for the first invalid column; rows are numbered through all partitions."""
    found: dict[tuple[str, str], list] = {}
    before = 0
    for summary in sorted(summaries, key=lambda summary: summary.partition):
        for key, (count, position, example) in summary.faults.entries.items():
            entry = found.setdefault(key, [0, before + position, example])
            entry[0] += count
        before += summary.seen
    if not found:
        return
    complaints = []
    for (column, reason), (count, row, example) in found.items():
        value = f" ({example})" if example else ""
        verb = "row is" if count == 1 else "rows are"
        complaints.append(
            f"column {column!r}: {count} {verb} {reason}; the first is row {row}{value}"
        )
    raise InvalidDataError(
        ". ".join(complaints)
        + ". Rows count from 0. Mend the rows, or set handleInvalid='skip' to leave them out"
    )
