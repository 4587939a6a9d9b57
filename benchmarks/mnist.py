"""sparknn against MLlib on MNIST, in one session on the same cores.

    python benchmarks/mnist.py --data mnist.npz

The file is NumPy's, as Keras publishes it: x_train, y_train, x_test, y_test. Each section prints
one line of JSON; `--only` picks sections. MLlib's perceptron takes some minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyspark.ml.classification as mllib
from local import local_session
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

import sparknn.classification as ours
from sparknn.blocks import Blocks, pack
from sparknn.cluster import Cluster
from sparknn.packing import Source
from sparknn.rows import Layout
from sparknn.schema import feature_columns, numeric_column

PERCEPTRON = [784, 300, 100, 10]
SEEDS = (1, 2, 3)
DEEP = [784, 2500, 2000, 1500, 1000, 500, 10]


@dataclass
class Data:
    """MNIST as cached DataFrames, one partition per core, grey values 0..1."""

    session: SparkSession
    train: DataFrame
    test: DataFrame
    arrays: dict[str, np.ndarray]

    @property
    def cores(self) -> int:
        return self.session.sparkContext.defaultParallelism


def frame(session: SparkSession, images: np.ndarray, labels: np.ndarray) -> DataFrame:
    """Return images, (rows, 28, 28), as a DataFrame of vectors and labels."""
    pixels = images.reshape(len(images), -1) / 255.0
    offsets = pa.array(np.arange(len(pixels) + 1, dtype=np.int32) * pixels.shape[1])
    table = pa.table(
        {
            "pixels": pa.ListArray.from_arrays(offsets, pa.array(pixels.ravel())),
            "label": pa.array(labels.astype(np.float64)),
        }
    )
    data = session.createDataFrame(table)
    return data.select(array_to_vector("pixels").alias("features"), "label")


def cached(data: DataFrame, partitions: int) -> DataFrame:
    data = data.repartition(partitions).cache()
    data.count()
    return data


def load(session: SparkSession, path: Path) -> Data:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    cores = session.sparkContext.defaultParallelism
    train = cached(frame(session, arrays["x_train"], arrays["y_train"]), cores)
    test = cached(frame(session, arrays["x_test"], arrays["y_test"]), cores)
    return Data(session, train, test, arrays)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def accuracy(model, test: DataFrame) -> float:
    """Return the share of test rows that a model predicts right."""
    scored = model.transform(test)
    return scored.filter(scored.prediction == scored.label).count() / test.count()


def operations(layers: list[int], rows: int) -> int:
    """Return floating-point operations of one pass: 6 per weight and row, 4 in the first layer."""
    weights = [a * b for a, b in pairwise(layers)]
    return rows * (4 * weights[0] + 6 * sum(weights[1:]))


def sgemm_rate(session: SparkSession) -> float:
    """Return the cores' rate in sgemm, all at once, in floating-point operations a second."""

    def measure(_: int) -> float:
        size = 2048
        a = np.ones((size, size), np.float32)
        out = np.empty_like(a)
        with threadpool_limits(1, "blas"):
            np.dot(a, a, out=out)
            seconds, _result = timed(lambda: [np.dot(a, a, out=out) for _ in range(5)])
        return 5 * 2 * size**3 / seconds

    context = session.sparkContext
    cores = context.defaultParallelism
    rates = [sum(context.parallelize(range(cores), cores).map(measure).collect()) for _ in range(3)]
    return median(rates)


def packed(data: Data, compare: bool = True) -> Blocks:
    columns, _ = feature_columns(data.train, "features")
    layout = Layout(targets=("label",), classes=10)
    columns.append(numeric_column(data.train, "label"))
    return pack(Cluster(data.session), data.train, Source(layout, compare), None, columns)


def blocks(data: Data) -> dict[str, Any]:
    """Packing rate from the cached DataFrame."""
    rates = []
    for _ in range(6):
        seconds, packing = timed(lambda: packed(data))
        rates.append(packing.bytes / seconds / 1e6)
        packing.close()
    return {"MB_per_s": round(median(rates[1:])), "runs": [round(rate) for rate in rates]}


