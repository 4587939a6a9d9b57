"""The jobs on bad input: one line that says what is wrong, status 2, and nothing damaged.

Commands run in the tests' own session; tests/test_jobs.py runs them by spark-submit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from sparknn.cli import metrics, score, train
from sparknn.cli.inputs import hold_out
from sparknn.cli.session import status_of

HEADER = "first,second,label"
GOOD = [f"{index},{(index * 7) % 11},{index % 2}" for index in range(300)]


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
def done(run) -> Callable[..., dict]:
    """Run a command that succeeds; return its closing JSON object."""

    def call(command: click.Command, *options: object) -> dict:
        status, out, err = run(command, *options)
        assert status == 0, err
        (line,) = out.splitlines()
        return json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))

    return call


@pytest.fixture
def mistake(run) -> Callable[..., str]:
    """Run a command on a user's mistake; return the one line that explains it."""

    def call(command: click.Command, *options: object) -> str:
        status, out, err = run(command, *options)
        assert status == 2, err
        assert out == ""
        assert "Traceback" not in err
        errors = [line for line in err.splitlines() if line.lower().startswith("error")]
        assert len(errors) == 1, err
        assert err.splitlines()[-1] == errors[0]
        return errors[0]

    return call


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV file of good rows, with some replaced."""

    def write(name: str = "rows.csv", header: str = HEADER, rows=GOOD, **replaced: str) -> Path:
        lines = list(rows)
        for place, line in replaced.items():
            lines[int(place.removeprefix("row"))] = line
        path = tmp_path / name
        path.write_text("\n".join([header, *lines, ""]))
        return path

    return write


@pytest.fixture(scope="module")
def model(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A logistic regression on two columns, saved by its job."""
    directory = tmp_path_factory.mktemp("model")
    (directory / "rows.csv").write_text("\n".join([HEADER, *GOOD, ""]))
    options = ["--input", str(directory / "rows.csv"), "--scale", "standard"]
    options += ["--output", str(directory / "model"), "--max-iter", "5"]
    assert status_of(lambda: train.train_logistic.main(options, standalone_mode=False)) == 0
    return directory / "model"


