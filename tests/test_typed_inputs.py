"""Parquet, JSON and arrays as inputs of jobs: kinds of columns, labels across formats."""

from __future__ import annotations

import struct
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
from job_helpers import done, mistake, runner

from sparknn.cli import kmeans, score, train, train_rbm


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
