"""What the tests of the cluster's floor share: data sets, opened blocks, visitors.

The workers import this module too, so it needs no pytest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from pyspark import RDD
from pyspark.sql import DataFrame, SparkSession

from sparknn.blocks import Blocks, pack
from sparknn.cluster import Cluster
from sparknn.objective import Rows
from sparknn.packing import Packer, Source, block_directory
from sparknn.rounds import Answer
from sparknn.rows import Layout
from sparknn.schema import feature_columns, numeric_column


def frame(spark: SparkSession, parts: list[list], schema) -> DataFrame:
    """Return a DataFrame that has exactly these rows in these partitions."""
    return spark.createDataFrame(in_parts(spark, parts), schema)


def in_parts(spark: SparkSession, parts: list[list]) -> RDD:
    """Return an RDD that has exactly these elements in these partitions."""
    numbered = spark.sparkContext.parallelize(range(len(parts)), len(parts))
    return numbered.flatMap(lambda number: parts[number])


def pack_frame(
    cluster: Cluster,
    data: DataFrame,
    features: str | list[str] = "features",
    targets: tuple[str, ...] = (),
    weight: str | None = None,
    classes: int | None = None,
    partitions: int | None = None,
    skip: bool = False,
    **source,
) -> Blocks:
    """Pack a DataFrame as the estimators do."""
    columns, single = feature_columns(data, features)
    columns += [numeric_column(data, name) for name in targets]
    if weight:
        columns.append(numeric_column(data, weight))
    name = features if isinstance(features, str) else ", ".join(features)
    layout = Layout(name, single, targets, classes, weight, skip=skip)
    return pack(cluster, data, Source(layout, **source), partitions, columns)


def pack_rdd(
    cluster: Cluster,
    data: RDD,
    targets: tuple[str, ...] = ("label",),
    classes: int | None = None,
    partitions: int | None = None,
    skip: bool = False,
    **source,
) -> Blocks:
    """Pack an RDD as `train` does."""
    layout = Layout(targets=targets, classes=classes, skip=skip)
    return pack(cluster, data, Source(layout, **source), partitions)


def tables(blocks: Blocks) -> list[np.ndarray]:
    """Return the rows of each block: features, targets and weight side by side, float64."""
    return [_table(item.block.open(), item.block.targets) for item in blocks.packed]


def _table(rows: Rows, targets: int) -> np.ndarray:
    features = np.array(rows.features, np.float64)
    if rows.offset is not None and len(features):
        features += rows.offset
    parts = [features, rows.targets] if targets else [features]
    if rows.weights is not None:
        parts.append(rows.weights[:, np.newaxis])
    return np.hstack(parts)


def assert_same_rows(blocks: Blocks, expected: np.ndarray, rtol: float = 0) -> None:
    """Assert that the blocks hold these rows, each exactly as often, in whatever order."""
    found = np.vstack([table for table in tables(blocks) if len(table)])
    assert found.shape == expected.shape
    np.testing.assert_allclose(_sorted(found), _sorted(expected), rtol=rtol)


def _sorted(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T[::-1])]


def were_dealt(blocks: Blocks) -> bool:
    """Return whether the rows were dealt out anew rather than packed where they were."""
    return any(item.summaries[0].partition < 0 for item in blocks.packed if item.block.rows)


def paths(blocks: Blocks) -> dict[int, str]:
    """Return each partition's block file as the cached descriptors have it now."""
    described = blocks.rdd.mapPartitionsWithIndex(
        lambda partition, packed: [(partition, item.block.path) for item in packed]
    )
    return dict(described.collect())


class FullDisk(Packer):
    """A packer in whose tasks for partition 1 the disk is full."""

    def _is_full(self, partition):
        return partition == 1

    def _write(self, partition, parser, windows):
        from sparknn import blockfiles

        reserve = blockfiles.RESERVE_BYTES
        if self._is_full(partition):
            blockfiles.RESERVE_BYTES = 2**62
        try:
            return super()._write(partition, parser, windows)
        finally:
            blockfiles.RESERVE_BYTES = reserve


