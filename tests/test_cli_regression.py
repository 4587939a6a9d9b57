"""The jobs on numbers to predict: train_mlp --task regression, evaluate, predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from pyspark.sql import SparkSession

from sparknn import load_numpy
from sparknn.cli import score, train
from sparknn.cli.session import status_of


@pytest.fixture
def run(spark: SparkSession, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Run a command as a job; return its status, standard output and standard error."""

    def call(command: click.Command, *options: object) -> tuple[int, str, str]:
        capsys.readouterr()
        arguments = list(map(str, options))
        status = status_of(lambda: command.main(arguments, standalone_mode=False))
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def plane(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV file of rents that are a plane over size and age; one may be another text."""

    def write(name: str = "rents.csv", rent: str | None = None) -> Path:
        rows = [(size, (size * 7) % 11) for size in range(40, 140)]
        lines = [f"{size},{age},{12.5 * size - 20 * age - 800.25}" for size, age in rows]
        if rent is not None:
            lines[17] = f"57,3,{rent}"
        (tmp_path / name).write_text("\n".join(["size,age,rent", *lines, ""]))
        return tmp_path / name

    return write


def test_a_regression_is_trained_measured_and_applied(run, plane, spark, tmp_path: Path) -> None:
    path, model = plane(), tmp_path / "model"
    options = ["--task", "regression", "--label", "rent", "--layers", "2,1", "--tol", "1e-9"]
    status, out, err = run(
        train.train_mlp, "--input", path, *options, "--scale", "standard", "--validation", "0.3",
        "--output", model,
    )  # fmt: skip
    assert status == 0, err
    result = json.loads(out)
    assert "classes" not in result
    assert result["features"] == 2
    assert set(result["validation"]) == {"rows", "rmse", "mae", "r2"}
    assert result["validation"]["rmse"] < 0.05
    status, out, err = run(score.evaluate, "--model", model, "--input", path)
    assert status == 0, err
    measured = json.loads(out)
    assert measured["r2"] == pytest.approx(1, abs=1e-6)
    assert measured["rows"] == 100
    assert "R² 1.0000" in err
    scored = tmp_path / "scored"
    status, out, err = run(score.predict, "--model", model, "--input", path, "--output", scored)
    assert status == 0, err
    assert json.loads(out)["columns"] == ["size", "age", "rent", "prediction"]
    rows = spark.read.parquet(str(scored)).collect()
    assert max(abs(row.prediction - row.rent) for row in rows) < 0.1
    assert load_numpy(model).predict(np.array([[100.0, 2.0]])) == pytest.approx(409.75, abs=0.1)


@pytest.mark.parametrize(
    ("rent", "message"),
    [
        ("NaN", "line 19: column 'rent': 'NaN' is no number"),
        ("dear", "line 19: column 'rent': 'dear' is no number"),
        ("", "'rent': 1 row is null, or empty; the first is row 17"),
    ],
)
def test_a_bad_label_is_named_in_one_line(rent: str, message: str, run, plane) -> None:
    options = ["--task", "regression", "--label", "rent", "--hidden", "4"]
    status, _, err = run(train.train_mlp, "--input", plane(rent=rent), *options)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.lower().startswith("error")]
    assert message in line


def test_bad_labels_are_left_out_if_asked(run, plane) -> None:
    options = ["--task", "regression", "--label", "rent", "--hidden", "4", "--max-iter", "3"]
    status, out, err = run(
        train.train_mlp, "--input", plane(rent="NaN"), *options, "--bad-lines", "skip",
        "--loss", "huber",
    )  # fmt: skip
    assert status == 0, err
    result = json.loads(out)
    assert (result["rows"], result["skipped"]) == (99, 1)


def test_a_loss_of_classes_is_refused(run, plane) -> None:
    options = ["--task", "regression", "--label", "rent", "--hidden", "4", "--loss", "crossEntropy"]
    status, _, err = run(train.train_mlp, "--input", plane(), *options)
    assert status == 2
    assert "loss must be one of squared, absolute, huber" in err
