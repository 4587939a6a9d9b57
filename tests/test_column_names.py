"""Columns by whatever names they come: with dots, with backticks, alike but for their case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from job_helpers import done, mistake, runner
from pyspark.ml.linalg import Vectors

from sparknn import load_numpy
from sparknn.cli import kmeans, naive_bayes, score, train

SEPAL = ["Sepal.Length", "Sepal.Width"]
random = np.random.default_rng(4)
POINTS = random.normal(size=(60, 2)).round(3)
CLASSES = (POINTS[:, 0] > POINTS[:, 1]).astype(int)


@pytest.fixture
def run(spark, capsys: pytest.CaptureFixture):
    return runner(capsys)


def table(path: Path, header: str, shown: str = "{label}") -> Path:
    """Write a table of two numbers, which decide the label, and of what else is shown of it."""
    pairs = zip(POINTS.tolist(), CLASSES.tolist(), strict=True)
    rows = [f"{x},{y},{shown.format(label=label, word='ab'[label])}" for (x, y), label in pairs]
    path.write_text("\n".join([header, *rows, ""]))
    return path


WAYS = {
    "plain": ("Sepal.Length,Sepal.Width,label", "{label}", ["--label", "label"]),
    "label": ("Sepal.Length,Sepal.Width,is.large", "{label}", ["--label", "is.large"]),
    "scaled": (
        "Sepal.Length,Sepal.Width,is.large",
        "{word}",
        ["--label", "is.large", "--scale", "standard"],
    ),
    "backticks": (
        "`Sepal.Length`,Sepal`Width,is`large",
        "{label}",
        ["--label", "is`large", "--scale", "minmax"],
    ),
    "all stages": (
        "Sepal.Length,Sepal.Width,its.kind,label",
        "{word},{label}",
        [
            "--categorical",
            "its.kind",
            "--missing",
            "mean",
            "--bins",
            "Sepal.Length=-1,0,1",
            "--scale",
            "minmax",
        ],
    ),
    "quantiles": (
        "Sepal.Length,Sepal.Width,label",
        "{label}",
        ["--bins", "Sepal.Length=quantiles:3"],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_columns_with_dots_and_backticks_train_and_score(run, spark, tmp_path, way) -> None:
    header, shown, options = WAYS[way]
    path, model = table(tmp_path / "rows.csv", header, shown), tmp_path / "model"
    asked = ("--input", path, "--test", path, "--max-iter", 20, "--output", model)
    trained = done(run, train.train_logistic, *asked, *options)
    assert trained["test"]["accuracy"] > 0.8
    measured = done(run, score.evaluate, "--model", model, "--input", path)
    assert measured["accuracy"] == trained["test"]["accuracy"]
    scored = tmp_path / "scored"
    result = done(run, score.predict, "--model", model, "--input", path, "--output", scored)
    made = {"probability", "rawPrediction", "prediction", "predictedLabel"}
    assert [name for name in result["columns"] if name not in made] == header.split(",")
    assert spark.read.parquet(str(scored)).count() == len(POINTS)


def test_a_model_of_columns_with_dots_names_them_without_spark(run, tmp_path) -> None:
    path, model = table(tmp_path / "rows.csv", ",".join([*SEPAL, "label"])), tmp_path / "model"
    options = ("--input", path, "--scale", "standard", "--max-iter", 20, "--output", model)
    done(run, train.train_logistic, *options)
    loaded = load_numpy(model)
    assert loaded.columns == tuple(SEPAL)
    assert (loaded.predict(POINTS) == CLASSES).mean() > 0.8


@pytest.mark.parametrize("kind", ["gaussian", "bernoulli"])
def test_naive_bayes_takes_a_label_with_dots(run, tmp_path, kind) -> None:
    path, model = table(tmp_path / "rows.csv", ",".join([*SEPAL, "is.large"])), tmp_path / "model"
    options = ("--input", path, "--label", "is.large", "--models", kind, "--output", model)
    trained = done(run, naive_bayes.naive_bayes, *options, "--validation", 0, "--test", path)
    measured = done(run, score.evaluate, "--model", model, "--input", path)
    assert measured["accuracy"] == trained["models"][0]["test"]["accuracy"]


def test_centres_have_the_names_of_columns_with_dots(run, spark, tmp_path) -> None:
    path, model = table(tmp_path / "rows.csv", ",".join([*SEPAL, "label"])), tmp_path / "model"
    options = ("--input", path, "--features", ",".join(SEPAL), "--k", 2, "--output", model)
    for scale in ("none", "standard"):
        done(run, kmeans.kmeans, *options, "--scale", scale, "--overwrite")
        assert spark.read.parquet(f"{model}/centres").columns == ["cluster", *SEPAL]


@pytest.mark.parametrize("kind", ["vectors", "arrays"])
def test_features_in_one_column_with_a_dot_are_taken(run, spark, tmp_path, kind) -> None:
    made, scale = (Vectors.dense, "standard") if kind == "vectors" else (list, "none")
    rows = [
        (made(row), label) for row, label in zip(POINTS.tolist(), CLASSES.tolist(), strict=True)
    ]
    path, model = tmp_path / "rows.parquet", tmp_path / "model"
    spark.createDataFrame(rows, ["my.features", "is.large"]).write.parquet(str(path))
    options = ("--input", path, "--features", "my.features", "--overwrite", "--output", model)
    labelled = (*options, "--label", "is.large")
    done(run, train.train_logistic, *labelled, "--max-iter", 5, "--scale", scale)
    done(run, score.evaluate, "--model", model, "--input", path)
    if kind == "vectors":
        done(run, naive_bayes.naive_bayes, *labelled, "--models", "gaussian,bernoulli")
        done(run, score.evaluate, "--model", model, "--input", path)
        assert "column 'my.features'" in mistake(run, kmeans.kmeans, *options, "--k", 2)
        done(run, kmeans.kmeans, *options, "--k", 2, "--scale", "minmax")


def test_a_column_that_differs_in_case_from_a_new_one_is_refused(run, tmp_path) -> None:
    path = table(tmp_path / "rows.csv", "a,Cluster,label")
    line = mistake(run, kmeans.kmeans, "--input", path, "--features", "a", "--k", 2)
    assert "column 'Cluster' is one that the model adds" in line
    model = tmp_path / "model"
    path = table(tmp_path / "rows.csv", "a,b,label")
    done(run, train.train_logistic, "--input", path, "--max-iter", 1, "--output", model)
    path = table(tmp_path / "more.csv", "a,b,Prediction")
    options = ("--model", model, "--input", path, "--output", tmp_path / "scored")
    assert "column 'Prediction' is one that" in mistake(run, score.predict, *options)


def test_columns_on_the_way_differ_from_all_others_by_more_than_case(run, tmp_path) -> None:
    path = table(tmp_path / "rows.csv", "Features,Scaled_Features,label")
    options = ("--input", path, "--scale", "standard", "--max-iter", 1)
    assert done(run, train.train_logistic, *options)["features"] == 2
