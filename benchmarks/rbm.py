"""A restricted Boltzmann machine, 784-500, on MNIST, against scikit-learn's on the same cores.

    python benchmarks/rbm.py --data mnist.npz

Both take the same step size and passes, with batches of 100 rows (here to each of two partitions).
scikit-learn's is persistent contrastive divergence; ours is that and CD-1. Log-likelihoods are of
the test rows, in nats, with log Z by the same annealed importance sampling for all. The section
`partitions` compares 1, 2, 8 and 32 partitions, and rows sorted by label. Each section prints one
line of JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import click
import mnist
import numpy as np
from local import local_session
from mnist import cached, frame, sgemm_rate, timed
from pyspark.cloudpickle import register_pickle_by_value
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.neural_network import BernoulliRBM

from sparknn.boltzmann import (
    Machine,
    annealed_log_partition,
    log_likelihood,
    reconstruction_error,
)
from sparknn.feature import RBM

HIDDEN, BATCH, STEP, PASSES = 500, 100, 0.05, 6
ONE_PASS = 1_000_000
CHAINS, TEMPERATURES = 100, 5000
GLOBAL_BATCH, LONG_PASSES, SEEDS = 256, 10, 3


@dataclass
class Data:
    """MNIST as a cached DataFrame, grey levels 0..1, and as arrays."""

    session: SparkSession
    train: DataFrame
    rows: np.ndarray
    labels: np.ndarray
    test: np.ndarray


def load(session: SparkSession, path: Path) -> Data:
    with np.load(path, allow_pickle=False) as file:
        images, labels, test = file["x_train"], file["y_train"], file["x_test"]
    train = cached(frame(session, images, labels), session.sparkContext.defaultParallelism)
    rows = images.reshape(len(images), -1) / np.float32(255)
    return Data(session, train, rows, labels, test.reshape(len(test), -1) / np.float32(255))


def quality(data: Data, theta: np.ndarray) -> dict[str, float]:
    """Return log-likelihood and reconstruction error of the test rows."""
    machine = Machine(data.test.shape[1], HIDDEN)
    means = data.rows.mean(axis=0, dtype=np.float64)
    log_z, error = annealed_log_partition(machine, theta, means, CHAINS, TEMPERATURES, 1)
    return {
        "log_likelihood": round(float(log_likelihood(machine, theta, data.test, log_z).mean()), 2),
        "log_z_error": round(error, 2),
        "reconstruction_error": float(reconstruction_error(machine, theta, data.test).mean()),
    }


def ours(data: Data, persistent: bool) -> dict[str, Any]:
    """Fit, and take the steady state from the epochs after the first."""
    estimator = RBM(
        numHidden=HIDDEN,
        persistent=persistent,
        stepSize=STEP,
        blockSize=BATCH,
        maxIter=PASSES,
        numPartitions=data.session.sparkContext.defaultParallelism,
    )
    before = sgemm_rate(data.session)
    seconds, model = timed(lambda: estimator.fit(data.train))
    peak = (before + sgemm_rate(data.session)) / 2
    epochs: dict[int, list] = {}
    for each in model.summary.history:
        epochs.setdefault(each.epoch, []).append(each)
    later = [rounds for epoch, rounds in epochs.items() if epoch > 1]
    compute = median(sum(each.compute for each in rounds) for rounds in later)
    other = median(sum(each.other for each in rounds) for rounds in later)
    work = 10 * data.test.shape[1] * HIDDEN * len(data.rows)
    return {
        "fit_s": round(seconds, 2),
        "epoch_s": round(compute + other, 2),
        "compute_s": round(compute, 2),
        "compute_of_sgemm": round(work / compute / peak, 3),
        "sgemm_GFLOP_per_s": round(peak / 1e9),
        **quality(data, model.parameters),
    }


def scikit_learn(data: Data) -> dict[str, Any]:
    """Fit scikit-learn's, in this process with all its cores."""
    peer = BernoulliRBM(HIDDEN, learning_rate=STEP, batch_size=BATCH, n_iter=PASSES, random_state=1)
    seconds, _ = timed(lambda: peer.fit(data.rows))
    theta = np.concatenate(
        [peer.components_.T.ravel(), peer.intercept_hidden_, peer.intercept_visible_]
    )
    return {
        "fit_s": round(seconds, 2),
        "epoch_s": round(seconds / PASSES, 2),
        **quality(data, theta),
    }


def against(data: Data) -> dict[str, Any]:
    """CD-1 and persistent CD beside scikit-learn's persistent CD."""
    found = {
        "cd_1": ours(data, False),
        "persistent": ours(data, True),
        "scikit_learn": scikit_learn(data),
    }
    for name in ("cd_1", "persistent"):
        peer = found["scikit_learn"]["epoch_s"]
        found[name]["times_faster"] = round(peer / found[name]["epoch_s"], 2)
    return found


def _sorted_by_label(data: Data) -> DataFrame:
    order = np.argsort(data.labels, kind="stable")
    images = (data.rows[order] * 255).reshape(-1, 28, 28)
    rows = frame(data.session, images, data.labels[order]).coalesce(1)
    rows = rows.withColumn("place", F.monotonically_increasing_id())
    rows = rows.repartitionByRange(8, "place").sortWithinPartitions("place").drop("place")
    return rows


def partitions(data: Data) -> dict[str, Any]:
    """Partition counts at one global batch, means over seeds; and rows in order of their labels."""
    inputs = [(count, data.train, f"{count}") for count in (1, 2, 8, 32)]
    inputs.append((8, _sorted_by_label(data), "8, sorted by label"))
    return {name: _mean_of_seeds(data, count, rows) for count, rows, name in inputs}


def _mean_of_seeds(data: Data, count: int, rows: DataFrame) -> dict[str, float]:
    found = []
    for seed in range(SEEDS):
        estimator = RBM(
            numHidden=HIDDEN,
            stepSize=STEP,
            blockSize=GLOBAL_BATCH // count,
            maxIter=LONG_PASSES,
            numPartitions=count,
            seed=seed,
        )
        seconds, model = timed(lambda estimator=estimator: estimator.fit(rows))
        error = model.summary.objectiveHistory[-1]
        found.append({**quality(data, model.parameters), "training_error": error, "fit_s": seconds})
    return {key: round(mean(each[key] for each in found), 5) for key in found[0]}


SECTIONS = {"against": against, "partitions": partitions}


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--cores", default=2, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)))
def main(data: Path, cores: int, only: tuple[str, ...]) -> None:
    """Run the sections and print a line of JSON for each."""
    # The workers do not know where this directory is.
    register_pickle_by_value(mnist)
    with local_session(cores, "4g") as session:
        loaded = load(session, data)
        for name in only or SECTIONS:
            print(json.dumps({"section": name, **SECTIONS[name](loaded)}), flush=True)


if __name__ == "__main__":
    main()
