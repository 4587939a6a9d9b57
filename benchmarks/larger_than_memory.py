"""Training on Parquet that is larger than all memory, and scoring it, under a limit.

    python benchmarks/larger_than_memory.py --path /tmp/large --gb 10 --limit-gb 4

Makes --gb of Parquet at --path (an id, a label and an array of 250 random float32 to a row, in ten
files, not compressed), in a control group whose memory, page cache included, is --limit-gb; trains
a perceptron 250-16-2 by sgd on all of it in a Spark of two cores and 1 GB of heap, and puts
jobs/predict.py to it. Beside the time it prints, as one line of JSON, what the machine could do at
best: bytes / packing rate + epochs * max(compute, block bytes / disk rate), with the rates measured
under the same limit, packing and compute on one of the files. Rows that are at --path already are
used; all that is there is deleted at the end, but for the rows with --keep.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from limited import NoLimit, limited
from local import local_session
from pyspark.sql import SparkSession

from sparknn.classification import MultilayerPerceptronClassifier

COLUMNS, FILES, GROUP_ROWS = 250, 10, 50_000
JOBS = Path(__file__).resolve().parents[1] / "jobs"


def say(what: str) -> None:
    """Tell on standard error what comes next, and when."""
    click.echo(f"{time.strftime('%H:%M:%S')} {what}", err=True)


def generate(folder: Path, rows: int) -> None:
    """Write Parquet whose label depends on the features; a tenth of the rows to a file."""
    folder.mkdir(parents=True)
    rule = np.random.default_rng(0).standard_normal(COLUMNS, np.float32)
    for number in range(FILES):
        random = np.random.default_rng([1, number])
        path, writer = folder / f"part-{number}.parquet", None
        first, last = number * rows // FILES, (number + 1) * rows // FILES
        for start in range(first, last, GROUP_ROWS):
            count = min(GROUP_ROWS, last - start)
            values = random.standard_normal((count, COLUMNS), np.float32)
            offsets = np.arange(count + 1, dtype=np.int32) * COLUMNS
            table = pa.table(
                {
                    "id": np.arange(start, start + count),
                    "label": (values @ rule > 0).astype(np.float64),
                    "features": pa.ListArray.from_arrays(offsets, values.ravel()),
                }
            )
            writer = writer or pq.ParquetWriter(
                path, table.schema, compression="none", use_dictionary=["label"]
            )
            writer.write_table(table)
        if writer:
            writer.close()


def forget(path: Path) -> None:
    """Have a file's pages written and out of memory."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_rate(paths: list[Path]) -> float:
    """Bytes a second of reading files from one end to the other."""
    buffer, read, began = bytearray(2**20), 0, time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                read += count
    return read / (time.perf_counter() - began)


def fit(session: SparkSession, paths: list[Path], epochs: int, partitions: int | None) -> Any:
    """Train on some of the files; return the wall time and the model."""
    rows = session.read.parquet(*map(str, paths))
    estimator = MultilayerPerceptronClassifier(
        layers=[COLUMNS, 16, 2], solver="sgd", stepSize=0.05, maxIter=epochs, seed=1, tol=0.0
    )
    if partitions:
        estimator.setNumPartitions(partitions)
    began = time.perf_counter()
    model = estimator.fit(rows)
    return time.perf_counter() - began, model


def train(paths: list[Path], rate: float, epochs: int, partitions: int | None) -> dict[str, Any]:
    """Train on one file for the rates, then on all; `rate` is the disk's."""
    size = sum(path.stat().st_size for path in paths)
    with local_session(2, "1g") as session:
        say("training on one file, then another")
        fit(session, paths[:1], 1, partitions)
        forget(paths[1])
        _, part = fit(session, paths[1:2], 3, partitions)
        packing = paths[1].stat().st_size / part.summary().timing.packing
        compute = len(paths) * min(each.compute for each in part.summary().history)
        for path in paths:
            forget(path)
        say("training on all")
        wall, model = fit(session, paths, epochs, partitions)
        summary = model.summary()
        best = size / packing + epochs * max(compute, size / rate)
        return {
            "disk_MB_per_s": round(rate / 1e6),
            "packing_MB_per_s_of_one_file": round(packing / 1e6),
            "compute_s_an_epoch": round(compute, 1),
            "packing_s": round(summary.timing.packing, 1),
            "epochs_s": [round(each.compute + each.other, 1) for each in summary.history],
            "loss": [round(each.loss, 4) for each in summary.history],
            "train_s": round(wall, 1),
            "at_best_s": round(best, 1),
            "ratio": round(wall / best, 2),
        }


