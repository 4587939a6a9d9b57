"""Parquet, JSON and arrays as inputs of jobs: kinds of columns, labels across formats."""

from __future__ import annotations

import json
import struct
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
from job_helpers import done, mistake, runner
from pyspark.sql import functions as F

from sparknn.cli import kmeans, score, train, train_rbm
from sparknn.cli.column_kinds import Column
from sparknn.cli.inputs import Reading, read
from sparknn.errors import InvalidDataError


@pytest.fixture
def run(spark, capsys: pytest.CaptureFixture):
    return runner(capsys)


def test_labels_in_a_column_of_their_own_train_as_keras_stores_them(run, tmp_path: Path) -> None:
    images = np.arange(40).reshape(10, 2, 2)
    np.savez(tmp_path / "x.npz", x_train=images, y_train=np.arange(10).reshape(10, 1) % 2)
    result = done(run, train.train_logistic, "--input", tmp_path / "x.npz", "--max-iter", 1)
    assert (result["rows"], result["features"], result["classes"]) == (10, 4, 2)
    np.savez(tmp_path / "none.npz", x=images[:0], y=[])
    line = mistake(run, train.train_logistic, "--input", tmp_path / "none.npz")
    assert "array 'x' is of shape (0, 2, 2)" in line


def test_images_without_labels_serve_jobs_that_need_none(run, spark, tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(12, 2, 2)
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *pixels.shape) + pixels.tobytes())
    assert done(run, kmeans.kmeans, "--input", path, "--k", 2)["best"]["k"] == 2
    options = ("--num-hidden", 2, "--scale", "minmax", "--max-iter", 1)
    assert done(run, train_rbm.train_rbm, "--input", path, *options)["rows"] == 12
    np.savez(tmp_path / "x.npz", x=pixels, y=np.arange(12) % 2)
    model = tmp_path / "model"
    done(
        run, train.train_logistic, "--input", tmp_path / "x.npz", "--max-iter", 1, "--output", model
    )
    predicted = tmp_path / "predicted"
    done(run, score.predict, "--model", model, "--input", path, "--output", predicted)
    assert spark.read.parquet(str(predicted)).count() == 12
    for command, options in ((train.train_logistic, ()), (score.evaluate, ("--model", model))):
        assert "no column 'label'" in mistake(run, command, "--input", path, *options)


ODD_COLUMNS = {
    "timestamp": ({"a": 1.0, "ts": datetime(2026, 1, 1)}, "'ts' is timestamp", "--drop ts"),
    "date": ({"ts": date(2026, 1, 1)}, "'ts' is date", "store a number"),
    "map": ({"a": 1.0, "ts": {"b": 1}}, "'ts' is map", "--drop ts"),
    "array": ({"a": 1.0, "ts": [1.0, 2.0]}, "'ts' holds many numbers", "--features"),
}


@pytest.mark.parametrize("case", ODD_COLUMNS)
def test_a_column_that_no_feature_can_be_made_of_is_told_by_its_type(
    run, spark, tmp_path: Path, case: str
) -> None:
    row, *told = ODD_COLUMNS[case]
    path = str(tmp_path / "x.parquet")
    spark.createDataFrame([{**row, "label": i % 2} for i in range(4)]).write.parquet(path)
    line = mistake(run, train.train_logistic, "--input", path)
    assert all(each in line for each in told), line


PIXELS = [" 1 2 3", "4 5\t6 ", "+7 .8 9e1", "1 2", "1 x 3", None, "7"]


def lists(spark, tmp_path: Path, kind: str) -> str:
    """Rows of many numbers in a cell, some of which are not."""
    rows = [(i, text) for i, text in enumerate(PIXELS)]
    path = str(tmp_path / f"x.{kind}")
    spark.createDataFrame(rows, "id int, pixels string").coalesce(1).write.format(kind).save(path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "json"])
@pytest.mark.parametrize(
    "said", [{"numbers_column": ("pixels",)}, {"schema": "pixels ARRAY<DOUBLE>"}]
)
def test_many_numbers_in_a_cell_are_said_as_for_csv(spark, tmp_path: Path, kind, said) -> None:
    found = read(
        spark, lists(spark, tmp_path, kind), Reading(bad_lines="skip", max_bad_fraction=1, **said)
    )
    cells = {row.id: row.pixels for row in found.rows.collect()}
    vectors = {number: list(cell) for number, cell in cells.items() if cell is not None}
    assert vectors == {0: [1, 2, 3], 1: [4, 5, 6], 2: [7, 0.8, 90]}
    assert set(cells) == {0, 1, 2, 5} and found.counts.bad == 3
    reasons = {row.reason for row in found.counts.faults[0].collect()}
    assert reasons == {f"column 'pixels': not 3 numbers ({n} values)" for n in (1, 2, 3)}
    assert ("pixels", "numbers", 3) in found.columns


