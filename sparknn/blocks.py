"""From rows on Spark to resident blocks: each partition packed once, in a file of its executor.

The RDD that is cached holds descriptors only; a round maps the files behind them. So the training
set uses no memory of the JVM, nothing is streamed to Python in a round, and a block that is lost
with its executor is packed again by Spark's own lineage.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyspark import RDD, StorageLevel, TaskContext
from pyspark.errors import PySparkException
from pyspark.serializers import CPickleSerializer
from pyspark.sql import Column, DataFrame

from sparknn.blockfiles import Block, BlockWriter, DiskFull, Packed, Summary
from sparknn.cluster import Cluster
from sparknn.dealing import Spool, alike, row_keys
from sparknn.errors import DiskSpaceError, InvalidDataError
from sparknn.rows import Faults, Layout, Parser

__all__ = ["Blocks", "Source", "inspect", "pack"]

logger = logging.getLogger("sparknn")

_planning = threading.Lock()
"""Held while a session's setting is changed for a plan: other threads may be fitting, too."""

SMALL_PARTITION = 1000
"""Rows below which a partition is not worth a task of its own."""

BATCH_BYTES = 8 * 2**20
BATCH_ROWS = 1000
"""A batch of rows on its way from the JVM, where their width is known and where it is not."""

RECORD = "packed binary"
DEALT = "key bigint, row binary, packed binary"


@dataclass(frozen=True)
class Source:
    """What to pack and how.

    layout: what the columns are. compare: look whether partitions are alike and deal the rows
    anew where they are not, as minibatch training needs. precise: keep float32's precision for a
    column's deviation by subtracting an offset, and add up moments.
    """

    layout: Layout
    compare: bool = False
    precise: bool = False
    seed: int = 0


class Blocks:
    """A packed data set: descriptors on Spark, files on the executors.

    rdd: the cached RDD of `Packed`, one to a partition. packed: the same on the driver.
    rows, features, targets: its sizes. skipped: invalid rows that were left out.
    histogram: (classes,) weight of each class, where targets are class labels.
    """

    def __init__(self, cluster: Cluster, rdd: RDD, packed: list[Packed], directory: str):
        self.cluster, self.rdd, self.packed = cluster, rdd, packed
        self._directory = directory
        blocks = [item.block for item in packed]
        self.rows = sum(block.rows for block in blocks)
        filled = [block for block in blocks if block.rows]
        self.features = filled[0].features if filled else 0
        self.targets = filled[0].targets if filled else 0
        summaries = [summary for item in packed for summary in item.summaries]
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
    def bytes(self) -> int:
        """The size of all block files."""
        return sum(item.block.rows * item.block.columns * 4 for item in self.packed)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each column's weighted mean and deviation, (features,) float64, as MLlib's.

        The deviation is that of a sample, with weightSum - sum(weight^2) / weightSum below.
        """
        parts = [(item.block, s) for item in self.packed for s in item.summaries if s.weight > 0]
        weight = sum(s.weight for _, s in parts)
        if not weight:
            raise InvalidDataError("every row has weight 0: nothing to train on")
        # Blocks have offsets of their own; sums are moved to the first one's before they add up.
        offsets = [np.zeros(self.features) if b.offset is None else b.offset for b, _ in parts]
        origin = offsets[0]
        shifts = [offset - origin for offset in offsets]
        means = [shift + s.sums / s.weight for shift, (_, s) in zip(shifts, parts, strict=True)]
        mean = sum(m * s.weight for m, (_, s) in zip(means, parts, strict=True)) / weight
        squares = sum(
            s.squares - s.sums**2 / s.weight + s.weight * (m - mean) ** 2
            for m, (_, s) in zip(means, parts, strict=True)
        )
        free = weight - sum(s.weight_squares for _, s in parts) / weight
        variance = np.maximum(squares, 0) / free if free > 0 else np.zeros_like(squares)
        return origin + mean, np.sqrt(variance)

    def close(self) -> None:
        """Delete the block files, on all executors, and forget the descriptors."""
        self.rdd.unpersist()
        _sweep(self.cluster, self._directory, {item.block.path for item in self.packed})

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()


def pack(
    cluster: Cluster,
    data: DataFrame | RDD,
    source: Source,
    partitions: int | None = None,
    columns: Sequence[Column] = (),
) -> Blocks:
    """Pack a data set into one resident block per partition.

    Parameters
    ----------
    cluster : Cluster
    data : DataFrame or RDD
        An RDD of (label, features) pairs or LabeledPoints, or of features where the layout has
        no targets.
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
    cluster.prepare()
    directory = f"sparknn-{uuid.uuid4().hex}"
    packer = _Packer(source, directory)
    try:
        with cluster.described("sparknn: packing rows into blocks"):
            return _pack(cluster, data, packer, partitions, columns)
    except BaseException:
        _sweep(cluster, directory, set())
        raise


