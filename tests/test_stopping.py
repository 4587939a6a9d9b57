"""When estimators stop: held-out rows, a small gradient; and how they go on after being killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.datasets import load_iris

from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.errors import CheckpointError, InvalidDataError, InvalidParamError

SCRIPT = Path(__file__).parent / "scripts" / "checkpointed.py"


@pytest.fixture(scope="module")
def iris(spark: SparkSession) -> DataFrame:
    """Iris with noise, and every third row held out."""
    features, labels = load_iris(return_X_y=True)
    features = features + np.random.default_rng(1).normal(0, 1, features.shape)
    rows = [
        (Vectors.dense(x), float(y), index % 3 == 0)
        for index, (x, y) in enumerate(zip(features, labels, strict=True))
    ]
    data = spark.sparkContext.parallelize(rows, 2)
    return spark.createDataFrame(data, ["features", "label", "held"]).cache()


@pytest.mark.parametrize("solver", ["l-bfgs", "adam"])
def test_held_out_rows_stop_a_perceptron_that_overfits(iris: DataFrame, solver: str) -> None:
    model = MultilayerPerceptronClassifier(
        layers=[4, 40, 3],
        solver=solver,
        maxIter=300,
        tol=0.0,
        stepSize=0.02,
        blockSize=10,
        validationIndicatorCol="held",
        patience=4,
    ).fit(iris)
    losses = model.training.held_out_history
    assert model.training.reason == "held-out loss no longer falling"
    assert model.training.rows == 100
    assert len(losses) == int(np.argmin(losses)) + 5 < 300
    held = model.transform(iris.filter("held")).select("probability", "label").collect()
    loss = -np.mean([np.log(row.probability[int(row.label)]) for row in held])
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_held_out_rows_do_not_train_a_logistic_regression(iris: DataFrame) -> None:
    params = {"regParam": 0.01, "tol": 1e-9}
    part = LogisticRegression(**params).fit(iris.filter("not held"))
    held = LogisticRegression(validationIndicatorCol="held", patience=300, **params).fit(iris)
    np.testing.assert_allclose(
        held.coefficientMatrix.toArray(), part.coefficientMatrix.toArray(), rtol=1e-2, atol=1e-3
    )
    assert held.summary.predictions.count() == 100


def test_a_declared_class_may_be_among_the_held_out_rows_alone(spark: SparkSession) -> None:
    rows = [(Vectors.dense(float(i % 3), 1.0), float(i % 3), i % 5 == 0) for i in range(30)]
    rows.append((Vectors.dense(9.0, 1.0), 3.0, True))
    data = spark.createDataFrame(rows, ["features", "label", "held"])
    declared = {"ml_attr": {"type": "nominal", "num_vals": 4}}
    data = data.withColumn("label", F.col("label").alias("label", metadata=declared))
    model = LogisticRegression(validationIndicatorCol="held", maxIter=5).fit(data)
    assert model.numClasses == 4
    assert len(model.training.held_out_history) > 0


@pytest.mark.parametrize(
    ("column", "complaint"),
    [("missing", "no column 'missing'"), ("label", "'label' is double"), ("gaps", "is null in")],
)
def test_a_column_that_cannot_tell_rows_apart_is_refused(iris, column, complaint) -> None:
    data = iris.withColumn("gaps", F.when(F.col("label") > 0, F.col("held")))
    with pytest.raises(InvalidDataError, match=complaint):
        LogisticRegression(validationIndicatorCol=column).fit(data)


def test_a_gradient_tolerance_is_for_full_batch_solvers(iris: DataFrame) -> None:
    model = LogisticRegression(regParam=0.1, gradientTol=1e-2, tol=1e-12).fit(iris)
    assert model.summary.reason == "gradient is small enough"
    with pytest.raises(InvalidParamError, match="gradientTol must be 0 for solver='sgd'"):
        LogisticRegression(solver="sgd", gradientTol=0.1).fit(iris)


def test_checkpoints_of_another_fit_are_refused(iris: DataFrame, tmp_path, monkeypatch) -> None:
    class Killed(Exception):
        pass

    def killed(self) -> None:
        raise Killed

    params = {"maxIter": 6, "tol": 0.0, "checkpointDir": str(tmp_path), "checkpointInterval": 2}
    with monkeypatch.context() as patched:
        patched.setattr("sparknn.training.checkpoints.Checkpoints.clear", killed)
        with pytest.raises(Killed):
            LogisticRegression(**params).fit(iris)
    with pytest.raises(CheckpointError, match=r"maxIter was 6 and is 9\. Fit with the same"):
        LogisticRegression(**{**params, "maxIter": 9}).fit(iris)
    with pytest.raises(CheckpointError, match="rows was 150 and is 100"):
        LogisticRegression(**params).fit(iris.filter("not held"))


@pytest.mark.cluster
def test_a_fit_whose_driver_was_killed_goes_on_with_the_same_bits(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL to a driver in mid-fit; a second process ends the fit, and a third has all of it."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from checkpointed import estimator, rows

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path / "checkpoints"), str(tmp_path / name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    killed = start("killed")
    assert killed.stdout is not None
    assert killed.stdout.readline() == "training\n"
    deadline = time.monotonic() + 120
    while _newest(tmp_path / "checkpoints") < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert _newest(tmp_path / "checkpoints") >= 4
    assert not (tmp_path / "killed").exists()
    resumed = start("resumed")
    resumed.communicate(timeout=240)
    assert resumed.returncode == 0
    whole = estimator().fit(rows(spark)).weights.toArray()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "resumed"), whole)


def _newest(directory: Path) -> int:
    names = [path.name for path in directory.glob("checkpoint-*.npz")]
    return max((int(name[11:20]) for name in names), default=0)
