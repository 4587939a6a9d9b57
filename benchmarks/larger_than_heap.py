"""A training set larger than the JVM's heap: packing it, passing over it, and a worker's memory.

    python benchmarks/larger_than_heap.py --rows 1000000

Rows of 784 random columns are made on the fly, in a Spark of two cores and 1 GB of heap; a
million of them are 3.1 GB of float32. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from statistics import median

import click
import numpy as np
import pyarrow as pa
from local import local_session
from pyspark.sql import DataFrame, SparkSession

from sparknn.blocks import pack
from sparknn.cluster import Cluster
from sparknn.objective import Rows
from sparknn.packing import Source
from sparknn.rounds import Answer, Rounds
from sparknn.rows import Layout
from sparknn.schema import feature_columns

COLUMNS = 784
BATCH = 1000


def random_rows(session: SparkSession, rows: int, partitions: int) -> DataFrame:
    """Return a DataFrame of (rows, 784) random numbers in arrays."""

    def make(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                count = min(BATCH, batch.num_rows - start)
                values = np.random.default_rng(start).random(count * COLUMNS)
                offsets = pa.array(np.arange(count + 1, dtype=np.int32) * COLUMNS)
                column = pa.ListArray.from_arrays(offsets, pa.array(values))
                yield pa.RecordBatch.from_arrays([column], ["features"])

    return session.range(0, rows, 1, partitions).mapInArrow(make, "features array<double>")


class Pass:
    """Reads every value of a block once, and reports the worker's own memory."""

    def __call__(self, parameters, task, partition: int, rows: Rows, state) -> Answer:
        total = np.zeros(COLUMNS)
        for start in range(0, len(rows.features), 4096):
            total += rows.features[start : start + 4096].sum(axis=0)
        with open("/proc/self/status") as status:
            own = next(line for line in status if line.startswith("RssAnon"))
        return Answer(1.0, total, state=(os.getpid(), int(own.split()[1]) / 1024))


@click.command(help=__doc__)
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--partitions", default=8, show_default=True)
def main(rows: int, partitions: int) -> None:
    """Pack, pass over the blocks five times, print a line of JSON."""
    with local_session(2, "1g") as session:
        data = random_rows(session, rows, partitions)
        columns, _ = feature_columns(data, "features")
        began = time.perf_counter()
        with pack(Cluster(session), data, Source(Layout()), partitions, columns) as blocks:
            packing = time.perf_counter() - began
            seconds, memory = [], []
            with Rounds(blocks, Pass()) as rounds:
                for _ in range(5):
                    outcome = rounds.run(np.zeros(1), None, "a pass over the blocks")
                    seconds.append(outcome.compute + outcome.other)
                    memory.append(max(own for _, own in rounds.states.values()))
            result = {
                "GB": round(blocks.bytes / 1e9, 2),
                "packing_MB_per_s": round(blocks.bytes / packing / 1e6),
                "pass_s": [round(each, 2) for each in seconds],
                "pass_GB_per_s": round(blocks.bytes / median(seconds) / 1e9, 2),
                "worker_MB_after_each_pass": [round(each) for each in memory],
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