@pytest.fixture(scope="module")
def fruit(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceptron whose labels are words."""
    directory = tmp_path_factory.mktemp("fruit")
    rows = [f"{i},{i % 3},{('apple', 'cherry')[i % 2]}" for i in range(30)]
    (directory / "rows.csv").write_text("\n".join(["weight,width,fruit", *rows, ""]))
    options = ["--input", str(directory / "rows.csv"), "--label", "fruit", "--hidden", "3"]
    options += ["--output", str(directory / "model"), "--max-iter", "2"]
    assert status_of(lambda: train.train_mlp.main(options, standalone_mode=False)) == 0
    return directory / "model"


BAD_ROWS = {
    "cells": (
        {"row17": "17,NaN,1", "row20": "x,1,1"},
        ["2 lines are bad", "rows.csv line 19: ", "'second': 'NaN' is no number", "17,NaN,1"],
    ),
    "range": ({"row20": "20,1e300,1"}, ["'second'", "1 row is", "row 20 (1e+300 "]),
    "lines": ({"row17": "17,2,1,9", "row18": "18"}, ["2 lines are", "line 19: 4 cells, not 3"]),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_perceptron_rows_that_are_invalid_are_named_or_skipped(table, mistake, done, case) -> None:
    replaced, messages = BAD_ROWS[case]
    options = ("--input", table(**replaced), "--hidden", "2", "--max-iter", "1")
    line = mistake(train.train_mlp, *options)
    for message in [*messages, "rows.csv", "--bad-lines skip"]:
        assert message in line
    result = done(train.train_mlp, *options, "--bad-lines", "skip")
    left = len(GOOD) - len(replaced)
    assert (result["rows"], result["skipped"], result["classes"]) == (left, len(replaced), 2)
    assert result["input"]["bad"] == len(replaced)


@pytest.mark.parametrize("case", BAD_ROWS)
def test_evaluated_rows_that_are_invalid_are_named_or_skipped(
    table, mistake, done, model, case
) -> None:
    replaced, messages = BAD_ROWS[case]
    options = ("--model", model, "--input", table(**replaced))
    line = mistake(score.evaluate, *options)
    for message in messages:
        assert message in line
    result = done(score.evaluate, *options, "--bad-lines", "skip")
    assert (result["rows"], result["skipped"]) == (len(GOOD) - len(replaced), len(replaced))
    assert np.sum(result["confusion"]) == result["rows"]


def test_empty_cells_are_missing_and_not_bad(table, mistake, done, model) -> None:
    rows = table(row17="17,,1", row18="18,,0", row21="21,1,")
    options = ("--input", rows, "--bad-lines", "skip")
    line = mistake(train.train_logistic, *options)
    for message in ("'second'", "2 rows are null", "row 17", "'label'", "row 21", "--missing drop"):
        assert message in line
    result = done(train.train_logistic, *options, "--missing", "drop", "--max-iter", "1")
    assert (result["rows"], result["input"]["missing"], result["input"]["bad"]) == (297, 3, 0)
    assert "2 rows are null" in mistake(score.evaluate, "--model", model, *options)
    result = done(score.evaluate, "--model", model, *options, "--missing", "drop")
    assert (result["rows"], result["skipped"]) == (297, 3)


def test_predicted_rows_that_are_invalid_are_named_or_skipped(
    table, mistake, done, model, tmp_path
) -> None:
    output = tmp_path / "scored"
    rows = table(header="first,second", rows=["1,2", "2,NaN", "3,4", "4,"])
    options = ("--model", model, "--input", rows, "--output", output)
    line = mistake(score.predict, *options)
    assert "'second'" in line and "1 line is bad" in line and "rows.csv line 3" in line
    assert not output.exists()
    assert "1 row is null" in mistake(score.predict, *options, "--bad-lines", "skip")
    result = done(score.predict, *options, "--bad-lines", "skip", "--missing", "drop")
    assert (result["rows"], result["skipped"]) == (2, 2)


def test_predict_asks_nothing_of_labels(table, done, fruit, spark, tmp_path) -> None:
    rows = table(header="weight,width,fruit", rows=["1,2,plum", "3,0,", "2,2,apple"])
    options = ("--model", fruit, "--input", rows, "--output", tmp_path / "scored")
    result = done(score.predict, *options, "--columns", " fruit , predictedLabel")
    assert (result["rows"], result["columns"]) == (3, ["fruit", "predictedLabel"])
    found = spark.read.parquet(str(tmp_path / "scored")).collect()
    assert {row.predictedLabel for row in found} <= {"apple", "cherry"}


def test_a_column_to_predict_that_is_missing_is_named(table, mistake, model, tmp_path) -> None:
    rows = table(header="first,other,label")
    options = ("--model", model, "--input", rows, "--output", tmp_path / "scored")
    line = mistake(score.predict, *options)
    assert "no column 'second'" in line and "other" in line


def test_an_unknown_label_word_is_named_or_skipped(table, mistake, done, fruit) -> None:
    rows = table(header="weight,width,fruit", rows=["1,2,apple", "3,0,plum", "2,2,cherry"])
    options = ("--model", fruit, "--input", rows)
    line = mistake(score.evaluate, *options)
    assert "'fruit'" in line and "1 row is" in line and "row 1 (plum)" in line
    result = done(score.evaluate, *options, "--bad-lines", "skip")
    assert (result["rows"], result["skipped"]) == (2, 1)


def test_a_label_that_the_model_has_no_output_for_is_named(table, mistake, model) -> None:
    line = mistake(score.evaluate, "--model", model, "--input", table(row3="3,4,7"))
    assert "'label'" in line and "above 1" in line and "row 3 (7)" in line


def test_evaluating_without_the_label_lists_the_columns(table, mistake, model) -> None:
    line = mistake(score.evaluate, "--model", model, "--input", table(header="first,second,no"))
    assert "'label'" in line and "first, second, no" in line


def test_words_where_the_model_has_numbers_are_bad(table, mistake, model) -> None:
    line = mistake(score.evaluate, "--model", model, "--input", table(rows=["1,2,a", "3,4,b"]))
    assert "'label': 'a' is no number" in line


@pytest.fixture
def unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every fit fail, so that what is refused is refused before it."""

    def fit(*_: object) -> None:
        raise AssertionError("the fit began")

    monkeypatch.setattr(train, "fit_pipeline", fit)


def test_test_rows_are_checked_before_the_fit(unfitted, table, mistake) -> None:
    options = ("--input", table())
    test = table("test.csv", row5="5,1e300,1", row6="6,1,2")
    line = mistake(train.train_logistic, *options, "--test", test)
    for message in ("test.csv", "'second'", "row 5", "'label'", "above 1", "row 6"):
        assert message in line
    assert "nix.csv" in mistake(train.train_logistic, *options, "--test", "nix.csv")


def test_rows_in_are_rows_used_bad_or_missing_in_all_parts(table, done) -> None:
    rows = table(row17="17,,1", row4="NaN,1,0", row30="3,4,", row40="1,2")
    result = done(
        train.train_logistic,
        *("--input", rows, "--validation", "0.5", "--bad-lines", "skip", "--missing", "drop"),
        *("--max-iter", "2", "--test", table("test.csv", row5="5,,1")),
    )
    assert (result["input"]["bad"], result["input"]["missing"], result["skipped"]) == (2, 2, 4)
    assert result["rows"] + result["validation"]["rows"] == len(GOOD) - 4
    assert (result["test"]["rows"], result["test"]["skipped"]) == (len(GOOD) - 1, 1)


def test_a_class_whose_rows_are_all_held_out_is_one_of_the_models(table, spark, done) -> None:
    rows = [*GOOD[:20], "100,5,2"]
    data = spark.read.option("header", True).option("inferSchema", True).csv(str(table(rows=rows)))
    seed = next(
        seed
        for seed in range(100)
        if (held := hold_out(data, 0.3, seed)[1].collect()) and (100, 5, 2) in held
    )
    result = done(
        train.train_logistic,
        "--input", table(rows=rows), "--validation", "0.3", "--seed", seed, "--max-iter", "1",
    )  # fmt: skip
    assert result["classes"] == 3
    assert result["validation"]["logLoss"] > 0


MISTAKES = {
    "negative weight": (["--weight", "second"], {"row9": "1,-2,1"}, "negative"),
    "no such label": (["--label", "nix"], {}, "first, second, label"),
    "no such feature": (["--features", "first, nix"], {}, "no column 'nix'"),
    "words as features": ([], {f"row{i}": "x,1,1" for i in range(20)}, "20 rows are no number"),
    "infinity": ([], {"row2": "2,inf,1"}, "'inf' is no number"),
    "no validation rows": (["--validation", "0.000001"], {}, "no rows to measure"),
    "no training rows": (["--validation", "0.999999"], {}, "no rows to train"),
    "family": (["--family", "binomial"], {"row9": "1,2,2"}, "binomial"),
}


OUT_OF_RANGE = {
    "--step-size=-1": "stepSize",
    "--partitions=0": "numPartitions",
    "--reg-param=nan": "regParam",
    "--momentum=1": "momentum",
    "--max-iter=-1": "maxIter",
    f"--seed={2**63}": "--seed",
    "--validation=1": "--validation",
    "--bad-lines=keep": "--bad-lines",
}


@pytest.mark.parametrize("option", OUT_OF_RANGE)
def test_an_option_out_of_range_is_named_before_anything_is_read(mistake, option) -> None:
    line = mistake(train.train_logistic, "--input", "nothing.csv", option)
    assert OUT_OF_RANGE[option] in line


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(table, mistake, case) -> None:
    options, replaced, message = MISTAKES[case]
    assert message in mistake(train.train_logistic, "--input", table(**replaced), *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden", "0"], "layers"),
        (["--hidden", "3", "--dropout", "1.5"], "dropout"),
        (["--hidden", "3", "--activation", "relu,tanh"], "activation"),
        ([], "--hidden"),
    ],
    ids=str,
)
def test_a_perceptrons_options_are_checked_before_anything_is_read(
    mistake, options, message
) -> None:
    assert message in mistake(train.train_mlp, "--input", "nothing.csv", *options)


