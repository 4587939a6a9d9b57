"""Text of numbers alone, read straight into blocks: what the ordinary way would have made."""

from __future__ import annotations

import gzip
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from job_helpers import done, runner
from pyspark.ml import Estimator, PipelineModel
from pyspark.sql import SparkSession

from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.cli import train
from sparknn.cli.encoding import Recipe
from sparknn.cli.inputs import Reading
from sparknn.cli.lines import Dialect
from sparknn.cli.plain_rows import plain_rows, source_of
from sparknn.cli.preparation import model_of
from sparknn.cli.train import prepared, suited
from sparknn.cli.training_rows import Job, Rows, valid_rows
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError
from sparknn.fitting import packed


def job_on(path: Path, recipe: Recipe | None = None, **options) -> Job:
    chosen = {"features": None, "validation": 0.0, "test": None, "scale": "none", "label": "label"}
    chosen |= {name: options.pop(name) for name in list(options) if name in chosen}
    return Job(
        path=str(path), output=None, overwrite=False, explain=False, **chosen,
        reading=Reading(**options), recipe=recipe or Recipe(),
    )  # fmt: skip


def perceptron() -> Estimator:
    return MultilayerPerceptronClassifier(layers=[1, 3, 2], solver="sgd")


def blocks_of(
    session: SparkSession, rows: Rows, job: Job, estimator: Estimator, hidden: list[int] | None
) -> list[tuple[int, bytes, list]]:
    """Each block's rows, bytes, and what is added up of them."""
    _, features, data = prepared(rows, rows.training, job)
    suited(estimator, hidden, rows, job, data, features)
    with packed(estimator, Cluster(session), data, estimator._wanted()) as blocks:
        return [
            (item.block.rows, Path(item.block.path).read_bytes(), [
                [s.weight, s.seen, s.sums.tobytes(), s.squares.tobytes(), s.histogram.tolist()]
                for s in item.summaries])
            for item in blocks.packed
        ]  # fmt: skip