def test_many_numbers_in_a_cell_are_found_and_trained_on_whatever_the_format(
    run, spark, tmp_path: Path
) -> None:
    rows = [{"pixels": " ".join(map(str, range(i, i + 3000))), "label": i % 2} for i in range(6)]
    path, model = tmp_path / "x.jsonl", tmp_path / "model"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("--max-iter", 1, "--output", model)
    assert done(run, train.train_logistic, "--input", path, *options)["features"] == 3000
    for kind in ("csv", "parquet"):
        again = str(tmp_path / f"x.{kind}")
        spark.createDataFrame(rows).write.option("header", True).format(kind).save(again)
        assert done(run, score.evaluate, "--model", model, "--input", again)["rows"] == 6


def test_a_column_that_cannot_hold_many_numbers_is_named(spark, tmp_path: Path) -> None:
    path = lists(spark, tmp_path, "parquet")
    for name, told in (("pixel", "no column 'pixel'"), ("id", "'id' is int, and is to hold many")):
        with pytest.raises(InvalidDataError, match=told):
            read(spark, path, Reading(numbers_column=(name,)))
    spark.createDataFrame([("a",)], "word string").write.parquet(str(tmp_path / "words"))
    with pytest.raises(InvalidDataError, match="'word' is to hold many numbers"):
        read(spark, str(tmp_path / "words"), Reading("parquet", numbers_column=("word",)))


def test_a_line_of_libsvm_may_hold_thousands_of_values(spark, tmp_path: Path) -> None:
    """A pattern that Java takes by recursion overflows its stack, which ends the session."""
    line = " ".join(["1", *(f"{index}:0.125" for index in range(1, 5001))])
    (tmp_path / "x.svm").write_text(f"{line}\n{line}x\n")
    found = read(spark, str(tmp_path / "x.svm"), Reading(bad_lines="skip"))
    assert (found.rows.first().features.size, found.counts.bad) == (5000, 1)


PAIRS = [
    ("int", "csv"),
    ("int", "double"),
    ("double", "csv"),
    ("csv", "double"),
    ("libsvm", "int"),
    ("decimal(9,0)", "json"),
]


def labelled(spark, path: Path, kind: str, labels: list[float]) -> tuple[object, ...]:
    """Write rows with these labels in a format, or a type of Parquet; return how to read them."""
    if kind == "libsvm":
        path.write_text("".join(f"{y:g} 1:{i} 2:1\n" for i, y in enumerate(labels)))
        return "--input", path, "--format", "libsvm"
    rows = spark.createDataFrame([(i, float(y)) for i, y in enumerate(labels)], "id int, y double")
    features = F.array(F.col("id").cast("double"), F.lit(1.0))
    if kind == "csv":
        features = F.concat("id", F.lit(" 1"))
    kept = kind if kind in ("csv", "json") else "parquet"
    label = F.col("y").cast(kind if kept == "parquet" else "int").alias("label")
    rows.select(features.alias("features"), label).write.option("header", True).format(kept).save(
        str(path)
    )
    return "--input", path, "--format", kept


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_whole_labels_are_the_same_in_every_format_and_type(
    run, spark, tmp_path: Path, first: str, second: str
) -> None:
    labels = [1 + i % 3 for i in range(12)]
    model = tmp_path / "model"
    options = labelled(spark, tmp_path / "first", first, labels)
    done(run, train.train_logistic, *options, "--max-iter", 1, "--output", model)
    options = labelled(spark, tmp_path / "second", second, labels)
    result = done(run, score.evaluate, "--model", model, *options)
    assert (result["rows"], len(result["perClass"])) == (12, 3)


def test_a_fraction_among_labels_that_were_whole_is_a_bad_row(run, spark, tmp_path: Path) -> None:
    model = tmp_path / "model"
    options = labelled(spark, tmp_path / "rows", "int", [3, 5, 3, 5])
    done(run, train.train_logistic, *options, "--max-iter", 1, "--output", model)
    options = ("--model", model, *labelled(spark, tmp_path / "odd", "double", [3, 5, 4.5]))
    assert "column 'label': '4.5' is no whole number" in mistake(run, score.evaluate, *options)
    assert done(run, score.evaluate, *options, "--bad-lines", "skip")["rows"] == 2


def test_whole_numbers_that_no_double_holds_stay_what_they_are(spark, tmp_path: Path) -> None:
    spark.range(2**60 + 1, 2**60 + 2).write.parquet(str(tmp_path / "x.parquet"))
    found = read(spark, str(tmp_path / "x.parquet"), known=[Column("id", "integer")])
    assert [row.id for row in found.rows.collect()] == [2**60 + 1]


def test_whole_categories_of_parquet_are_the_same_words_in_csv(run, spark, tmp_path: Path) -> None:
    rows = spark.range(8).selectExpr("id AS a", "id % 2 + 7 AS town", "id % 2 AS label")
    rows.write.parquet(str(tmp_path / "x.parquet"))
    rows.write.option("header", True).csv(str(tmp_path / "x.csv"))
    model = tmp_path / "model"
    options = ("--categorical", "town", "--max-iter", 1, "--output", model)
    done(run, train.train_logistic, "--input", tmp_path / "x.parquet", *options)
    for kind in ("csv", "parquet"):
        path = tmp_path / f"x.{kind}"
        assert done(run, score.evaluate, "--model", model, "--input", path)["rows"] == 8
