"""The jobs that train without labels, or with few; commands run in the tests' own session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession

from sparknn.cli import score, train, train_rbm
from sparknn.cli.session import status_of


@pytest.fixture
def run(spark: SparkSession, capsys: pytest.CaptureFixture):
    """Run a command as a job; return its closing JSON object, or the line on a mistake."""

    def call(command, *options: object):
        capsys.readouterr()
        arguments = list(map(str, options))
        status = status_of(lambda: command.main(arguments, standalone_mode=False))
        out, err = capsys.readouterr()
        return json.loads(out) if status == 0 else f"{status}: {err.splitlines()[-1]}"

    return call


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, digits_arrays) -> Path:
    """Four hundred digits as CSV, of which one in three has a label."""
    path = tmp_path_factory.mktemp("table") / "digits.csv"
    features, labels = digits_arrays
    lines = [",".join([*(f"p{i}" for i in range(64)), "label"])]
    for number, (row, label) in enumerate(zip(features[:400], labels, strict=False)):
        known = "" if number % 3 else f"{label:g}"
        lines.append(",".join([*(f"{value:g}" for value in row), known]))
    path.write_text("\n".join([*lines, ""]))
    return path


def test_a_machine_is_trained_and_saved_with_its_preprocessing(
    spark: SparkSession, run, table: Path, tmp_path: Path
) -> None:
    result = run(
        *(train_rbm.train_rbm, "--input", table, "--label", "label", "--num-hidden", 20),
        *("--max-iter", 2, "--block-size", 100, "--validation", 0.2, "--output", tmp_path / "m"),
    )
    assert (result["job"], result["features"], result["hidden"]) == ("train_rbm", 64, 20)
    assert result["rows"] + result["validation"]["rows"] == 400
    assert 0 < result["validation"]["reconstructionError"] < 0.25
    rows = spark.read.csv(str(table), header=True, inferSchema=True)
    expected = PipelineModel.load(str(tmp_path / "m")).transform(rows).select("hidden").collect()
    assert len(expected[0].hidden) == 20
    options = ("--model", tmp_path / "m", "--input", table)
    result = run(score.predict, *options, "--output", tmp_path / "out", "--keep", "label")
    assert (result["rows"], result["columns"]) == (400, ["label", "hidden"])
    found = spark.read.parquet(str(tmp_path / "out")).select("hidden").collect()
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert "RBMModel, which no label" in run(score.evaluate, *options)
    again = run(train_rbm.train_rbm, "--input", table, "--output", tmp_path / "m")
    assert again.startswith("2: error:")
    assert "exists: choose another --output" in again


def test_a_belief_network_takes_rows_without_a_label(run, table: Path, tmp_path: Path) -> None:
    result = run(
        *(train.train_dbn, "--input", table, "--hidden", "30,20", "--pretrain-max-iter", "2,1"),
        *("--pretrain-block-size", 100, "--max-iter", 2, "--block-size", 10, "--validation", 0.2),
        *("--output", tmp_path / "m"),
    )
    assert (result["job"], result["classes"]) == ("train_dbn", 10)
    # Of one in three of the rows.
    assert result["rows"] + result["validation"]["rows"] == 134
    scored = run(
        *(score.predict, "--model", tmp_path / "m", "--input", table),
        *("--output", tmp_path / "scored"),
    )
    assert scored["rows"] == 400
    mistake = run(train.train_mlp, "--input", table, "--hidden", "3", "--max-iter", 1)
    assert "column 'label': 266 rows are null" in mistake


PRETRAINING = {
    "--pretrain-persistent": "",
    "--pretrain-visible-means": "",
    "--pretrain-momentum": "0.6,0.8",
    "--pretrain-momentum-schedule": "linear,constant",
    "--pretrain-steps-per-round": "1000",
}
LAYERS = {
    "persistent": [True, True],
    "sampleVisible": [False, False],
    "momentum": [0.6, 0.8],
    "momentumSchedule": ["linear", "constant"],
    "stepsPerRound": [1000, 1000],
}


def test_what_is_said_of_the_pre_training_reaches_every_layer(run, monkeypatch) -> None:
    def told(name: str, job, estimator, hidden) -> dict:
        machines = estimator._rbms()
        return {param: [each.getOrDefault(param) for each in machines] for param in LAYERS}

    monkeypatch.setattr(train, "_train", told)
    options = (option for name, value in PRETRAINING.items() for option in (name, value))
    given = run(train.train_dbn, "--input", "x", "--hidden", "30,20", *filter(None, options))
    assert given == LAYERS


def test_labels_that_are_no_class_are_a_mistake_all_the_same(run, table: Path, tmp_path) -> None:
    lines = table.read_text().splitlines()
    lines[5] = lines[5].rpartition(",")[0] + ",NaN"
    (tmp_path / "bad.csv").write_text("\n".join([*lines, ""]))
    options = ("--input", tmp_path / "bad.csv", "--hidden", "3", "--max-iter", 0)
    mistake = run(train.train_dbn, *options, "--pretrain-max-iter", 0)
    assert "line 6: column 'label': 'NaN' is no number" in mistake
    result = run(train.train_dbn, *options, "--pretrain-max-iter", 0, "--bad-lines", "skip")
    assert result["skipped"] == 1
