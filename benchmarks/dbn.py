"""Deep belief networks on MNIST: errors and seconds, from DataFrame to model.

    python benchmarks/dbn.py --data mnist.npz

The file is NumPy's, as Keras publishes it: x_train, y_train, x_test, y_test. Each section prints a
line of JSON for each seed or setting; `--only` picks sections:

classifier: 784-500-500-2000-10 on all labels, three seeds.
labels: the same layers on 600 labels, 60 a class, in five draws; with pre-training on all images,
    and from the usual initial weights (Glorot's for sigmoid units, He's for relu).
autoencoder: 784-1000-500-250-30, squared error per test image, beside 30 principal components'.
deep: six hidden layers of 30 sigmoid units, with and without pre-training, and how much of the
    gradient reaches the first of them.

`--validate` trains on the first 50,000 rows and measures on the last 10,000, for choosing settings
without the test set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
from local import local_session
from mnist import accuracy, cached, frame, timed
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from sparknn.classification import DeepBeliefNetworkClassifier, MultilayerPerceptronClassifier
from sparknn.feature import DBN, Autoencoder
from sparknn.network import Network
from sparknn.objective import Rows

LAYERS = [784, 500, 500, 2000]
NARROW = [784, *[30] * 6]
CODE = [784, 1000, 500, 250, 30]
PER_CLASS = 60
DRAWS = 5

PRETRAIN = {
    "pretrainMaxIter": 5,
    "pretrainStepSize": 0.1,
    "pretrainStepSizeSchedule": "linear",
    "pretrainMomentum": 0.9,
    "pretrainMomentumSchedule": "linear",
    "pretrainRegParam": 2e-4,
    "pretrainBlockSize": 50,
    "pretrainStepsPerRound": 600,
    "pretrainSampleVisible": False,
}
"""Two partitions of 50 rows to a step: batches of 100. Averaged once a pass, which leaves the
likelihood lower than more often would, and the features as good."""

FINE = {
    "stepSize": 0.15,
    "stepSizeSchedule": "cosine",
    "momentum": 0.95,
    "blockSize": 50,
    "dropout": [0.1, 0.3, 0.3, 0.3],
    "tol": 0.0,
}

FEW_PRETRAIN = {
    "pretrainMaxIter": 30,
    "pretrainPersistent": True,
    "pretrainStepSize": 0.05,
    "pretrainStepSizeSchedule": "linear",
    "pretrainRegParam": 2e-4,
    "pretrainBlockSize": 50,
}
"""For few labels: better models of the images. Persistent chains and sampled visible units learn
features on which 600 labels leave half the errors that they leave on those of `PRETRAIN`; with all
labels it is the other way round (1.46 % beside 1.28 % on the rows that `--validate` holds out)."""

FEW = {
    "stepSizeSchedule": "cosine",
    "momentum": 0.9,
    "blockSize": 20,
    "tol": 0.0,
    "numPartitions": 1,
}
"""Six hundred rows are one partition's work."""

STEPS = {"pretrained": 0.05, "sigmoid": 0.01, "relu": 0.02}
"""Step sizes for few labels: with 100 epochs the best on the rows that `--validate` holds out.
Other numbers of epochs were no better there."""


@dataclass
class Data:
    """Images and labels to train on and to measure with, one partition per core."""

    session: SparkSession
    train: DataFrame
    test: DataFrame
    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray


def load(session: SparkSession, path: Path, validate: bool) -> Data:
    with np.load(path, allow_pickle=False) as file:
        x, y, xt, yt = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    if validate:
        x, y, xt, yt = x[:50_000], y[:50_000], x[50_000:], y[50_000:]
    cores = session.sparkContext.defaultParallelism
    return Data(
        session,
        cached(frame(session, x, y), cores),
        cached(frame(session, xt, yt), cores),
        x,
        y,
        xt.reshape(len(xt), -1) / 255.0,
    )


def classifier(data: Data, epochs: int, seeds: int) -> Iterator[dict[str, Any]]:
    """The whole of it: pre-training, fine-tuning with dropout, error in percent."""
    for seed in range(1, seeds + 1):
        estimator = DeepBeliefNetworkClassifier(
            layers=LAYERS, seed=seed, maxIter=epochs, **PRETRAIN, **FINE
        )
        seconds, model = timed(lambda estimator=estimator: estimator.fit(data.train))
        yield {
            "seed": seed,
            "epochs": epochs,
            "error_percent": round(100 * (1 - accuracy(model, data.test)), 3),
            "seconds": round(seconds, 1),
            "pretraining_s": [round(sum(each.timing[1:]), 1) for each in model.pretraining],
            "fine_tuning_s": round(model.training.seconds, 1),
            "compute_s": round(sum(each.compute for each in model.training.rounds), 1),
            "loss": model.training.objective_history[-1],
        }


def drawn(data: Data, seed: int) -> DataFrame:
    """Return some labelled images, as many of each class."""
    random = np.random.default_rng(seed)
    chosen = [
        random.choice(np.flatnonzero(data.labels == digit), PER_CLASS, replace=False)
        for digit in range(10)
    ]
    places = random.permutation(np.concatenate(chosen))
    return cached(frame(data.session, data.images[places], data.labels[places]), 1)


