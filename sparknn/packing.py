"""The tasks that pack: rows in, one block file per partition out.

Rows are packed where they are, or dealt out first: keyed in their own partition, sent through
Spark's shuffle by their key, and written where they arrive, in the order of the keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import RDD, TaskContext
from pyspark.serializers import BatchedSerializer, CPickleSerializer
from pyspark.sql import DataFrame, SparkSession

from sparknn.blockfiles import Block, BlockWriter, DiskFull, Packed, Summary
from sparknn.cluster import Cluster
from sparknn.dealing import SparseSpool, Spool, fingerprint, row_keys
from sparknn.readers import Read
from sparknn.rows import Faults, Layout, Parser, Window
from sparknn.sparse import SparseRows
from sparknn.sparsefiles import SparseWriter

__all__ = ["Packer", "Source", "block_directory", "nothing_packed"]

BATCH_BYTES = 8 * 2**20
BATCH_ROWS = 1000
"""A batch of rows on its way from the JVM, where their width is known and where it is not."""

SPARSE_ROWS = 4000
"""Rows of a batch at the most where a few of the first tell how large sparse ones are."""

ONE = BatchedSerializer(CPickleSerializer(), 1)
"""Of RDDs of descriptors: one at a time, so that rounds can zip them with what else they send."""

RECORD = "packed binary"
DEALT = "key bigint, row binary, packed binary"


@dataclass(frozen=True)
class Source:
    """What to pack and how.

    layout: what the columns are. compare: look whether partitions are alike and deal the rows
    anew where they are not, as minibatch training needs. precise: keep float32's precision for a
    column's deviation by subtracting an offset, and add up moments. deal: deal the rows out anew
    in any case, so that no block is larger than the others.
    """

    layout: Layout
    compare: bool = False
    precise: bool = False
    seed: int = 0
    deal: bool = False


class Packer:
    """The functions that run in the tasks, and the RDDs that they make.

    read: what makes rows of the batches that tasks are given, where those are not rows already;
    an RDD holds such batches then, too.
    """

    def __init__(self, source: Source, directory: str, read: Read | None = None):
        self.source, self.directory, self.read = source, directory, read

    @property
    def dtype(self) -> type:
        """In what rows travel: float64 as long as an offset may have to be subtracted."""
        offset = self.source.precise and not self.source.layout.sparse
        return np.float64 if offset else np.float32

    def in_place(self, rows: DataFrame | RDD) -> RDD:
        """Return the RDD that packs each partition where it is."""
        if isinstance(rows, RDD):
            return rows.mapPartitionsWithIndex(self._pack_objects)
        rows = _in_small_batches(rows, self.source.layout)
        return _descriptors(rows.mapInArrow(self._pack_batches, RECORD))

    def dealt(self, cluster: Cluster, rows: DataFrame | RDD, partitions: int) -> RDD:
        """Return the RDD that deals all rows out to `partitions` blocks by their keys."""
        if isinstance(rows, RDD):
            keyed = cluster.session.createDataFrame(
                rows.mapPartitionsWithIndex(self._key_objects), DEALT
            )
        else:
            rows = _in_small_batches(rows, self.source.layout)
            keyed = rows.mapInArrow(self._key_batches, DEALT)
        dealt = _in_small_batches(keyed.repartition(partitions, "key"), self.source.layout)
        return _descriptors(dealt.mapInArrow(self._assemble, RECORD))

    def looked_at(self, rows: DataFrame) -> RDD:
        """Return the RDD that checks each partition's rows and writes nothing."""
        rows = _in_small_batches(rows, self.source.layout)
        return _descriptors(rows.mapInArrow(self._look, RECORD))

    def _parser(self) -> Parser:
        return Parser(self.source.layout, self.dtype)

    def _windows(self, parser: Parser, batches: Iterable[pa.RecordBatch]) -> Iterator[Window]:
        if self.read is None:
            return parser.batches(batches)
        return parser.matrices(self.read(batches, parser.notes), _batch_rows(self.source.layout))

    def _writer(self, partition: int) -> BlockWriter:
        layout = self.source.layout
        return (SparseWriter if layout.sparse else BlockWriter)(
            block_directory(self.directory, partition),
            f"{partition}-{TaskContext.get().taskAttemptId()}",
            len(layout.targets),
            layout.weight is not None,
            self.source.precise,
            self.source.precise,
        )

    def _write_valid(self, partition: int, parser: Parser, windows: Iterable) -> Packed:
        """Write the windows of a parser; after the first invalid row only count on."""
        rows = (rows for _, rows in windows if self.source.layout.skip or not parser.faults.entries)
        return self._write(partition, rows, lambda: _report(partition, parser))

    def _write(self, partition: int, windows: Iterable, report: Callable[[], Summary]) -> Packed:
        """Write windows of rows to a block; `report` is called once they are all there."""
        try:
            with self._writer(partition) as writer:
                for rows in windows:
                    writer.add(rows)
                classes = self.source.layout.classes is not None
                return writer.finish(report(), classes, self.source.compare)
        except DiskFull as problem:
            return replace(nothing_packed(), problem=str(problem))

    def _look(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parser = self._parser()
        for _ in parser.batches(batches):
            pass
        report = _report(TaskContext.get().partitionId(), parser)
        yield _record(replace(nothing_packed(), summaries=[report]))

    def _pack_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parser = self._parser()
        partition = TaskContext.get().partitionId()
        yield _record(self._write_valid(partition, parser, self._windows(parser, batches)))

    def _pack_objects(self, partition: int, objects: Iterable) -> Iterator[Packed]:
        parser = self._parser()
        labelled = bool(self.source.layout.targets)
        if self.read is None:
            windows = parser.objects(objects, labelled)
        else:
            windows = self._windows(parser, objects)
        yield self._write_valid(partition, parser, windows)

    def _key_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parser = self._parser()
        partition = TaskContext.get().partitionId()
        sent = 0
        for positions, rows in self._windows(parser, batches):
            sent += fingerprint(rows)
            yield _keyed_batch(row_keys(self.source.seed, partition, positions), rows)
        yield _keyed_report(_report(partition, parser, sent))

    def _key_objects(self, partition: int, objects: Iterable) -> Iterator[tuple]:
        parser = self._parser()
        labelled = bool(self.source.layout.targets)
        sent = 0
        for positions, rows in parser.objects(objects, labelled):
            sent += fingerprint(rows)
            keys = row_keys(self.source.seed, partition, positions).view(np.int64)
            data, bounds = _encoded(rows)
            for key, (start, stop) in zip(keys.tolist(), pairwise(bounds.tolist()), strict=True):
                yield key, bytearray(data[start:stop]), None
        yield partition, None, bytearray(_pickled(_report(partition, parser, sent)))

    def _assemble(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the rows that were dealt to this partition, in the order of their keys."""
        partition = TaskContext.get().partitionId()
        spool_path = os.path.join(
            block_directory(self.directory, partition),
            f"{partition}-{TaskContext.get().taskAttemptId()}.spool",
        )
        reports: list[Summary] = []
        try:
            with self._spool(spool_path) as spool:
                for batch in batches:
                    self._take_rows(batch, spool, reports)
                arrived = Summary(-1, 0, Faults(), fingerprint=-spool.fingerprint)
                packed = self._write(partition, spool.windows(), lambda: arrived)
        except DiskFull as problem:
            packed = replace(nothing_packed(), problem=str(problem))
        yield _record(replace(packed, summaries=packed.summaries + reports))

    def _spool(self, path: str) -> Spool:
        layout = self.source.layout
        if not layout.sparse:
            return Spool(path, self.dtype)
        others = len(layout.targets) + (layout.weight is not None)
        return SparseSpool(path, layout.width or 0, others)

    def _take_rows(self, batch: pa.RecordBatch, spool: Spool, reports: list) -> None:
        """Spool the rows of a dealt batch and set the source partitions' reports aside."""
        is_row = batch.column(1).is_valid().to_numpy(zero_copy_only=False)
        keys = batch.column(0).to_numpy()[is_row].view(np.uint64)
        for index in np.flatnonzero(~is_row):
            reports.append(_serializer.loads(batch.column(2)[index].as_py()))
        rows = batch.column(1).drop_null()
        if not len(rows):
            return
        if not self.source.layout.sparse:
            # Rows of another width stop the fit on the driver, which knows all reports.
            same = pc.equal(pc.binary_length(rows), pc.binary_length(rows)[0])
            rows, keys = rows.filter(same), keys[same.to_numpy(zero_copy_only=False)]
        spool.add(keys, spool.decoded(*_content(rows)))


def _in_small_batches(rows: DataFrame, layout: Layout) -> DataFrame:
    """Return the same rows, which Spark will hand over in batches of a few megabytes.

    Its default, 10,000 rows, leaves the cache from some hundred columns on (measured at 784:
    less than half the speed), and at many thousand columns the JVM's memory. The size is a
    setting of the session that plans, so they are planned in a copy of theirs: other threads may
    be using that one.
    """
    wanted = _batch_rows(layout)
    setting = "spark.sql.execution.arrow.maxRecordsPerBatch"
    session = rows.sparkSession
    usual = int(session.conf.get(setting))
    copy = session._jsparkSession.cloneSession()
    copy.conf().set(setting, str(min(wanted, usual) if usual > 0 else wanted))
    plan = rows._jdf.logicalPlan()
    planned = session._jvm.org.apache.spark.sql.classic.Dataset.ofRows(copy, plan)
    return DataFrame(planned, SparkSession(session.sparkContext, copy))


def _batch_rows(layout: Layout) -> int:
    """Return how many rows come together."""
    if layout.sparse:
        return min(max(BATCH_BYTES // max(layout.row_bytes, 1), 1), SPARSE_ROWS)
    if layout.width:
        return min(max(BATCH_BYTES // (8 * layout.width), 1), 10_000)
    return BATCH_ROWS


def _keyed_batch(keys: np.ndarray, rows: np.ndarray | SparseRows) -> pa.RecordBatch:
    """Return rows as one binary value each beside their keys, without a copy per row."""
    data, bounds = _encoded(rows)
    offsets = pa.py_buffer(bounds.astype(np.int32))
    binary = pa.Array.from_buffers(pa.binary(), len(rows), [None, offsets, pa.py_buffer(data)])
    nothing = pa.nulls(len(rows), pa.binary())
    return pa.RecordBatch.from_arrays(
        [pa.array(keys.view(np.int64)), binary, nothing], ["key", "row", "packed"]
    )


def _encoded(rows: np.ndarray | SparseRows) -> tuple[memoryview, np.ndarray]:
    """Return rows as bytes, and where in them each begins and the last one ends, (rows + 1,)."""
    if isinstance(rows, SparseRows):
        words, lengths = rows.encoded()
        return words.data.cast("B"), np.concatenate([[0], 4 * np.cumsum(lengths)])
    data = np.ascontiguousarray(rows)
    return data.data.cast("B"), np.arange(len(rows) + 1) * (rows.shape[1] * rows.itemsize)


def _content(rows: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of binary values, one after another, and the length of each, (rows,)."""
    lengths = pc.binary_length(rows).to_numpy(zero_copy_only=False).astype(np.int64)
    kind = np.int64 if pa.types.is_large_binary(rows.type) else np.int32
    start = int(np.frombuffer(rows.buffers()[1], kind)[rows.offset])
    data = np.frombuffer(rows.buffers()[2], np.uint8) if lengths.any() else np.empty(0, np.uint8)
    return data[start : start + int(lengths.sum())], lengths


def _keyed_report(report: Summary) -> pa.RecordBatch:
    packed = pa.array([_pickled(report)], pa.binary())
    return pa.RecordBatch.from_arrays(
        [pa.array([report.partition], pa.int64()), pa.nulls(1, pa.binary()), packed],
        ["key", "row", "packed"],
    )


def _report(partition: int, parser: Parser, sent: int = 0) -> Summary:
    width = parser.width if parser.kept else None
    return Summary(
        partition, parser.seen, parser.faults, width, fingerprint=sent, notes=parser.notes
    )


_serializer = CPickleSerializer()


def _pickled(value) -> bytes:
    """Serialise as Spark does between its own tasks and the driver."""
    return _serializer.dumps(value)


def _record(packed: Packed) -> pa.RecordBatch:
    """Return a descriptor as an element of an RDD that is sent one at a time, see `ONE`."""
    return pa.RecordBatch.from_arrays([pa.array([_pickled([packed])], pa.binary())], ["packed"])


def _descriptors(records: DataFrame) -> RDD:
    """Return the RDD of what tasks recorded.

    Their bytes are an RDD's elements as they are: to be read and pickled again they would pass
    through a second Python worker in the same task, which takes seconds to start.
    """
    session = records.sparkSession
    binary = session._jvm.org.apache.spark.sql.Encoders.BINARY()
    elements = getattr(records._jdf, "as")(binary).toJavaRDD()
    return RDD(elements, session.sparkContext, ONE)


def block_directory(name: str, partition: int) -> str:
    """Return this fit's directory in one of the executor's own block directories."""
    local = os.environ["SPARK_LOCAL_DIRS"].split(",")
    return os.path.join(local[partition % len(local)], name)


def nothing_packed() -> Packed:
    """Return what packing a partition without rows comes to."""
    return Packed(Block("", 0, 0, 0, False, None, 0), [Summary(-1, 0, Faults())])