def table(rows: int, cell, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    lines = [",".join([*(cell(random) for _ in range(5)), str(i % 3)]) for i in range(rows)]
    return "\n".join(["a,b,c,d,e,label", *lines, ""])


CELLS = {
    "grey": lambda random: str(random.integers(0, 256)),
    "decimal": lambda random: (
        f"{random.normal(-3):.3f}"
        if random.random() < 0.9
        else repr(float(random.normal() * 10.0 ** random.integers(-9, 9)))
    ),
    "level": lambda random: f"{1.5e9 + random.integers(0, 1000)}",
}


@pytest.mark.parametrize("cells", CELLS)
def test_blocks_are_those_of_the_ordinary_way_bit_for_bit(spark, tmp_path: Path, cells) -> None:
    (tmp_path / "1.csv").write_text(table(2000, CELLS[cells]))
    text = table(900, CELLS[cells], 1)
    (tmp_path / "2.csv").write_bytes(b"\xef\xbb\xbf\r\n \n" + text.encode())
    job, hidden = job_on(tmp_path), [3]
    estimator = perceptron()
    if cells == "level":
        # It keeps precision by an offset, and adds up moments.
        estimator, hidden = LogisticRegression(), None
    plain = plain_rows(spark, job, estimator, None)
    ordinary = valid_rows(spark, job, estimator, None)
    assert plain is not None
    assert plain.rules == ordinary.rules
    assert plain.counts == ordinary.counts and plain.counts.blank == 2
    found = [blocks_of(spark, rows, job, estimator, hidden) for rows in (plain, ordinary)]
    assert found[0] == found[1]


FAULTY = {
    "a word": "1,2,3,4,5,x\n",
    "a short line": "1,2,3\n",
    "a long line": "1,2,3,4,5,0,7\n",
    "an empty cell": "1,,3,4,5,0\n",
    "a quote": '"1",2,3,4,5,0\n',
    "a quoted line break": '"1\n",2,3,4,5,0\n',
    "nan": "1,nan,3,4,5,0\n",
    "too large": "1,1e39,3,4,5,0\n",
    "a fraction as a label": "1,2,3,4,5,0.5\n",
    "a gap in the labels": "1,2,3,4,5,7\n",
    "no text": b"\xff,2,3,4,5,0\n",
    "a lone carriage return": "1,2,3,4,5,0\r1,2,3,4,5,1\n",
    "minus nothing": "-0,2,3,4,5,0\n",
}


@pytest.mark.parametrize("fault", FAULTY)
def test_anything_that_is_not_sure_is_left_to_the_ordinary_way(
    spark, tmp_path: Path, block_files, fault: str
) -> None:
    line = FAULTY[fault]
    text = table(60, CELLS["grey"]).encode() + (line if isinstance(line, bytes) else line.encode())
    (tmp_path / "x.csv").write_bytes(text)
    job = job_on(tmp_path / "x.csv")
    assert plain_rows(spark, job, perceptron(), None) is None
    assert (
        plain_rows(spark, replace(job, reading=Reading(bad_lines="skip")), perceptron(), None)
        is None
    )
    assert block_files() == []


ASKED = {
    "bins": {"recipe": Recipe(bins=(("a", 3),))},
    "categories": {"recipe": Recipe(categorical=("a",))},
    "gaps filled": {"recipe": Recipe(missing="mean")},
    "a number that is missing": {"null_values": ("0",)},
    "lines left out": {"skip_matching": "^1"},
    "scaling": {"scale": "standard"},
    "rows held out": {"validation": 0.1},
    "no such column": {"features": "a,z"},
    "no such label": {"label": "z"},
    "words by the schema": {"schema": "a STRING"},
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_needs_more_than_numbers_is_left_to_the_ordinary_way(spark, tmp_path, asked) -> None:
    (tmp_path / "x.csv").write_text(table(60, CELLS["grey"]))
    job = job_on(tmp_path / "x.csv", **ASKED[asked])
    assert plain_rows(spark, job, perceptron(), None) is None


@pytest.mark.parametrize("way", ["opened", "sent", "packed"])
@pytest.mark.parametrize("header", [True, False])
def test_lines_are_those_of_sparks_reader_wherever_files_are_cut(
    spark, tmp_path: Path, monkeypatch, way: str, header: bool
) -> None:
    random = np.random.default_rng(len(way))
    names, rows = Dialect(("a", "b"), header), []
    for number in range(3):
        lines = [f"{number}{'0' * int(random.integers(0, 9))},{at}" for at in range(40)]
        rows += lines
        end = "\r\n" if number else "\n"
        text = ["\ufeff", "\n \n", ""][number] + end.join([*(["a,b"] * header), *lines])
        content = (text + end * (number % 2)).encode()
        path = tmp_path / f"{number} é%20#.csv"
        if way == "packed":
            path, content = path.with_suffix(".csv.gz"), gzip.compress(content)
        path.write_bytes(content)
    if way == "sent":
        monkeypatch.setattr("sparknn.cli.plain_rows.any_packed", lambda session, files: True)
    files = [f"file:{path}" for path in sorted(tmp_path.iterdir())]
    for size in ("97", "150", "128m"):
        spark.conf.set("spark.sql.files.maxPartitionBytes", size)
        spark.conf.set("spark.sql.files.openCostInBytes", "1")
        try:
            source = source_of(spark, files, names)
        finally:
            spark.conf.unset("spark.sql.files.maxPartitionBytes")
            spark.conf.unset("spark.sql.files.openCostInBytes")
        joined = partial(_texts, texts=source.texts)
        found = source.frame.mapInArrow(joined, "text string").collect()
        assert sorted("".join(text for (text,) in found).split()) == sorted(rows)
        if source.given is not None:
            given = source.given.mapPartitions(source.texts).collect()
            assert b"".join(given).decode() == "".join(text for (text,) in found)


def _texts(batches, texts):
    for text in texts(batches):
        yield pa.record_batch([pa.array([text.decode()])], ["text"])


def test_the_saved_model_is_the_ordinary_one(spark, tmp_path: Path, capsys, monkeypatch) -> None:
    (tmp_path / "x.csv").write_text(table(400, CELLS["decimal"]))
    run, results, weights = runner(capsys), [], []
    for way in ("plain", "ordinary"):
        if way == "ordinary":
            monkeypatch.setattr(train, "plain_rows", lambda *_: None)
        found = done(
            run, train.train_mlp, "--input", tmp_path / "x.csv", "--test", tmp_path / "x.csv",
            "--hidden", 4, "--solver", "sgd", "--max-iter", 2, "--drop", "b",
            "--output", tmp_path / way,
        )  # fmt: skip
        results.append({key: found[key] for key in found if key not in ("seconds", "output")})
        saved = PipelineModel.load(str(tmp_path / way))
        weights.append([
            [type(stage).__name__ for stage in saved.stages],
            saved.stages[0].found,
            saved.stages[1].getInputCols(),
            model_of(saved).weights.tolist(),
        ])  # fmt: skip
    assert results[0] == results[1] and weights[0] == weights[1]
    assert results[0]["input"]["rows"] == 400 and results[0]["features"] == 4


def test_rows_are_a_frame_for_whoever_cannot_read_them(spark, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(table(70, CELLS["grey"]))
    job, estimator = job_on(tmp_path / "x.csv"), perceptron()
    rows = plain_rows(spark, job, estimator, None)
    assert rows is not None
    try:
        found = rows.training.collect()
    finally:
        rows.close()
    lines = (tmp_path / "x.csv").read_text().splitlines()[1:]
    assert [[*row.features.toArray().tolist(), row.label] for row in found] == [
        list(map(float, line.split(","))) for line in lines
    ]


def test_blocks_packed_ahead_are_taken_once_and_only_for_what_they_were_packed(
    spark, tmp_path: Path, block_files
) -> None:
    (tmp_path / "x.csv").write_text(table(70, CELLS["grey"]))
    estimator, cluster = perceptron(), Cluster(spark)
    rows = plain_rows(spark, job_on(tmp_path / "x.csv"), estimator, None)
    assert rows is not None and rows.plain and len(rows.plain.ready) == 1
    estimator.setFeaturesCol("features").setLayers([5, 3, 2])
    with pytest.raises(InvalidDataError, match="a label above 1"):
        packed(estimator, cluster, rows.training, estimator._wanted())
    assert block_files() == []
    estimator.setLayers([5, 3, 3])
    with packed(estimator, cluster, rows.training, estimator._wanted()) as blocks:
        assert blocks.rows == 70 and blocks.features == 5
