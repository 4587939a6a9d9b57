"""Fits over few rows: scikit-learn's digits and breast cancer data, sparknn's against MLlib's.

    python benchmarks/small.py

There a round of jobs takes longer than what it computes. Each section fits with both sides in
turn, after one fit of each that does not count, and prints the median seconds as a line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import click
import numpy as np
import pyspark.ml.classification as mllib
from local import local_session
from mnist import cached, timed
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_breast_cancer, load_digits

import sparknn.classification as ours

SIDES = {"sparknn": ours, "mllib": mllib}


def table(session: SparkSession, load: Callable, cores: int) -> DataFrame:
    """Return one of scikit-learn's data sets as a cached DataFrame."""
    features, labels = load(return_X_y=True)
    rows = [(Vectors.dense(x), float(y)) for x, y in zip(features, labels, strict=True)]
    return cached(session.createDataFrame(rows, ["features", "label"]), cores)


def logistic(side: Any) -> Any:
    return side.LogisticRegression(regParam=0.001)


def perceptron(side: Any) -> Any:
    return side.MultilayerPerceptronClassifier(layers=[64, 30, 10], seed=1)


SECTIONS = {
    "logistic regression, digits": (load_digits, logistic),
    "logistic regression, breast cancer": (load_breast_cancer, logistic),
    "perceptron 64-30-10, digits": (load_digits, perceptron),
}


def compared(data: DataFrame, make: Callable, repeats: int) -> dict[str, Any]:
    """Fit with both sides in turn; return median seconds, and accuracy on the training rows."""
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    accuracy: dict[str, float] = {}
    for _ in range(1 + repeats):
        for side, module in SIDES.items():
            took, model = timed(partial(make(module).fit, data))
            seconds[side].append(took)
            found = model.transform(data).select("prediction", "label").toPandas()
            accuracy[side] = round(float(np.mean(found["prediction"] == found["label"])), 4)
    middle = {side: round(median(each[1:]), 3) for side, each in seconds.items()}
    times = round(middle["mllib"] / middle["sparknn"], 2)
    return {"seconds": middle, "accuracy": accuracy, "times_faster": times}


@click.command(help=__doc__)
@click.option("--cores", default=2, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(cores: int, repeats: int) -> None:
    """Compare both sides in each section and print a line of JSON."""
    with local_session(cores, "2g") as session:
        for name, (load, make) in SECTIONS.items():
            found = compared(table(session, load, cores), make, repeats)
            print(json.dumps({"section": name, **found}), flush=True)


if __name__ == "__main__":
    main()