def job(name: str, *options: str) -> dict[str, Any]:
    """Run one of the jobs by spark-submit, two cores and 1 GB of heap; its closing line."""
    command = ["spark-submit", "--master", "local[2]", "--driver-memory", "1g"]
    command += ["--conf", "spark.ui.enabled=false", str(JOBS / f"{name}.py"), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def score(folder: Path, files: list[Path]) -> dict[str, Any]:
    """Put a small model that a job has trained on one file to all rows, and write what it says."""
    model, output = str(folder / "model"), str(folder / "scored")
    say("a model for scoring")
    job("train_mlp", "--input", str(files[0]), "--features", "features", "--hidden", "16",
        "--solver", "sgd", "--max-iter", "1", "--drop", "id", "--output", model)  # fmt: skip
    for path in files:
        forget(path)
    say("scoring all")
    said = job(
        "predict", "--model", model, "--input", str(files[0].parent), "--keep", "id",
        "--output", output,
    )  # fmt: skip
    size = sum(path.stat().st_size for path in files)
    return {
        "predict_s": said["seconds"],
        "predict_rows": said["rows"],
        "predict_MB_per_s": round(size / said["seconds"] / 1e6),
    }


def measure(
    folder: Path, rows: int, epochs: int, partitions: int | None, only: str | None
) -> dict[str, Any]:
    """Everything that is to happen under the limit."""
    os.environ["SPARK_LOCAL_DIRS"] = str(folder / "local")
    if not (folder / "rows").exists():
        say("generating")
        generate(folder / "rows", rows)
    files = sorted((folder / "rows").iterdir())
    for path in files:
        forget(path)
    size = sum(path.stat().st_size for path in files)
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    result = {"GB": round(size / 1e9, 2), "rows": rows, "partitions": partitions}
    if only != "predict":
        say("reading half, for the disk's rate")
        result.update(train(files, disk_rate(files[: FILES // 2]), epochs, partitions))
    if only != "train":
        result.update(score(folder, files))
    say("done")
    return result


@click.command(help=__doc__)
@click.option("--path", type=click.Path(path_type=Path), required=True)
@click.option("--gb", default=10.0, show_default=True)
@click.option("--limit-gb", default=4.0, show_default=True)
@click.option("--epochs", default=3, show_default=True)
@click.option("--partitions", type=int, help="numPartitions; by default the estimator's own.")
@click.option("--only", type=click.Choice(["train", "predict"]), help="One half of it.")
@click.option("--keep", is_flag=True, help="Leave the rows at --path, for another call.")
@click.option("--here", is_flag=True, hidden=True, help="Measure in this process.")
def main(
    path: Path,
    gb: float,
    limit_gb: float,
    epochs: int,
    partitions: int | None,
    only: str | None,
    keep: bool,
    here: bool,
) -> None:
    """Put a process of its own under the limit, and print a line of JSON."""
    if here:
        rows = int(gb * 1e9 / (4 * COLUMNS))
        print(json.dumps(measure(path, rows, epochs, partitions, only)))
        return
    path.mkdir(exist_ok=True)
    try:
        print(json.dumps(under_limit([sys.executable, *sys.argv, "--here"], limit_gb)))
    finally:
        for made in ("local", "model", "scored", *([] if keep else ["rows"])):
            shutil.rmtree(path / made, ignore_errors=True)
        if not keep:
            path.rmdir()


def under_limit(command: list[str], limit_gb: float) -> dict[str, Any]:
    """Run a command under a limit, where there can be one; its closing line, and the limit's."""
    run = partial(subprocess.run, command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        with limited(int(limit_gb * 1e9)) as group:
            done = run(preexec_fn=group.enter)
            limit = {"limit_GB": limit_gb, **group.told()}
    except NoLimit as reason:
        click.echo(f"no limit: {reason}", err=True)
        done = run()
        limit = {"limit_GB": None, "why": str(reason)}
    if done.returncode:
        raise click.ClickException(f"ended with status {done.returncode}; {json.dumps(limit)}")
    return {**json.loads(done.stdout.splitlines()[-1]), **limit}


if __name__ == "__main__":
    main()
