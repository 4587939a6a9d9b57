"""How fast a CSV of numbers becomes resident blocks, beside spark.read.csv, on one machine.

    PYTHONPATH=. python benchmarks/csv_files.py [--rows 60000] [--columns 785] [--cores 2]

From a path to the blocks is all that `train_mlp` does before its first round, the look at every
cell included. spark.read.csv is told the types and keeps nothing (Spark's `noop` sink). MB are of
text; everything is run several times in turn, after a first time to warm up, and medians are shown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import pyarrow as pa
from local import local_session
from pyarrow import csv
from pyspark.sql import DataFrame, SparkSession

from sparknn.classification import MultilayerPerceptronClassifier
from sparknn.cli.column_kinds import Column
from sparknn.cli.encoding import Recipe
from sparknn.cli.inputs import Reading
from sparknn.cli.lines import Dialect
from sparknn.cli.text_tables import examine, text_table
from sparknn.cli.train import prepared, rows_to_train_on, suited
from sparknn.cli.training_rows import Job
from sparknn.cluster import Cluster
from sparknn.fitting import packed


def write(path: Path, rows: int, columns: int) -> None:
    """Write grey values, half of them 0, in four files; the first column is one of ten labels."""
    random = np.random.default_rng(0)
    path.mkdir()
    for part in range(4):
        values = random.integers(-255, 256, (rows // 4, columns)).clip(0)
        values[:, 0] %= 10
        names = [f"c{index}" for index in range(columns)]
        csv.write_csv(pa.table(list(values.T), names=names), path / f"{part}.csv")


def to_blocks(session: SparkSession, path: Path, schema: str | None = None) -> float:
    """Return the seconds from a path to resident blocks."""
    estimator, hidden = MultilayerPerceptronClassifier(layers=[1, 100, 2], solver="sgd"), [100]
    job = Job(
        path=str(path), label="c0", features=None, validation=0.0, test=None, scale="none",
        output=None, overwrite=False, explain=False, reading=Reading(schema=schema),
        recipe=Recipe(),
    )  # fmt: skip
    began = time.perf_counter()
    rows = rows_to_train_on(session, job, estimator, hidden)
    assert rows.plain
    _, features, data = prepared(rows, rows.training, job)
    suited(estimator, hidden, rows, job, data, features)
    with packed(estimator, Cluster(session), data, estimator._wanted()):
        return time.perf_counter() - began


def elapsed(work: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return run


def swallow(frame: DataFrame) -> None:
    """Compute every row and keep none."""
    frame.write.format("noop").mode("overwrite").save()


@contextmanager
def as_if_remote() -> Iterator[None]:
    """Have the lines of local files come through Spark's text reader, as those of others do."""
    with mock.patch("sparknn.cli.plain_rows.any_packed", lambda session, files: True):
        yield


def compare(session: SparkSession, path: Path, turns: int, ordinary: bool) -> None:
    """Print the rates of all readers."""
    files = sorted(map(str, path.iterdir()))
    size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    with open(files[0]) as file:
        names = file.readline().strip().replace('"', "").split(",")
    print(f"{size:.0f} MB of text, {len(names)} columns")
    ddl = ", ".join(f"{name} INT" for name in names)

    def remotely() -> float:
        with as_if_remote():
            return to_blocks(session, path)

    reader = session.read.option("header", True).schema(ddl)
    runs: dict[str, Callable[[], float]] = {
        "spark.read.csv, types given, no blocks": elapsed(lambda: swallow(reader.csv(files))),
        "from path to blocks": lambda: to_blocks(session, path),
        "the same, --schema given": lambda: to_blocks(session, path, ddl),
        "the same, lines by Spark's text reader": remotely,
    }
    if ordinary:
        dialect, columns = Dialect(tuple(names)), [Column(name, "integer") for name in names]
        table = text_table(session, files, [], dialect, columns)
        runs["the ordinary way, a look at all cells"] = elapsed(
            lambda: examine(session, files, dialect)
        )
        runs["the ordinary way, columns, no blocks"] = elapsed(lambda: swallow(table))
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            seconds[name].append(run())
    for name, found in seconds.items():
        print(f"{name:44} {median(found):6.2f} s  {size / median(found):6.1f} MB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--columns", type=int, default=785)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--ordinary", action="store_true", help="the other text reader, too: slow")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, local_session(options.cores, "2g") as session:
        path = Path(folder) / "table"
        write(path, options.rows, options.columns)
        compare(session, path, options.turns, options.ordinary)


if __name__ == "__main__":
    main()
