"""Predictions of 784-300-100-10: MLlib's model and ours, rows a second in one session.

    python benchmarks/transform.py --data mnist.npz

Both score the same cached DataFrame of vectors; all columns, then the label alone. Prints one
line of JSON for each.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import click
import pyspark.ml.classification as mllib
from local import local_session
from mnist import PERCEPTRON, load, timed
from pyspark.sql import DataFrame

import sparknn.classification as ours


def seconds(model, data: DataFrame, label_only: bool) -> float:
    """Return the time in which all predicted rows are computed, and thrown away."""
    scored = model.transform(data)
    if label_only:
        scored = scored.select("prediction")
    return timed(lambda: scored.write.format("noop").mode("overwrite").save())[0]


def compare(theirs, model, data: DataFrame, label_only: bool, runs: int) -> dict:
    """Measure both by turns, so that what else the machine does falls on both."""
    rows = data.count()
    seconds(model, data, label_only)
    pairs = [
        (seconds(theirs, data, label_only), seconds(model, data, label_only)) for _ in range(runs)
    ]
    return {
        "columns": "prediction" if label_only else "all",
        "mllib_rows_per_s": round(rows / median(pair[0] for pair in pairs)),
        "rows_per_s": round(rows / median(pair[1] for pair in pairs)),
        "times_faster": round(median(pair[0] / pair[1] for pair in pairs), 1),
        "runs_s": [[round(each, 2) for each in pair] for pair in pairs],
    }


@click.command(help=__doc__)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--cores", default=2, show_default=True)
@click.option("--runs", default=3, show_default=True)
def main(data: Path, cores: int, runs: int) -> None:
    """Fit both models briefly, for what they predict does not matter here, and time them."""
    with local_session(cores, "4g") as session:
        rows = load(session, data).train
        few = rows.limit(1000).cache()
        theirs = mllib.MultilayerPerceptronClassifier(layers=PERCEPTRON, maxIter=1).fit(few)
        model = ours.MultilayerPerceptronClassifier(layers=PERCEPTRON, maxIter=1).fit(few)
        for label_only in (False, True):
            print(json.dumps(compare(theirs, model, rows, label_only, runs)), flush=True)


if __name__ == "__main__":
    main()