def _pack(
    cluster: Cluster,
    data: DataFrame | RDD,
    packer: _Packer,
    partitions: int | None,
    columns: Sequence[Column],
) -> Blocks:
    """Pack in place where the partitions serve as they are, else deal the rows out."""
    rows = _selected(data, columns)
    rdd = packer.in_place(rows)
    sources = rdd.getNumPartitions()
    wanted = partitions or cluster.cores
    if sources == wanted or (not partitions and sources < wanted):
        blocks = _collect(cluster, rdd, packer, sources)
        few = not partitions and blocks.rows < SMALL_PARTITION * wanted
        if (sources == wanted or few) and (not packer.source.compare or _alike(blocks)):
            return blocks
        wanted = sources if few else wanted
        blocks.rdd.unpersist()
        _sweep(cluster, packer.directory, {item.block.path for item in blocks.packed})
    dealt = packer.dealt(cluster, rows, wanted)
    return _collect(cluster, dealt, packer, wanted)


def _selected(data: DataFrame | RDD, columns: Sequence[Column]) -> DataFrame | RDD:
    """Return a DataFrame's columns under plain names: two may be the same."""
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

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        partition = TaskContext.get().partitionId()
        parser = Parser(layout)
        for _ in parser.batches(batches):
            pass
        yield _record(replace(_empty(), summaries=[_report(partition, parser)]))

    with cluster.described("sparknn: looking for invalid rows"):
        found = _selected(data, columns).mapInArrow(look, RECORD).rdd.map(_unpickled).collect()
    summaries = [summary for packed in found for summary in packed.summaries]
    if not layout.skip:
        _raise_faults(summaries)
    return sum(summary.seen for summary in summaries)


def _collect(cluster: Cluster, rdd: RDD, packer: _Packer, partitions: int) -> Blocks:
    """Run the packing and check what came of it."""
    cluster.checkpoint()
    rdd = rdd.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        packed = rdd.glom().collect()
        # A partition without rows may have been packed by nobody.
        items = [item[0] if item else _empty() for item in packed]
        _check(items, packer.source.layout)
        blocks = Blocks(cluster, rdd, items, packer.directory)
    except BaseException:
        rdd.unpersist()
        raise
    if blocks.skipped:
        logger.warning(
            "left out %d invalid rows of %d", blocks.skipped, blocks.skipped + blocks.rows
        )
    return blocks


def _empty() -> Packed:
    return Packed(Block("", 0, 0, 0, False, None, 0), [Summary(-1, 0, Faults())])


def _alike(blocks: Blocks) -> bool:
    segments = [s.segments for item in blocks.packed for s in item.summaries]
    return alike([segment for segment in segments if segment is not None])


def _check(packed: list[Packed], layout: Layout) -> None:
    """Raise an error that names what is wrong with the data, if anything is."""
    for item in packed:
        if item.problem:
            raise DiskSpaceError(
                f"not enough disk for the training blocks: {item.problem}. Free some, point "
                "spark.local.dir at a larger disk, or use more executors"
            )
    summaries = [summary for item in packed for summary in item.summaries]
    if not layout.skip:
        _raise_faults(summaries)
    widths = sorted({item.block.features for item in packed if item.block.rows})
    if len(widths) > 1:
        raise InvalidDataError(
            f"column {layout.features!r}: rows differ in width, some hold {widths[0]} values and "
            f"others {widths[-1]}"
        )
    if not widths:
        seen = sum(summary.seen for summary in summaries)
        raise InvalidDataError(
            f"no valid row is left of {seen}" if seen else "the input has no rows"
        )


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


