"""How fast the jobs read a CSV of numbers, beside spark.read.csv, on one machine.

    PYTHONPATH=. python benchmarks/csv_files.py [--rows 60000] [--columns 785] [--cores 2]

Both parse every cell into a number and keep nothing (Spark's `noop` sink); the jobs' reader also
finds out what the columns are, for which Spark's needs inferSchema. MB are of text.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from local import local_session
from pyarrow import csv
from pyspark.sql import DataFrame, SparkSession

from sparknn.classification import MultilayerPerceptronClassifier
from sparknn.cli.column_kinds import decide
from sparknn.cli.encoding import Recipe
from sparknn.cli.inputs import Reading
from sparknn.cli.lines import Dialect
from sparknn.cli.plain_rows import plain_rows
from sparknn.cli.text_tables import examine, text_table
from sparknn.cli.train import prepared, suited
from sparknn.cli.training_rows import Job
from sparknn.cluster import Cluster
from sparknn.fitting import packed


def write(path: Path, rows: int, columns: int) -> None:
    """Write grey values, half of them 0, in four files."""
    random = np.random.default_rng(0)
    path.mkdir()
    for part in range(4):
        values = random.integers(-255, 256, (rows // 4, columns)).clip(0)
        values[:, 0] %= 10
        names = [f"c{index}" for index in range(columns)]
        csv.write_csv(pa.table(list(values.T), names=names), path / f"{part}.csv")


def timed(name: str, size: float, work: Callable[[], object]) -> None:
    """Run twice, the first time to warm up, and print the second's rate."""
    work()
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    print(f"{name:44} {seconds:6.2f} s  {size / seconds:6.1f} MB/s", flush=True)


def swallow(frame: DataFrame) -> None:
    """Compute every row and keep none."""
    frame.write.format("noop").mode("overwrite").save()


def compare(session: SparkSession, path: Path) -> None:
    """Print the rates of both readers."""
    files = sorted(map(str, path.iterdir()))
    size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
    with open(files[0]) as file:
        names = file.readline().strip().replace('"', "").split(",")
    dialect = Dialect(tuple(names))
    columns = decide(names, examine(session, files, dialect).tallies, {})
    schema = text_table(session, files, [], dialect, columns).drop("_sparknn_fault").schema
    reader = session.read.option("header", True)
    print(f"{size:.0f} MB of text, {len(names)} columns")
    timed("spark.read.csv, schema given", size, lambda: swallow(reader.schema(schema).csv(files)))
    timed(
        "spark.read.csv, what columns are",
        size,
        lambda: reader.option("inferSchema", True).csv(files),
    )
    timed(
        "sparknn, kinds given",
        size,
        lambda: swallow(text_table(session, files, [], dialect, columns)),
    )
    timed("sparknn, what columns are", size, lambda: examine(session, files, dialect))


def to_blocks(session: SparkSession, path: Path, local: bool = True) -> None:
    """From a path to resident blocks, ready for the first round: what `train_mlp` does.

    local: whether tasks open the files, or have their lines through Spark's text reader.
    """
    estimator, hidden = MultilayerPerceptronClassifier(layers=[1, 100, 2], solver="sgd"), [100]
    job = Job(
        path=str(path), label="c0", features=None, validation=0.0, test=None, scale="none",
        output=None, overwrite=False, explain=False, reading=Reading(), recipe=Recipe(),
    )  # fmt: skip
    rows = plain_rows(session, job, estimator, None)
    assert rows is not None
    _, features, data = prepared(rows, rows.training, job)
    suited(estimator, hidden, rows, job, data, features)
    with packed(estimator, Cluster(session), data, estimator._wanted()) as blocks:
        print(blocks.rows, blocks.features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--columns", type=int, default=785)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, local_session(options.cores, "2g") as session:
        write(Path(folder) / "table", options.rows, options.columns)
        path = Path(folder) / "table"
        size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
        timed("blocks", size, lambda: to_blocks(session, path))
        import cProfile
        import pstats

        pr = cProfile.Profile()
        pr.enable()
        to_blocks(session, path)
        pr.disable()
        pstats.Stats(pr).sort_stats("cumtime").print_stats(35)
        timed("blocks", size, lambda: to_blocks(session, path))


if __name__ == "__main__":
    main()