def steady_state(fitted, layers: list[int], rows: int, peak: float) -> dict[str, Any]:
    """Describe the rounds after the first: rate of compute, and what is spent beside it."""
    rounds = fitted.rounds[1:] or fitted.rounds
    compute = median(each.compute for each in rounds)
    other = median(each.other for each in rounds)
    return {
        "compute_s": round(compute, 3),
        "other_s": round(other, 3),
        "other_to_compute": round(other / compute, 3),
        "compute_of_sgemm": round(operations(layers, rows) / compute / peak, 3),
    }


def perceptron(data: Data) -> dict[str, Any]:
    """784-300-100-10 by sgd to the accuracy that MLlib reaches after 100 iterations."""
    estimator = ours.MultilayerPerceptronClassifier(
        layers=PERCEPTRON,
        activation="relu",
        solver="sgd",
        stepSize=0.05,
        stepSizeSchedule="linear",
        momentum=0.9,
        blockSize=128,
        maxIter=4,
    )
    estimator.fit(data.train)
    runs = [timed(lambda: estimator.fit(data.train)) for _ in range(5)]
    seconds = median(run[0] for run in runs)
    model = runs[-1][1]
    long = estimator.copy({estimator.maxIter: 12}).fit(data.train)
    theirs = mllib.MultilayerPerceptronClassifier(layers=PERCEPTRON, maxIter=100, seed=1)
    mllib_seconds, mllib_model = timed(lambda: theirs.fit(data.train))
    return {
        "seconds": round(seconds, 2),
        "runs": [round(run[0], 2) for run in runs],
        "accuracy": accuracy(model, data.test),
        "mllib_seconds": round(mllib_seconds, 1),
        "mllib_accuracy": accuracy(mllib_model, data.test),
        "times_faster": round(mllib_seconds / seconds, 1),
        **steady_state(long.training, PERCEPTRON, 60_000, sgemm_rate(data.session)),
    }


def defaults(data: Data) -> dict[str, Any]:
    """The perceptron with every default but the seed: sigmoid, l-bfgs, 100 iterations.

    A seed gives both sides the same initial weights. One seed's accuracy says little, since either
    side's moves by a tenth of a point from seed to seed.
    """
    runs = []
    for seed in SEEDS:
        estimator = ours.MultilayerPerceptronClassifier(layers=PERCEPTRON, seed=seed)
        theirs = mllib.MultilayerPerceptronClassifier(layers=PERCEPTRON, seed=seed)
        seconds, model = timed(lambda each=estimator: each.fit(data.train))
        mllib_seconds, mllib_model = timed(lambda each=theirs: each.fit(data.train))
        scores = accuracy(model, data.test), accuracy(mllib_model, data.test)
        runs.append((seconds, mllib_seconds, *scores))
    seconds, mllib_seconds, mean, mllib_mean = np.mean(runs, axis=0).tolist()
    return {
        "seconds": round(seconds, 1),
        "accuracy": round(mean, 5),
        "accuracies": [run[2] for run in runs],
        "mllib_seconds": round(mllib_seconds, 1),
        "mllib_accuracy": round(mllib_mean, 5),
        "mllib_accuracies": [run[3] for run in runs],
        "times_faster": round(mllib_seconds / seconds, 2),
    }


def deep(data: Data) -> dict[str, Any]:
    """One epoch of 784-2500-2000-1500-1000-500-10, batch 1000, all overheads included."""
    estimator = ours.MultilayerPerceptronClassifier(
        layers=DEEP, activation="relu", solver="sgd", stepSize=0.01, blockSize=1000, maxIter=1
    )
    before = sgemm_rate(data.session)
    seconds, model = timed(lambda: estimator.fit(data.train))
    peak = (before + sgemm_rate(data.session)) / 2
    once = model.training.rounds[0]
    work = operations(DEEP, 60_000)
    return {
        "fit_s": round(seconds, 2),
        "epoch_s": round(model.training.seconds, 2),
        "compute_s": round(once.compute, 2),
        "other_s": round(once.other, 2),
        "epoch_of_sgemm": round(work / model.training.seconds / peak, 3),
        "compute_of_sgemm": round(work / once.compute / peak, 3),
        "sgemm_GFLOP_per_s": round(peak / 1e9),
    }