class FullLater(FullDisk):
    """A packer in whose tasks the disk is full when they run a second time."""

    def _is_full(self, partition):
        folder = Path(block_directory(self.directory, partition))
        been = folder / f"been-{partition}"
        if been.exists():
            return True
        folder.mkdir(parents=True, exist_ok=True)
        been.touch()
        return False


class FullSpool(Packer):
    """A packer whose dealt rows find the disk full while they wait to be ordered."""

    def _assemble(self, batches):
        from sparknn import blockfiles

        reserve, blockfiles.RESERVE_BYTES = blockfiles.RESERVE_BYTES, 2**62
        try:
            yield from super()._assemble(batches)
        finally:
            blockfiles.RESERVE_BYTES = reserve


class Vanishing(Packer):
    """A packer after which somebody deletes the file of partition 1, each time."""

    def _write(self, partition, parser, windows):
        packed = super()._write(partition, parser, windows)
        if partition == 1:
            os.remove(packed.block.path)
        return packed


class Mixed:
    """A visitor whose vectors differ so much in size that the order of a sum shows in its bits."""

    def __init__(self, size: int):
        self.size = size

    def __call__(self, parameters, task, partition, rows: Rows, state) -> Answer:
        weight = float(rows.features.sum(dtype=np.float64))
        return Answer(weight, self.vector(parameters, task, partition), loss=partition + 0.25)

    def vector(self, parameters, task, partition) -> np.ndarray:
        random = np.random.default_rng((task, partition))
        draws = random.normal(size=self.size) * 10.0 ** random.integers(-12, 12, self.size)
        return (draws + np.resize(parameters, self.size)).astype(np.float32)


class Counting:
    """A visitor that keeps, per partition, how many rows it has seen so far."""

    def __call__(self, parameters, task, partition, rows: Rows, state) -> Answer:
        seen = (state or 0) + len(rows.features)
        return Answer(1.0, np.array([float(seen)]), state=seen)


class Slow:
    """A visitor that takes five minutes."""

    def __call__(self, parameters, task, partition, rows: Rows, state) -> Answer:
        time.sleep(300)
        return Answer(1.0, np.ones(len(parameters)))


class Weightless:
    """A visitor in whose eyes no row counts."""

    def __call__(self, parameters, task, partition, rows: Rows, state) -> Answer:
        return Answer(0.0, np.ones(len(parameters)))


class Failing:
    """A visitor that fails when told to."""

    def __call__(self, parameters, task, partition, rows: Rows, state) -> Answer:
        if task == "fail":
            raise RuntimeError("a visitor's own mistake")
        return Answer(1.0, np.ones(len(parameters)))


def mistaken(progress: float) -> float:
    """Fail, as a schedule of step sizes in its first step."""
    raise RuntimeError("a schedule's own mistake")


def modified(files: dict[int, str]) -> dict[int, int]:
    """Return when each file was last written."""
    return {partition: Path(path).stat().st_mtime_ns for partition, path in files.items()}


SCRIPTS = Path(__file__).resolve().parent / "scripts"


def start_script(name: str, *arguments, **environment: str) -> subprocess.Popen:
    """Start a script of `scripts/` in a process group of its own, its output piped.

    Workers of local mode inherit the path on which they find sparknn; executors of a cluster get
    it from sparknn.
    """
    local = name != "killed_executor.py" and "local-cluster[2,1,1024]" not in arguments
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONHASHSEED", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
        and (not key.startswith(("SPARK_", "PYSPARK_")) or key == "SPARK_SUBMIT_OPTS")
    }
    path = {"PYTHONPATH": str(SCRIPTS.parents[1])} if local else {}
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / name), *map(str, arguments)],
        env={**inherited, **path, "PYSPARK_PYTHON": sys.executable, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_script(name: str, *arguments, **environment: str) -> dict:
    """Run a script of `scripts/` and return what it reports."""
    process = start_script(name, *arguments, **environment)
    try:
        output, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])
