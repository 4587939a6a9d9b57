"""Rows that the tasks which pack them read by themselves, without a way through the JVM.

A DataFrame stands for such rows wherever Spark has to have them; packing recognises it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from pyspark import RDD
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

if TYPE_CHECKING:
    from sparknn.blocks import Blocks
    from sparknn.schema import FeatureShape

__all__ = ["Read", "Reader", "frame_of", "reader_of"]

Read = Callable[[Iterable[pa.RecordBatch], list[Any]], Iterator[tuple[np.ndarray, np.ndarray]]]
"""From a partition's batches to rows in their order: features, (rows, features), and what stands
beside them, (rows, others), numbers of any type. None is null. What else is to be known of the
partition, it adds to the list when it has read everything."""


@dataclass(frozen=True)
class Reader:
    """Rows of dense features.

    source: what the tasks are given; its partitions are those of the rows. given: the same batches
    as an RDD, if there is one. read: what tasks make of them; it is sent to the executors.
    features: the name of the features column. others: of the numbers beside them, in their order:
    targets, then the weight where there is one. shape: of the features, what
    `schema.feature_shape` would find. ready: blocks of these rows that are there already, by what
    they were packed for (see `fitting.packed_ahead`).
    """

    source: DataFrame
    given: RDD | None
    read: Read
    features: str
    others: tuple[str, ...]
    shape: FeatureShape
    ready: dict[Any, Blocks] = field(default_factory=dict)

    def close(self) -> None:
        """Delete the blocks that nobody has taken."""
        while self.ready:
            self.ready.popitem()[1].close()


_readers: WeakKeyDictionary[DataFrame, Reader] = WeakKeyDictionary()


def frame_of(reader: Reader, metadata: dict[str, dict[str, Any]] | None = None) -> DataFrame:
    """Return a reader's rows as a DataFrame: the other columns, and a vector of features.

    metadata: of columns, by their names.
    """
    # Here, on the driver: tasks use the rest of this module, and pyspark.ml takes a second to load.
    from pyspark.ml.functions import array_to_vector

    from sparknn.schema import quoted

    names, known = reader.others, metadata or {}
    values = StructField(reader.features, ArrayType(DoubleType()))
    schema = StructType([*(StructField(name, DoubleType()) for name in names), values])
    rows = reader.source.mapInArrow(partial(_batches, read=reader.read, names=schema.names), schema)
    vector = array_to_vector(F.col(quoted(reader.features)))
    columns = [*((name, F.col(quoted(name))) for name in names), (reader.features, vector)]
    frame = rows.select(
        *[column.alias(name, metadata=known.get(name, {})) for name, column in columns]
    )
    _readers[frame] = reader
    return frame


def reader_of(
    data: DataFrame, features: object, targets: tuple[str, ...], weight: str | None
) -> Reader | None:
    """Return the reader of just these columns that a DataFrame stands for, if it does."""
    reader = _readers.get(data)
    wanted = (*targets, weight) if weight else targets
    if reader is None or features != reader.features or wanted != reader.others:
        return None
    return reader


def _batches(
    batches: Iterable[pa.RecordBatch], read: Read, names: list[str]
) -> Iterator[pa.RecordBatch]:
    """Return a partition's rows in Arrow's form; the last of the names is the features'."""
    for features, others in read(batches, []):
        count, width = features.shape
        ends = np.arange(count + 1, dtype=np.int32) * width
        values = pa.array(features.astype(np.float64).ravel())
        columns = [pa.array(column) for column in others.T.astype(np.float64)]
        yield pa.record_batch([*columns, pa.ListArray.from_arrays(pa.array(ends), values)], names)