def objective(model, data: Data, reg_param: float) -> float:
    """Return MLlib's objective of a multinomial model on the training rows, standardised L2."""
    pixels = data.arrays["x_train"].reshape(60_000, -1) / 255.0
    labels = data.arrays["y_train"]
    coefficients = model.coefficientMatrix.toArray()
    margins = pixels @ coefficients.T + model.interceptVector.toArray()
    margins -= margins.max(axis=1, keepdims=True)
    loss = np.log(np.exp(margins).sum(axis=1)) - margins[np.arange(len(labels)), labels]
    penalised = coefficients * pixels.std(axis=0, ddof=1)
    return float(loss.mean() + reg_param / 2 * (penalised**2).sum())


def logistic(data: Data) -> dict[str, Any]:
    """LogisticRegression to within 0.1 % of MLlib's objective after 100 iterations, and by sgd."""
    reg = 1e-4
    theirs = mllib.LogisticRegression(regParam=reg, maxIter=100, tol=0.0)
    mllib_seconds, mllib_model = timed(lambda: theirs.fit(data.train))
    goal = mllib_model.summary.objectiveHistory[-1]
    whole = ours.LogisticRegression(regParam=reg, maxIter=100, tol=0.0).fit(data.train)
    history = whole.training.objective_history
    needed = next((i for i, value in enumerate(history) if value <= 1.001 * goal), None)
    if needed is None:
        return {"mllib_objective": goal, "objective": history[-1]}
    short = ours.LogisticRegression(regParam=reg, maxIter=needed, tol=0.0)
    runs = [timed(lambda: short.fit(data.train)) for _ in range(3)]
    seconds = median(run[0] for run in runs)
    rounds = runs[-1][1].training.rounds
    sgd = ours.LogisticRegression(
        regParam=reg,
        solver="sgd",
        stepSize=0.03,
        stepSizeSchedule="linear",
        momentum=0.9,
        blockSize=32,
        maxIter=10,
    )
    sgd_seconds, sgd_model = timed(lambda: sgd.fit(data.train))
    return {
        "mllib_seconds": round(mllib_seconds, 1),
        "mllib_objective": goal,
        "iterations_to_goal": needed,
        "seconds": round(seconds, 2),
        "runs": [round(run[0], 2) for run in runs],
        "objective": objective(runs[-1][1], data, reg),
        "times_faster": round(mllib_seconds / seconds, 2),
        "round_compute_s": round(median(each.compute for each in rounds), 4),
        "round_other_s": round(median(each.other for each in rounds), 4),
        "sgd_seconds": round(sgd_seconds, 1),
        "sgd_above_goal": round(objective(sgd_model, data, reg) / goal - 1, 4),
    }


def sorted_labels(data: Data) -> dict[str, Any]:
    """Test accuracy on rows sorted by label, in 8 partitions, beside that on shuffled rows."""
    estimator = ours.MultilayerPerceptronClassifier(
        layers=PERCEPTRON,
        activation="relu",
        solver="sgd",
        stepSize=0.05,
        momentum=0.9,
        blockSize=32,
        maxIter=10,
        numPartitions=8,
    )
    order = np.argsort(data.arrays["y_train"], kind="stable")
    images, labels = data.arrays["x_train"][order], data.arrays["y_train"][order]
    in_order = frame(data.session, images, labels).coalesce(1)
    # Ranges of the position keep the order over eight partitions.
    in_order = in_order.withColumn("place", F.monotonically_increasing_id())
    in_order = in_order.repartitionByRange(8, "place").sortWithinPartitions("place").drop("place")
    shuffled = data.train.repartition(8)
    seconds, model = timed(lambda: estimator.fit(in_order))
    return {
        "sorted_accuracy": accuracy(model, data.test),
        "shuffled_accuracy": accuracy(estimator.fit(shuffled), data.test),
        "seconds": round(seconds, 1),
    }


SECTIONS = {
    "blocks": blocks,
    "perceptron": perceptron,
    "defaults": defaults,
    "deep": deep,
    "logistic": logistic,
    "sorted": sorted_labels,
}


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--cores", default=2, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)))
def main(data: Path, cores: int, only: tuple[str, ...]) -> None:
    """Run the sections and print a line of JSON for each."""
    with local_session(cores, "4g") as session:
        loaded = load(session, data)
        for name in only or SECTIONS:
            print(json.dumps({"section": name, **SECTIONS[name](loaded)}), flush=True)


if __name__ == "__main__":
    main()
