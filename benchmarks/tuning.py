"""A grid of 9 settings by 3 folds in CrossValidator: sparknn's estimators against MLlib's.

    python benchmarks/tuning.py --data mnist.npz

The first 10,000 images of MNIST (NumPy's file, as Keras publishes it), the same folds for both
sides, in one session on the same cores. Each section prints one line of JSON; `--only` picks
sections, and `--side` a side where the ratio is not asked for. MLlib takes some minutes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyspark.ml.classification as mllib
from local import local_session
from mnist import cached, frame, timed
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame

import sparknn.classification as ours

SIDES = {"sparknn": ours, "mllib": mllib}


def logistic(side: Any, iterations: int) -> tuple[Any, list[dict]]:
    """LogisticRegression: three strengths of the penalty, three shares of L1."""
    estimator = side.LogisticRegression(maxIter=iterations)
    grid = ParamGridBuilder().addGrid(estimator.regParam, [0.001, 0.01, 0.1])
    return estimator, grid.addGrid(estimator.elasticNetParam, [0.0, 0.5, 1.0]).build()


def perceptron(side: Any, iterations: int) -> tuple[Any, list[dict]]:
    """MultilayerPerceptronClassifier by l-bfgs: nine networks."""
    estimator = side.MultilayerPerceptronClassifier(maxIter=iterations, seed=1)
    layers = [[784, 10], [784, 20, 10], [784, 30, 10], [784, 40, 10], [784, 50, 10]]
    layers += [[784, 20, 20, 10], [784, 30, 20, 10], [784, 40, 20, 10], [784, 50, 20, 10]]
    return estimator, ParamGridBuilder().addGrid(estimator.layers, layers).build()


SECTIONS = {"logistic": logistic, "perceptron": perceptron}


def searched(make: Any, side: str, data: DataFrame, iterations: int, folds: int) -> dict[str, Any]:
    """Search the grid with one side's estimator; return seconds, metrics and the winner."""
    estimator, grid = make(SIDES[side], iterations)
    evaluator = MulticlassClassificationEvaluator(metricName="accuracy")
    search = CrossValidator(
        estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, numFolds=folds, seed=1
    )
    seconds, fitted = timed(lambda: search.fit(data))
    winner = grid[int(np.argmax(fitted.avgMetrics))]
    click.echo(f"{type(estimator).__name__} of {side}: {seconds:.1f} s", err=True)
    return {
        "seconds": round(seconds, 1),
        "accuracies": [round(value, 4) for value in fitted.avgMetrics],
        "winner": {param.name: value for param, value in winner.items()},
    }


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--cores", default=2, show_default=True)
@click.option("--rows", default=10_000, show_default=True)
@click.option("--folds", default=3, show_default=True)
@click.option("--iterations", default=50, show_default=True, help="maxIter, of both sides.")
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)))
@click.option("--side", multiple=True, type=click.Choice(list(SIDES)))
def main(
    data: Path,
    cores: int,
    rows: int,
    folds: int,
    iterations: int,
    only: tuple[str, ...],
    side: tuple[str, ...],
) -> None:
    """Search each section's grid with both sides and print a line of JSON."""
    with np.load(data, allow_pickle=False) as file:
        images, labels = file["x_train"][:rows], file["y_train"][:rows]
    with local_session(cores, "4g") as session:
        table = cached(frame(session, images, labels), cores)
        for name in only or SECTIONS:
            make = SECTIONS[name]
            found = {each: searched(make, each, table, iterations, folds) for each in side or SIDES}
            result = {"section": name, "iterations": iterations, "folds": folds, **found}
            if len(found) == len(SIDES):
                sides = found["sparknn"], found["mllib"]
                result["times_faster"] = round(sides[1]["seconds"] / sides[0]["seconds"], 2)
                result["same_winner"] = sides[0]["winner"] == sides[1]["winner"]
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