def test_layers_that_do_not_fit_the_rows_are_refused(table, mistake) -> None:
    options = ("--input", table(row9="1,2,2"), "--layers")
    assert "300 rows are not 3 values wide" in mistake(train.train_mlp, *options, "3,3")
    assert "a label above 1" in mistake(train.train_mlp, *options, "2,1")


def test_more_words_than_outputs_are_refused(table, mistake) -> None:
    rows = table(rows=["1,2,a", "3,4,b", "5,6,c"])
    line = mistake(train.train_mlp, "--input", rows, "--layers", "2,2")
    assert "3 different words" in line


def test_nothing_to_read_is_one_line(tmp_path, table, mistake) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text(HEADER + "\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "no.parquet").write_text("this is no Parquet")
    (tmp_path / "no.svm").write_text("this is no LIBSVM\n")
    for path, message in (
        ("empty.csv", "no rows"),
        ("header.csv", "no rows"),
        ("nothing.csv", "nothing is there"),
        ("folder", "nothing is there"),
        ("no.parquet", "cannot be read"),
        ("no.svm", "1 line is bad"),
    ):
        line = mistake(train.train_logistic, "--input", tmp_path / path)
        assert path in line and message in line, line
    assert "nosuch" in mistake(train.train_logistic, "--input", "nosuch://bucket/rows.csv")
    line = mistake(train.train_logistic, "--input", tmp_path / "nix", "--format", "parquet")
    assert "nix" in line


def test_all_rows_invalid_is_one_line(table, mistake) -> None:
    rows = table(rows=["1e300,1,0", "1e300,2,1"])
    line = mistake(train.train_logistic, "--input", rows, "--bad-lines", "skip")
    assert "no valid row is left of 2" in line


def test_vectors_that_are_null_or_of_another_width_are_named_or_skipped(
    spark, tmp_path, mistake, done
) -> None:
    rows = [(float(i % 2), Vectors.dense([i, i % 3])) for i in range(20)]
    rows[3] = (1.0, None)
    rows[11] = (0.0, Vectors.sparse(3, {1: 2.0}))
    data = spark.createDataFrame(spark.sparkContext.parallelize(rows, 1), ["label", "features"])
    path = tmp_path / "rows.parquet"
    data.write.parquet(str(path))
    options = ("--input", path, "--scale", "minmax", "--max-iter", "2")
    line = mistake(train.train_logistic, *options)
    assert "'features'" in line and "row 3" in line
    line = mistake(train.train_logistic, *options, "--missing", "drop")
    assert "1 row is not 2 values wide" in line
    output = tmp_path / "model"
    skip = ("--bad-lines", "skip", "--missing", "drop")
    result = done(train.train_logistic, *options, *skip, "--output", output)
    assert (result["rows"], result["skipped"]) == (18, 2)
    line = mistake(score.predict, "--model", output, "--input", path, "--output", tmp_path / "out")
    assert "row 3" in line
    result = done(
        score.predict, "--model", output, "--input", path, "--output", tmp_path / "out", *skip
    )
    assert (result["rows"], result["skipped"]) == (18, 2)


def test_arrays_train_but_are_not_scaled(spark, tmp_path, mistake, done) -> None:
    rows = [(i % 2, [float(i), None if i == 7 else 1.0]) for i in range(20)]
    data = spark.createDataFrame(rows, "label int, features array<double>")
    path = tmp_path / "rows.parquet"
    data.write.parquet(str(path))
    assert "--scale" in mistake(train.train_logistic, "--input", path, "--scale", "standard")
    options = ("--input", path, "--max-iter", "2", "--bad-lines", "skip", "--missing", "drop")
    result = done(train.train_logistic, *options)
    assert (result["rows"], result["skipped"]) == (19, 1)


def test_a_column_that_the_model_adds_is_refused_before_anything_is_written(
    table, mistake, model, tmp_path
) -> None:
    rows = table(header="first,second,prediction")
    output = tmp_path / "out"
    options = ("--input", rows, "--output", output)
    assert "'prediction'" in mistake(score.predict, "--model", model, *options)
    line = mistake(train.train_logistic, "--label", "prediction", *options)
    assert "'prediction'" in line
    assert not output.exists()


def test_an_output_that_exists_is_refused_before_the_fit(unfitted, table, mistake, model) -> None:
    before = sorted(model.rglob("*"))
    assert "exists" in mistake(train.train_logistic, "--input", table(), "--output", model)
    assert sorted(model.rglob("*")) == before


def test_an_output_that_cannot_be_written_is_refused_before_the_fit(
    unfitted, table, mistake, tmp_path
) -> None:
    (tmp_path / "file").write_text("")
    options = ("--input", table(), "--hidden", "2", "--output", tmp_path / "file" / "model")
    assert "cannot be written" in mistake(train.train_mlp, *options)


def test_what_is_no_model_is_refused(table, mistake, model, tmp_path) -> None:
    rows = table()
    stage = next(path for path in (model / "stages").iterdir() if (path / "_COMPLETE").exists())
    for path, message in ((tmp_path / "no", "nothing"), (rows, "_COMPLETE"), (stage, "pipeline")):
        assert message in mistake(score.evaluate, "--model", path, "--input", rows)


def test_what_json_has_no_word_for_is_null(monkeypatch, table, done, model) -> None:
    undefined = SimpleNamespace(evaluate=lambda _: float("nan"))
    monkeypatch.setattr(metrics, "_of_classes", lambda _: undefined)
    result = done(score.evaluate, "--model", model, "--input", table())
    assert result["accuracy"] is None and result["rows"] == len(GOOD)


def test_errors_that_are_not_the_users_keep_their_traceback(run, monkeypatch, table) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(train, "fit_pipeline", broken)
    status, out, err = run(train.train_logistic, "--input", table())
    assert (status, out) == (1, "")
    assert "Traceback" in err and "a fault of ours" in err
