"""--explain: sizes and estimates, told without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from job_helpers import done, mistake, runner
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from sparknn.boltzmann import Machine
from sparknn.classification import (
    DeepBeliefNetworkClassifier,
    LogisticRegression,
    MultilayerPerceptronClassifier,
)
from sparknn.cli import kmeans, train, train_rbm, tune
from sparknn.cli.estimates import Shape, Stage, multiplication_rate, round_seconds, stages_of
from sparknn.feature import RBM
from sparknn.network import Network
from sparknn.training import Minibatch


@pytest.fixture
def run(spark, capsys: pytest.CaptureFixture):
    return runner(capsys)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    rows = [f"{i},{i % 7},{('a', 'b', 'c')[i % 3]}" for i in range(90)]
    path.write_text("\n".join(["first,second,label", *rows, ""]))
    return path


@pytest.fixture
def unfitted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object) -> None:
        raise AssertionError("the fit began")

    for kind in (MultilayerPerceptronClassifier, RBM, LogisticRegression):
        monkeypatch.setattr(kind, "fit", fit)


def test_parameters_are_those_of_the_model() -> None:
    perceptron = MultilayerPerceptronClassifier(layers=[64, 30, 10], solver="sgd")
    (stage,) = stages_of(perceptron, 64, 10, [30], 2)
    assert stage.parameters == Network([64, 30, 10]).size
    (stage,) = stages_of(RBM(numHidden=20), 64, 1, [], 2)
    assert stage.parameters == Machine(64, 20).size
    (stage,) = stages_of(LogisticRegression(), 64, 2, [], 2)
    assert stage.parameters == 65
    (stage,) = stages_of(LogisticRegression(), 64, 3, [], 2)
    assert stage.parameters == 3 * 65


def test_a_belief_network_is_explained_layer_by_layer() -> None:
    network = DeepBeliefNetworkClassifier(layers=[64, 30, 20], pretrainMaxIter=[4, 5])
    found = stages_of(network, 64, 10, [30, 20], 2)
    assert [(stage.sizes, stage.passes) for stage in found[:2]] == [([64, 30], 4), ([30, 20], 5)]
    assert found[2].sizes == [64, 30, 20, 10]


def stage(steps_per_round: int, work: int = 32) -> Stage:
    return Stage("training", [4, 2], work, 1, Minibatch(1, 50, steps_per_round))


def test_rounds_follow_from_steps_and_blocks() -> None:
    shape = Shape(rows=1000, partitions=2, cores=2)
    assert shape.rounds(stage(0)) == 1
    assert shape.rounds(stage(4)) == 3
    assert shape.rounds(Stage("training", [4, 2], 32, 100, None)) == 1


def test_the_rounds_of_a_machine_are_those_that_it_would_train_in(spark: SparkSession) -> None:
    rows = np.random.default_rng(0).random((400, 6)).round()
    data = spark.createDataFrame([(Vectors.dense(row),) for row in rows], ["features"])
    rbm = RBM(numHidden=3, blockSize=1, maxIter=7, numPartitions=2)
    (machine,) = stages_of(rbm, 6, 1, [], 2)
    rounds = Shape(len(rows), 2, 2).rounds(machine)
    assert rounds * 7 == pytest.approx(len(rbm.fit(data).summary.history))
    assert rounds > 7


def test_a_round_takes_as_long_as_its_slowest_core() -> None:
    once = stage(0, 10**6)
    seconds = [
        round_seconds(once, Shape(rows, parts, 2), 1e9)
        for rows, parts in ((2000, 2), (4000, 2), (4000, 4))
    ]
    work = np.array(seconds) - round_seconds(once, Shape(0, 2, 2), 1e9)
    assert work == pytest.approx([1000 / 700, 2000 / 700, 2000 / 700])
    assert multiplication_rate(once, 1) > 1e5


def test_a_training_is_explained_and_not_done(
    run, table, unfitted, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "require_free", lambda *_: pytest.fail("the output was written to"))
    options = ("--input", table, "--hidden", "8", "--solver", "sgd", "--partitions", 3, "--explain")
    told = done(run, train.train_mlp, *options, "--output", tmp_path / "model")
    assert told["layers"] == [2, 8, 3] and told["parameters"] == 24 + 27
    assert (told["rows"], told["rowsExact"], told["partitions"]) == (90, True, 3)
    assert (told["rowsPerBlock"], told["bytesPerBlock"]) == (30, 30 * 12)
    assert told["stages"][0]["secondsPerRound"] > 0
    assert not (tmp_path / "model").exists()
    line = mistake(run, train.train_mlp, *options, "--test", tmp_path / "nix.csv")
    assert "nix.csv" in line


def test_other_jobs_are_explained(run, table, unfitted) -> None:
    options = ("--input", table, "--label", "label", "--explain")
    told = done(run, train_rbm.train_rbm, *options, "--num-hidden", 5)
    assert told["layers"] == [2, 5]
    told = done(run, tune.tune, "mlp", *options, "--grid", "hidden=4,5", "--folds", 2)
    assert (told["fits"], told["layers"]) == (4, [2, 4, 3])
    told = done(run, kmeans.kmeans, *options, "--k", "2,5")
    assert told["parameters"] == [4, 10]


def test_bins_and_categories_are_counted_as_the_columns_they_become(run, tmp_path) -> None:
    path = tmp_path / "rows.csv"
    rows = [f"{i},{i % 7},{('x', 'y', 'z')[i % 3]},{i % 2}" for i in range(40)]
    path.write_text("\n".join(["first,second,word,label", *rows, ""]))
    options = [
        "--input",
        path,
        "--categorical",
        "word",
        "--bins",
        "second=2,4",
        "--scale",
        "minmax",
    ]
    told = done(run, train.train_logistic, *options, "--explain")
    fitted = done(run, train.train_logistic, *options, "--max-iter", 2)
    assert told["features"] == fitted["features"] == 1 + 3 + 3
    told = done(run, train.train_logistic, *options, "--unseen", "keep", "--explain")
    assert told["features"] == 8
    told = done(run, train.train_logistic, *options, "--split-column", "first=0,1,2", "--explain")
    assert (told["rows"], told["rowsExact"]) == (37, True)