def labels(data: Data, epochs: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Few labels, the rest of the images without; with and without dropout on both sides."""
    dbn = DBN(layers=LAYERS, **{_bare(name): value for name, value in FEW_PRETRAIN.items()})
    seconds, stack = timed(lambda: dbn.fit(data.train))
    network = Network([*LAYERS, 10], "tanh")
    # Glorot's weights, which `Network` draws for tanh, and sigmoid units by themselves do not get.
    starts = {
        "pretrained": lambda seed: stack.initialWeights(10, seed),
        "sigmoid": lambda seed: Vectors.dense(network.initial(seed)),
        "relu": lambda seed: Vectors.dense(Network([*LAYERS, 10], "relu").initial(seed)),
    }
    errors: dict[tuple[str, bool], list[float]] = {}
    for draw, (name, start), dropout in product(range(1, seeds + 1), starts.items(), (False, True)):
        estimator = MultilayerPerceptronClassifier(
            layers=[*LAYERS, 10],
            solver="sgd",
            activation="relu" if name == "relu" else "sigmoid",
            initialWeights=start(draw),
            stepSize=STEPS[name],
            maxIter=epochs,
            seed=draw,
            dropout=FINE["dropout"] if dropout else 0.0,
            **FEW,
        )
        model = estimator.fit(drawn(data, draw))
        error = 100 * (1 - accuracy(model, data.test))
        errors.setdefault((name, dropout), []).append(error)
        yield {
            "draw": draw,
            "start": name,
            "dropout": dropout,
            "error_percent": round(error, 2),
            "seconds": round(model.training.seconds, 1),
        }
    means = {
        f"{name}, {'dropout' if dropout else 'no dropout'}": round(float(np.mean(each)), 2)
        for (name, dropout), each in errors.items()
    }
    yield {"pretraining_s": round(seconds, 1), "mean_error_percent": means}


def _bare(name: str) -> str:
    """Return what a setting of the pre-training is called where there is no other training."""
    rest = name.removeprefix("pretrain")
    return rest[0].lower() + rest[1:]


def autoencoder(data: Data, epochs: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Squared error per test image, beside that of as many principal components."""
    pixels = data.images.reshape(len(data.images), -1) / 255.0
    mean = pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(pixels.T))
    basis = vectors[:, -CODE[-1] :]
    centred = data.test_images - mean
    components = float(np.square(centred - centred @ basis @ basis.T).sum(axis=1).mean())
    for seed in range(1, seeds + 1):
        estimator = Autoencoder(
            layers=CODE,
            seed=seed,
            maxIter=epochs,
            **{**PRETRAIN, "pretrainStepSize": [0.1, 0.1, 0.1, 0.002]},
            stepSize=0.002,
            stepSizeSchedule="cosine",
            momentum=0.9,
            blockSize=50,
            tol=0.0,
        )
        seconds, model = timed(lambda estimator=estimator: estimator.fit(data.train))
        outputs = model.network.outputs(model.weights.toArray(), data.test_images)
        error = float(np.square(outputs - data.test_images).sum(axis=1).mean())
        yield {
            "seed": seed,
            "epochs": epochs,
            "squared_error": round(error, 3),
            "principal_components": round(components, 3),
            "seconds": round(seconds, 1),
        }


def deep(data: Data, epochs: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Backpropagation alone, from small weights, and after pre-training."""
    settings = {
        **PRETRAIN,
        "pretrainMaxIter": 10,
        # Larger steps, or more momentum, leave the upper layers dead: their inputs vary little.
        "pretrainStepSize": 0.05,
        "pretrainStepSizeSchedule": "constant",
        "pretrainMomentum": 0.5,
        "pretrainMomentumSchedule": "constant",
    }
    network = Network([*NARROW, 10])
    pixels = data.images[:2000].reshape(2000, -1) / 255.0
    rows = Rows(pixels.astype(np.float32), data.labels[:2000, np.newaxis])
    for seed in range(1, seeds + 1):
        dbn = DBN(layers=NARROW, seed=seed, **{_bare(k): v for k, v in settings.items()})
        random = np.random.default_rng(seed)
        small = Vectors.dense(0.1 * random.standard_normal(network.size))
        for name, start in (
            ("small random", small),
            ("pre-trained", dbn.fit(data.train).initialWeights(10, seed)),
        ):
            estimator = MultilayerPerceptronClassifier(
                layers=network.layers,
                solver="sgd",
                initialWeights=start,
                stepSize=0.1,
                momentum=0.9,
                blockSize=50,
                maxIter=epochs,
                seed=seed,
            )
            model = estimator.fit(data.train)
            yield {
                "seed": seed,
                "start": name,
                "gradient_first_to_last": reach(network, start.toArray(), rows),
                "error_percent": round(100 * (1 - accuracy(model, data.test)), 2),
            }


def reach(network: Network, theta: np.ndarray, rows: Rows) -> float:
    """Return the root mean square of the first layer's gradient, as a share of the last one's."""
    out = np.empty(network.size, np.float32)
    network.gradient(theta.astype(np.float32), rows, out)
    norms = [np.sqrt(np.mean(weights**2)) for weights, _ in network.views(out)]
    return float(f"{norms[0] / norms[-1]:.3g}")


SECTIONS = {
    "classifier": (classifier, 50, 3),
    "labels": (labels, 100, DRAWS),
    "autoencoder": (autoencoder, 40, 1),
    "deep": (deep, 10, 1),
}
"""Each with its epochs of fine-tuning, and seeds."""


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--cores", default=2, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)))
@click.option("--epochs", type=int, help="Of fine-tuning, in place of each section's own.")
@click.option("--seeds", type=int, help="Or draws, in place of each section's own.")
@click.option("--validate", is_flag=True, help="Measure on training rows held out.")
def main(
    data: Path,
    cores: int,
    only: tuple[str, ...],
    epochs: int | None,
    seeds: int | None,
    validate: bool,
) -> None:
    """Run the sections and print their lines of JSON."""
    with local_session(cores, "4g") as session:
        loaded = load(session, data, validate)
        for name in only or SECTIONS:
            section, usual, runs = SECTIONS[name]
            for line in section(loaded, epochs or usual, seeds or runs):
                print(json.dumps({"section": name, **line}), flush=True)


if __name__ == "__main__":
    main()
