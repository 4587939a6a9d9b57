"""Inputs as they come, read by Spark and trained on; what is taken apart by itself stands in
test_inputs.py."""

from __future__ import annotations

import csv
import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from sparknn.cli import score, train
from sparknn.cli.formats import BadFileError
from sparknn.cli.inputs import Reading, read
from sparknn.cli.kmeans import kmeans
from sparknn.cli.session import status_of
from sparknn.cli.train_rbm import train_rbm
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError


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


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def numbers(rows: int = 200, start: int = 0) -> str:
    return "".join(f"{i},{i * 7 % 11}.5,{i % 2}\r\n" for i in range(start, start + rows))


def csv_rows(*paths: Path) -> int:
    """Count rows as Python's csv module does, headers and blank lines apart."""
    count = 0
    for path in paths:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            count += sum(1 for row in csv.reader(file) if row) - 1
    return count


@pytest.fixture
def messy(tmp_path: Path) -> list[Path]:
    """Files of one input: a byte-order mark, Windows line ends, a blank line before the header,
    quotes, gz, and bad lines."""
    folder = tmp_path / "messy"
    folder.mkdir()
    head = "a,b,label\r\n"
    bad = '7,"x\r\ny",1\r\n1,2\r\nx,1,0\r\n\r\n"3","4.5","1"\r\n'
    first = written(folder / "1.csv", "\ufeff" + head + numbers() + bad)
    second = folder / "2.csv.gz"
    second.write_bytes(gzip.compress(("\r\n" + head + numbers(300, 5)).encode()))
    return [first, second]


def test_rows_in_are_rows_read_and_bad_ones(spark, messy: list[Path]) -> None:
    folder = str(messy[0].parent)
    with pytest.raises(InvalidDataError, match=r"3 lines are bad; .*1\.csv line 202") as error:
        read(spark, folder)
    assert "--multiline" in str(error.value)
    found = read(spark, folder, Reading(bad_lines="skip"))
    assert found.counts.rows == csv_rows(*messy) == found.rows.count() + 3
    assert (found.counts.bad, found.counts.blank) == (3, 2)
    assert [column.kind for column in found.columns] == ["integer", "number", "integer"]
    found = read(spark, folder, Reading(bad_lines="skip", multiline=True))
    assert (found.counts.rows, found.counts.bad) == (csv_rows(*messy), 3)
    with pytest.raises(InvalidDataError, match=r"3 of 504 rows are bad.*--max-bad-fraction"):
        read(spark, folder, Reading(bad_lines="skip", max_bad_fraction=0.005))