class _Packer:
    """The functions that run in the tasks, and the RDDs that they make."""

    def __init__(self, source: Source, directory: str):
        self.source, self.directory = source, directory

    @property
    def dtype(self) -> type:
        """In what rows travel: float64 as long as an offset may have to be subtracted."""
        return np.float64 if self.source.precise else np.float32

    def in_place(self, rows: DataFrame | RDD) -> RDD:
        """Return the RDD that packs each partition where it is."""
        if isinstance(rows, RDD):
            return rows.mapPartitionsWithIndex(self._pack_objects)
        with _small_batches(rows, self.source.layout):
            return rows.mapInArrow(self._pack_batches, RECORD).rdd.map(_unpickled)

    def dealt(self, cluster: Cluster, rows: DataFrame | RDD, partitions: int) -> RDD:
        """Return the RDD that deals all rows out to `partitions` blocks by their keys."""
        if isinstance(rows, RDD):
            keyed = cluster.session.createDataFrame(
                rows.mapPartitionsWithIndex(self._key_objects), DEALT
            )
        else:
            keyed = rows.mapInArrow(self._key_batches, DEALT)
        dealt = keyed.repartition(partitions, "key")
        with _small_batches(dealt, self.source.layout):
            return dealt.mapInArrow(self._assemble, RECORD).rdd.map(_unpickled)

    def _parser(self) -> Parser:
        return Parser(self.source.layout, self.dtype)

    def _writer(self, partition: int) -> BlockWriter:
        layout = self.source.layout
        return BlockWriter(
            _block_directory(self.directory, partition),
            f"{partition}-{TaskContext.get().taskAttemptId()}",
            len(layout.targets),
            layout.weight is not None,
            self.source.precise,
            self.source.precise,
        )

    def _write(self, partition: int, parser: Parser | None, windows: Iterable) -> Packed:
        """Write windows of rows to a block; after the first invalid row only count on."""
        layout = self.source.layout
        try:
            with self._writer(partition) as writer:
                for rows in windows:
                    if parser is None or layout.skip or not parser.faults.entries:
                        writer.add(rows)
                report = _report(partition, parser) if parser else Summary(-1, 0, Faults())
                return writer.finish(report, layout.classes is not None, self.source.compare)
        except DiskFull as problem:
            return replace(_empty(), problem=str(problem))

    def _pack_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parser = self._parser()
        windows = (rows for _, rows in parser.batches(batches))
        yield _record(self._write(TaskContext.get().partitionId(), parser, windows))

    def _pack_objects(self, partition: int, objects: Iterable) -> Iterator[Packed]:
        parser = self._parser()
        labelled = bool(self.source.layout.targets)
        yield self._write(
            partition, parser, (rows for _, rows in parser.objects(objects, labelled))
        )

    def _key_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parser = self._parser()
        partition = TaskContext.get().partitionId()
        for positions, rows in parser.batches(batches):
            yield _keyed_batch(row_keys(self.source.seed, partition, positions), rows)
        yield _keyed_report(partition, parser)

    def _key_objects(self, partition: int, objects: Iterable) -> Iterator[tuple]:
        parser = self._parser()
        labelled = bool(self.source.layout.targets)
        for positions, rows in parser.objects(objects, labelled):
            keys = row_keys(self.source.seed, partition, positions).view(np.int64)
            for key, row in zip(keys.tolist(), rows, strict=True):
                yield key, bytearray(row.tobytes()), None
        yield partition, None, bytearray(_pickled(_report(partition, parser)))

    def _assemble(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the rows that were dealt to this partition, in the order of their keys."""
        partition = TaskContext.get().partitionId()
        spool_path = os.path.join(
            _block_directory(self.directory, partition),
            f"{partition}-{TaskContext.get().taskAttemptId()}.spool",
        )
        reports: list[Summary] = []
        try:
            with Spool(spool_path, self.dtype) as spool:
                for batch in batches:
                    _take_rows(batch, spool, reports, self.dtype)
                packed = self._write(partition, None, spool.windows())
        except DiskFull as problem:
            packed = replace(_empty(), problem=str(problem))
        yield _record(replace(packed, summaries=packed.summaries + reports))


def _take_rows(batch: pa.RecordBatch, spool: Spool, reports: list, dtype: type) -> None:
    """Spool the rows of a dealt batch and set the source partitions' reports aside."""
    is_row = batch.column(1).is_valid().to_numpy(zero_copy_only=False)
    for index in np.flatnonzero(~is_row):
        reports.append(_serializer.loads(batch.column(2)[index].as_py()))
    rows = batch.column(1).drop_null()
    if len(rows):
        width = len(rows[0].as_py())
        data = np.frombuffer(rows.buffers()[2], np.uint8)
        start = rows.offset * width
        table: np.ndarray = (
            data[start : start + len(rows) * width].view(dtype).reshape(len(rows), -1)
        )
        keys = batch.column(0).to_numpy()[is_row].view(np.uint64)
        spool.add(keys, table)


@contextmanager
def _small_batches(rows: DataFrame, layout: Layout) -> Iterator[None]:
    """Have Spark hand rows over in batches of a few megabytes, for the plans made inside.

    Its default, 10,000 rows, leaves the cache from some hundred columns on (measured at 784:
    less than half the speed), and at many thousand columns the JVM's memory.
    """
    setting = "spark.sql.execution.arrow.maxRecordsPerBatch"
    wanted = BATCH_ROWS
    if layout.width:
        wanted = min(max(BATCH_BYTES // (8 * layout.width), 1), 10_000)
    session = rows.sparkSession
    with _planning:
        before = session.conf.get(setting)
        usual = int(before)
        session.conf.set(setting, str(min(wanted, usual) if usual > 0 else wanted))
        try:
            yield
        finally:
            session.conf.set(setting, before)


def _keyed_batch(keys: np.ndarray, rows: np.ndarray) -> pa.RecordBatch:
    """Return rows as one binary value each beside their keys, without a copy per row."""
    width = rows.shape[1] * rows.itemsize
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * width
    data = pa.py_buffer(np.ascontiguousarray(rows))
    binary = pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(offsets), data])
    nothing = pa.nulls(len(rows), pa.binary())
    return pa.RecordBatch.from_arrays(
        [pa.array(keys.view(np.int64)), binary, nothing], ["key", "row", "packed"]
    )


def _keyed_report(partition: int, parser: Parser) -> pa.RecordBatch:
    report = pa.array([_pickled(_report(partition, parser))], pa.binary())
    return pa.RecordBatch.from_arrays(
        [pa.array([partition], pa.int64()), pa.nulls(1, pa.binary()), report],
        ["key", "row", "packed"],
    )


def _report(partition: int, parser: Parser) -> Summary:
    return Summary(partition, parser.seen, parser.faults)


_serializer = CPickleSerializer()


def _pickled(value) -> bytes:
    """Serialise as Spark does between its own tasks and the driver."""
    return _serializer.dumps(value)


def _unpickled(row) -> Packed:
    return _serializer.loads(bytes(row[0]))


def _record(packed: Packed) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([_pickled(packed)], pa.binary())], ["packed"])


def _block_directory(name: str, partition: int) -> str:
    """Return this fit's directory in one of the executor's own block directories."""
    local = os.environ["SPARK_LOCAL_DIRS"].split(",")
    return os.path.join(local[partition % len(local)], name)


def _sweep(cluster: Cluster, directory: str, paths: set[str]) -> None:
    """Remove a fit's directory from all executors; files that stay go with their executor."""
    folders = {os.path.dirname(path) for path in paths if path}

    def remove(_: int) -> list[str]:
        here = {os.path.join(d, directory) for d in os.environ["SPARK_LOCAL_DIRS"].split(",")}
        for folder in here | folders:
            shutil.rmtree(folder, ignore_errors=True)
        return sorted(here)

    try:
        with cluster.described("sparknn: removing blocks"):
            cluster.everywhere(remove)
    except (PySparkException, OSError) as error:
        # The session itself may be gone, and with it the executors and their directories.
        logger.debug("blocks are left to the end of the session: %s", error)