def test_a_truncated_file_stops_the_job_or_is_left_out_whole(spark, messy: list[Path]) -> None:
    content = gzip.compress(b"a,b,label\n" + numbers(20_000).encode())
    (broken := messy[0].parent / "3.csv.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFileError, match=r"3\.csv\.gz cannot be read"):
        read(spark, str(messy[0].parent), Reading(bad_lines="skip"))
    how = Reading(bad_lines="skip", bad_files="skip")
    found = read(spark, str(messy[0].parent), how)
    assert found.counts.files_left_out == [str(broken)]
    assert found.counts.rows == csv_rows(*messy)


def test_files_are_named_as_they_are_whatever_signs_spark_encodes(spark, tmp_path: Path) -> None:
    (folder := tmp_path / "50% off").mkdir()
    names = ["sales%2024.csv", "a b.csv", "c#d.csv", "né&ü.csv", "100%.csv"]
    paths = [written(folder / name, "a,b,label\n" + numbers(20) + '7,"x\ny",1\n') for name in names]
    found = read(spark, str(folder), Reading(bad_lines="skip"))
    assert (found.counts.rows, found.counts.bad) == (105, 5)
    assert {row.file for row in found.counts.faults[0].collect()} == set(map(str, paths))
    content = gzip.compress(b"a,b,label\n" + numbers(20_000).encode())
    (broken := folder / "é %20#.csv.gz").write_bytes(content[: len(content) // 2])
    found = read(spark, str(folder), Reading(bad_lines="skip", bad_files="skip"))
    assert (found.counts.files_left_out, found.counts.rows) == ([str(broken)], 105)


def test_other_formats_are_read_with_their_bad_lines(spark, tmp_path: Path) -> None:
    skip = Reading(bad_lines="skip")
    objects = [json.dumps({"a": i, "b": str(i), "label": "no"}) for i in range(150)]
    written(tmp_path / "x.jsonl", "\n".join([*objects, '{"a": 1', '{"a": 1, "b": "x"}', ""]))
    found = read(spark, str(tmp_path / "x.jsonl"), skip)
    assert (found.rows.count(), found.counts.bad) == (150, 2)
    assert dict(found.rows.dtypes) == {"a": "bigint", "b": "bigint", "label": "string"}
    lines = ["1 1:2 3:4.5", "0 2:1", "# nothing", "1 3:1 2:1", "x 1:1"]
    written(tmp_path / "x.libsvm", "\n".join([*lines, ""]))
    found = read(spark, str(tmp_path / "x.libsvm"), skip)
    vectors = {row.label: row.features.toArray().tolist() for row in found.rows.collect()}
    assert vectors == {1.0: [2, 0, 4.5], 0.0: [0, 1, 0]} and found.counts.bad == 2
    written(tmp_path / "x.txt", "1  2 3\n4 5 6\n")
    rows = read(spark, str(tmp_path / "x.txt")).rows.collect()
    assert sorted(map(tuple, rows)) == [(1, 2, 3), (4, 5, 6)]
    np.savez(tmp_path / "x.npz", x_train=np.arange(6).reshape(3, 2), y_train=[0, 1, 0])
    row = read(spark, str(tmp_path / "x.npz")).rows.filter("label = 1").first()
    assert row.features.toArray().tolist() == [2, 3]


def test_executors_have_sparknn_before_they_take_libsvm_apart(spark, tmp_path, monkeypatch) -> None:
    prepared: list[Cluster] = []
    monkeypatch.setattr(Cluster, "prepare", lambda self: prepared.append(self))
    path = written(tmp_path / "x.svm", "1 1:2\nx 1:1\n0 2:1\n")
    read(spark, str(path), Reading(bad_lines="skip"))
    assert prepared


def test_images_and_labels_of_idx_files_are_joined(spark, tmp_path: Path) -> None:
    images = b"\0\0\x08\x03" + struct.pack(">3I", 3, 1, 2) + bytes([0, 1, 2, 3, 250, 255])
    labels = b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes([5, 0, 4])
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    rows = read(spark, str(tmp_path)).rows.collect()
    found = {row.label: row.features.toArray().tolist() for row in rows}
    assert found == {5.0: [0, 1], 0.0: [2, 3], 4.0: [250, 255]}


def test_a_schema_names_columns_without_a_header(spark, tmp_path: Path) -> None:
    path = written(tmp_path / "x.data", "1|2 3|7\n4|5 6|8\n")
    how = Reading(kind="csv", schema="id STRING, pixels ARRAY<DOUBLE>, label INT")
    found = read(spark, str(path), how)
    assert [column.kind for column in found.columns] == ["word", "numbers", "integer"]
    row = found.rows.filter("id = '4'").first()
    assert (row.features if "features" in row else row.pixels).toArray().tolist() == [5, 6]
    with pytest.raises(InvalidDataError, match="--schema names 1 columns"):
        read(spark, str(path), Reading(kind="csv", schema="id STRING"))
    with pytest.raises(InvalidDataError, match="not of the form"):
        read(spark, str(path), Reading(kind="csv", schema="id id id"))


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose label, 3, 5 or 8, follows from the town and the age."""
    path = tmp_path_factory.mktemp("visits") / "visits.csv"
    random = np.random.default_rng(1)
    rows = []
    for number in range(400):
        town, age = random.choice(["Rome", "Oslo", "Bonn"]), int(random.integers(20, 80))
        label = 8 if age > 60 else 3 if town == "Oslo" else 5
        shown = "" if number % 50 == 0 else "?" if number % 50 == 1 else age
        rows.append(f"{number},{town},{shown},{random.random():.3f},{label},{number % 4}\n")
    path.write_text("id,town,age,noise,label,part\n" + "".join(rows))
    return path


def test_words_gaps_and_bins_train_in_one_command(run, visits, spark, tmp_path: Path) -> None:
    options = ("--input", visits, "--categorical", "town", "--scale", "standard")
    assert "age" in run(train.train_logistic, *options)
    result = run(
        train.train_logistic, *options, "--drop", "id", "--null-values", "?", "--missing", "median",
        "--bins", "age=40,60", "--split-column", "part=3", "--unseen", "keep", "--max-iter", 15,
        "--output", tmp_path / "m",
    )  # fmt: skip
    assert (result["rows"], result["validation"]["rows"]) == (300, 100)
    # Noise, three bins, three towns and one for any other.
    assert (result["features"], result["classes"]) == (8, 3)
    assert result["validation"]["accuracy"] > 0.9
    new = written(
        tmp_path / "new.csv", "id,town,age,noise\n17,Oslo,30,0\n18,Oslo,70,\n19,Kyiv,?,1\n"
    )
    how = ("--model", tmp_path / "m", "--input", new, "--output", tmp_path / "out")
    result = run(score.predict, *how, "--null-values", "?", "--columns", "id,predictedLabel")
    rows = dict(map(tuple, spark.read.parquet(str(tmp_path / "out")).collect()))
    assert (rows[17], rows[18], len(rows)) == ("3", "8", 3)


def test_gaps_that_a_model_does_not_fill_stop_evaluate_unless_rows_are_dropped(
    run, tmp_path: Path
) -> None:
    rows = written(tmp_path / "rows.csv", "a,b,label\n" + numbers(40) + "5,,0\n")
    options = ("--input", rows, "--missing", "mean", "--max-iter", 1)
    run(train.train_logistic, *options, "--output", tmp_path / "m")
    new = written(tmp_path / "new.csv", "a,b,label\n" + numbers(10) + "5,,0\n5,6,\n")
    how = ("--model", tmp_path / "m", "--input", new)
    assert "column 'label': 1 row is null" in run(score.evaluate, *how)
    result = run(score.evaluate, *how, "--missing", "drop")
    assert (result["rows"], result["input"]["missing"]) == (11, 1), "what the model fills is kept"


def test_a_vector_that_is_null_stops_predict_though_the_model_fills_numbers(
    run, spark, tmp_path: Path
) -> None:
    rows = [([1.0, 2.0], 0), ([2.0, 0.0], 1), ([3.0, 1.0], 1)]
    good, new = str(tmp_path / "good.parquet"), str(tmp_path / "new.parquet")
    schema = "features ARRAY<DOUBLE>, label INT"
    spark.createDataFrame(rows, schema).write.parquet(good)
    spark.createDataFrame([*rows, (None, 1)], schema).write.parquet(new)
    options = ("--input", good, "--missing", "mean", "--max-iter", 1)
    run(train.train_logistic, *options, "--output", tmp_path / "m")
    how = ("--model", tmp_path / "m", "--input", new, "--output", tmp_path / "out")
    assert "column 'features': 1 row is null" in run(score.predict, *how)
    assert run(score.predict, *how, "--missing", "drop")["rows"] == 3


def test_a_category_that_training_has_not_seen_is_named(run, visits, tmp_path: Path) -> None:
    rows = visits.read_text().replace("?", "33").replace(",,", ",33,").splitlines()
    table = written(tmp_path / "rows.csv", "\n".join([*rows, "9,Kyiv,40,0.5,3,9", ""]))
    options = ("--input", table, "--categorical", "town", "--split-column", "part=9")
    line = run(train.train_logistic, *options)
    assert "'town'" in line and "(Kyiv)" in line and "--unseen keep" in line
    line = run(train.train_logistic, "--input", table)
    assert "town are none: name columns of words in --categorical or --drop" in line


@pytest.mark.parametrize("how", ["mean", "median", "mode"])
def test_a_column_that_cannot_be_filled_is_named(run, tmp_path: Path, how) -> None:
    rows = "".join(f"{i},,{i % 2},\n" for i in range(20))
    table = written(tmp_path / "rows.csv", f"a,never,label,nowhere\n{rows}")
    options = ("--input", table, "--label", "label", "--missing", how, "--max-iter", 1)
    line = run(train.train_logistic, *options, "--schema", "never DOUBLE, nowhere DOUBLE")
    assert line.startswith("2: error:") and "column 'never' is empty in all rows" in line
    assert line.endswith("--drop 'never,nowhere'")
    assert run(train.train_logistic, *options, "--drop", "never,nowhere")["features"] == 1


def test_gaps_are_filled_where_there_are_categories_alone(run, tmp_path: Path) -> None:
    rows = "".join(f"{'ab '[i % 3].strip()},{i % 2}\n" for i in range(20))
    table = written(tmp_path / "rows.csv", f"kind,label\n{rows}")
    options = ("--input", table, "--categorical", "kind", "--missing", "mean", "--max-iter", 1)
    assert run(train.train_logistic, *options)["features"] == 3


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """Rows of which those held out, part 9, have a town that no other has, and one more."""
    rows = [f"{('Oslo', 'Rome')[i % 2]},{i},{i % 2},{9 if i > 17 else 0}" for i in range(20)]
    return written(tmp_path / "t.csv", "\n".join(["town,a,label,part", *rows, "Kyiv,4,1,9", ""]))


OTHERS = ("--categorical", "town", "--split-column", "part=9", "--max-iter", 1)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (train.train_logistic, OTHERS),
        (train_rbm, (*OTHERS, "--label", "label", "--scale", "minmax", "--num-hidden", 2)),
        (kmeans, (*OTHERS, "--label", "label", "--k", 2)),
    ],
)
def test_unseen_categories_of_rows_held_out_are_skipped_and_counted(
    run, strangers, spark, tmp_path: Path, command, options
) -> None:
    options = ("--input", strangers, *options, "--output", tmp_path / "m")
    assert "(Kyiv)" in run(command, *options)
    assert "bad, more than" in run(
        command, *options, "--bad-lines", "skip", "--max-bad-fraction", 0.01
    )
    result = run(command, *options, "--bad-lines", "quarantine")
    assert (result["rows"], result["skipped"], result["validation"]["rows"]) == (18, 1, 2)
    assert (result["input"]["rows"], result["input"]["bad"]) == (21, 1)
    (bad,) = spark.read.json(str(tmp_path / "m.bad")).collect()
    assert json.loads(bad.text)["town"] == "Kyiv"


def test_unseen_categories_of_other_inputs_are_skipped_and_counted(
    run, strangers, spark, tmp_path: Path
) -> None:
    seen = written(tmp_path / "seen.csv", strangers.read_text().replace("Kyiv", "Rome"))
    options = ("--input", seen, "--categorical", "town", "--max-iter", 1, "--test", strangers)
    options = (*options, "--output", tmp_path / "m")
    assert "(Kyiv)" in run(train.train_logistic, *options)
    result = run(train.train_logistic, *options, "--bad-lines", "skip")
    assert (result["rows"], result["test"]["rows"], result["test"]["skipped"]) == (21, 20, 1)
    how = ("--model", tmp_path / "m", "--input", strangers)
    assert "(Kyiv)" in run(score.evaluate, *how)
    result = run(score.evaluate, *how, "--bad-lines", "skip")
    assert (result["rows"], result["skipped"]) == (20, 1)
    result = run(score.predict, *how, "--bad-lines", "skip", "--output", tmp_path / "out")
    assert (result["rows"], result["skipped"], result["input"]["bad"]) == (20, 1, 1)


def test_bad_lines_are_set_aside_beside_the_output(run, messy, spark, tmp_path: Path) -> None:
    result = run(
        train.train_logistic, "--input", messy[0].parent, "--bad-lines", "quarantine",
        "--max-iter", 1, "--output", tmp_path / "m",
    )  # fmt: skip
    assert (result["rows"], result["input"]["bad"], result["input"]["blank"]) == (501, 3, 2)
    found = spark.read.json(str(tmp_path / "m.bad"))
    lines = {row.line: row.reason for row in found.collect()}
    assert set(lines) == {202, 204, 205} and lines[204] == "2 cells, not 3"
    assert "--bad-lines" in run(
        train.train_logistic, "--input", messy[0].parent, "--bad-lines", "quarantine"
    )
