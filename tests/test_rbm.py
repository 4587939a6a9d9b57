"""The restricted Boltzmann machine on Spark: what NumPy says, the same bits, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from sparknn.boltzmann import (
    ContrastiveDivergence,
    Machine,
    exact_log_partition,
    log_likelihood,
    pseudo_likelihood,
)
from sparknn.errors import InvalidDataError, InvalidParamError
from sparknn.feature import DBN, RBM, RBMModel
from sparknn.objective import Rows
from sparknn.optimizers import SGD
from sparknn.training.minibatch import MinibatchFit

SETTINGS = {"numHidden": 12, "blockSize": 30, "maxIter": 2, "numPartitions": 2, "stepSize": 0.1}


@pytest.fixture(scope="module")
def model(digits) -> RBMModel:
    return RBM(**SETTINGS).fit(digits)


def values(data, column: str) -> np.ndarray:
    return np.array(data.select(column).toPandas()[column].tolist())


def vectors(data, column: str) -> np.ndarray:
    return values(data.select(vector_to_array(column).alias(column)), column)


def frame_of(spark, rows):
    pairs = [(Vectors.dense(row),) for row in rows]
    return spark.createDataFrame(spark.sparkContext.parallelize(pairs, 2), ["features"])


def generator(*place: int) -> np.random.Generator:
    """Return the generator of seed 1 for a place in the training."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((1, *place))))


def test_one_partition_takes_the_very_steps_of_a_numpy_loop(spark, digits_arrays):
    rows = digits_arrays[0][:240]
    estimator = RBM(**{**SETTINGS, "numPartitions": 1, "persistent": True, "maxNorm": 0.5})
    data = frame_of(spark, rows).coalesce(1)
    model = estimator.fit(data)
    machine = Machine(64, 12)
    objective = ContrastiveDivergence(machine, persistent=True, max_norm=0.5)
    theta = machine.initial(1, rows.astype(np.float32).mean(axis=0, dtype=np.float64))
    theta = theta.astype(np.float32)
    chains = objective.chains(None, 30, theta, generator(0, 0, 9))
    optimizer = SGD(0.1, 0.5)
    optimizer.start(machine.size, np.float32)
    block = rows.astype(np.float32)
    for epoch in range(2):
        for step, chunk in enumerate(generator(epoch, 0).permutation(8)):
            part = block[30 * chunk : 30 * chunk + 30]
            random = generator(epoch, 0, step + 1)
            scale, velocity = optimizer.gather(0.0), optimizer.state[0]
            objective.gradient(theta, Rows(part, part), velocity, random, chains, scale=scale)
            optimizer.follow(theta)
            objective.project(theta)
        optimizer.settle()
    np.testing.assert_array_equal(model.parameters, theta)


def test_transform_gives_hidden_probabilities(model, digits, digits_arrays):
    found = vectors(model.transform(digits), "hidden")
    theta = model.parameters.astype(np.float32)
    expected = model.machine.hidden(theta, digits_arrays[0].astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_free_energy_and_reconstruction_are_columns(model, digits, digits_arrays):
    machine, theta, rows = model.machine, model.parameters, digits_arrays[0]
    found = values(model.freeEnergy(digits, "energy"), "energy")
    np.testing.assert_allclose(found, machine.free_energy(theta, rows))
    found = vectors(model.reconstruct(digits), "reconstruction")
    np.testing.assert_allclose(found, machine.reconstruct(theta, rows), atol=1e-5)


def test_likelihoods_are_those_of_numpy(model, digits, digits_arrays):
    machine, theta, rows = model.machine, model.parameters, digits_arrays[0]
    log_z = exact_log_partition(machine, theta)
    expected = log_likelihood(machine, theta, rows, log_z).mean()
    assert model.logLikelihood(digits) == pytest.approx(expected)
    assert model.logLikelihood(digits, logPartition=log_z + 1) == pytest.approx(expected - 1)
    expected = pseudo_likelihood(machine, theta, rows).mean()
    assert model.pseudoLikelihood(digits) == pytest.approx(expected)
    estimate, error = model.logPartition(chains=200, temperatures=300, seed=3)
    assert estimate == pytest.approx(log_z, abs=0.1)
    assert 0 < error < 0.1


def test_weights_and_biases_are_the_machines(model):
    weights, b, a = model.machine.views(model.parameters)
    np.testing.assert_array_equal(model.weights.toArray(), weights)
    np.testing.assert_array_equal(model.hiddenBias, b)
    np.testing.assert_array_equal(model.visibleBias, a)


def test_samples_keep_what_is_clamped(model):
    start = np.zeros(64)
    start[[3, 5]] = 1
    drawn = model.sample(7, steps=5, seed=2, start=start, clamped=[3, 4, 5])
    assert drawn.shape == (7, 64)
    assert set(np.unique(drawn)) == {0, 1}
    np.testing.assert_array_equal(drawn[:, [3, 4, 5]], [[1, 0, 1]] * 7)
    np.testing.assert_array_equal(
        drawn, model.sample(7, steps=5, seed=2, start=start, clamped=[3, 4, 5])
    )


def test_training_lowers_the_error_and_the_summary_tells(model):
    summary = model.summary
    assert summary.objectiveHistory[1] < summary.objectiveHistory[0]
    assert summary.totalIterations == 2
    # Thirty steps an epoch, averaged once: every 240 times 30 rows, over 4 and over 32, would do.
    assert len(summary.history) == 2
    assert summary.freeEnergyGap == []
    weights = 64 * 12
    assert summary.gflops * 1e9 == pytest.approx(summary.rowsPerSecond * 10 * weights)


def test_a_saved_model_is_the_same(model, digits, tmp_path):
    model.save(str(tmp_path / "m"))
    loaded = RBMModel.load(str(tmp_path / "m"))
    np.testing.assert_array_equal(loaded.parameters, model.parameters)
    assert loaded.logPartition(20, 50) == model.logPartition(20, 50)
    assert loaded.getNumHidden() == 12
    assert not loaded.hasSummary
    estimator = RBM(**SETTINGS, persistent=True)
    estimator.save(str(tmp_path / "e"))
    again = RBM.load(str(tmp_path / "e"))
    assert again.extractParamMap() == estimator.extractParamMap()


def test_a_pipeline_learns_labels_from_hidden_units(digits, tmp_path):
    stages = [RBM(**SETTINGS), LogisticRegression(featuresCol="hidden", maxIter=2)]
    fitted = Pipeline(stages=stages).fit(digits)
    fitted.save(str(tmp_path / "p"))
    scored = PipelineModel.load(str(tmp_path / "p")).transform(digits)
    assert (
        scored.select(F.avg((F.col("prediction") == F.col("label")).cast("int"))).first()[0] > 0.5
    )


class Killed(Exception):
    """Stands for the end of the driver."""


@pytest.mark.parametrize("stepsPerRound", [0, 1])
def test_chains_go_on_from_a_checkpoint_with_the_same_bits(
    digits, tmp_path, monkeypatch, stepsPerRound
):
    settings = {**SETTINGS, "persistent": True, "maxIter": 3, "stepsPerRound": stepsPerRound}
    settings["blockSize"] = 200
    whole = RBM(**settings).fit(digits)
    # Without its chains a persistent fit would go on otherwise.
    estimator = RBM(**settings, checkpointDir=str(tmp_path / "c"), checkpointInterval=1)
    ending, kept = MinibatchFit._end_epoch, []

    def killed(fit):
        ending(fit)
        if fit.epoch == 2:
            kept.append(dict(fit.states))
            raise Killed

    monkeypatch.setattr(MinibatchFit, "_end_epoch", killed)
    with pytest.raises(Killed):
        estimator.fit(digits)
    monkeypatch.undo()
    resumed = estimator.fit(digits)
    assert [state.shape for state in kept[0].values()] == [(200, 2), (200, 2)]
    np.testing.assert_array_equal(resumed.parameters, whole.parameters)


def test_a_grid_trains_together_with_the_bits_of_each_alone(digits, model):
    estimator = RBM(**SETTINGS)
    maps = [{estimator.persistent: True}, {estimator.persistent: False}]
    models = dict(estimator.fitMultiple(digits, maps))
    np.testing.assert_array_equal(models[1].parameters, model.parameters)
    alone = RBM(**SETTINGS, persistent=True).fit(digits)
    np.testing.assert_array_equal(models[0].parameters, alone.parameters)


def test_held_out_rows_show_the_free_energy_gap(digits):
    held = digits.withColumn("held", F.rand(1) < 0.2).cache()
    model = RBM(**SETTINGS, validationIndicatorCol="held").fit(held)
    summary = model.summary
    assert len(summary.freeEnergyGap) == len(summary.validationHistory) == 2
    theta = model.parameters
    rows = vectors(held.filter("held"), "features")
    expected = model.machine.free_energy(theta, rows).mean()
    # The model is that of the best epoch.
    best = int(np.argmin(summary.validationHistory))
    assert model.training.monitored[best][1] == pytest.approx(expected, rel=1e-4)
    assert abs(summary.freeEnergyGap[-1]) < 1


def test_gaussian_units_learn_standardised_columns(spark):
    random = np.random.default_rng(3)
    factor = random.standard_normal((400, 1))
    rows = 0.9 * factor * [1, -1, 1] + 0.44 * random.standard_normal((400, 3))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    data = frame_of(spark, rows)
    estimator = RBM(visibleType="gaussian", hiddenType="binary", numHidden=4, maxIter=8)
    estimator.setParams(blockSize=10, numPartitions=1, stepSize=0.02)
    model = estimator.fit(data)
    history = model.summary.objectiveHistory
    assert history[-1] < 0.8 * history[0]
    with pytest.raises(ValueError, match="visibleType is 'gaussian'"):
        model.pseudoLikelihood(data)


def test_unset_step_sizes_depend_on_the_units():
    assert RBM()._optimizer().step_size(0) == 0.05
    assert RBM(hiddenType="gaussian")._optimizer().step_size(0) == 0.001
    assert RBM(visibleType="gaussian", stepSize=0.01)._optimizer().step_size(0) == 0.01


def test_momentum_rises_after_five_epochs():
    momentum = RBM(maxIter=10)._optimizer().momentum
    assert [momentum(epoch / 10) for epoch in (0, 4, 5, 9)] == pytest.approx([0.5, 0.5, 0.9, 0.9])
    momentum = RBM(momentum=0.7, momentumSchedule="linear")._optimizer().momentum
    assert [momentum(0), momentum(1)] == pytest.approx([0.5, 0.7])
    assert RBM(momentum=0.2)._optimizer().momentum(0) == 0.2


def test_partitions_are_averaged_more_often_as_momentum_rises(model, digits):
    estimator = RBM(**{**SETTINGS, "blockSize": 10, "momentumSchedule": "linear", "maxIter": 2})
    history = estimator.fit(digits).summary.history
    # 90 steps an epoch: of 75 times 0.5^2, rounded up, then of 75 times 0.3^2.
    assert [each.epoch for each in history] == [1] * 5 + [2] * 13
    assert [each.batch for each in history[:1]] == [20]


def test_persistent_chains_keep_the_early_momentum_unless_it_is_set():
    kept = RBM(persistent=True)._optimizer().momentum
    assert [kept(0), kept(1)] == [0.5, 0.5]
    assert RBM(persistent=True, momentum=0.9)._optimizer().momentum(1) == pytest.approx(0.9)
    layer = DBN(layers=[4, 3], persistent=True)._rbms()[0]
    assert layer._optimizer().momentum(1) == 0.5


def test_values_that_are_no_probabilities_are_refused_with_their_range(spark):
    rows = np.full((10, 3), 0.5)
    rows[2] = [0.5, -1, 0.5]
    rows[7] = [0.5, 3, 1.5]
    data = frame_of(spark, rows)
    with pytest.raises(
        InvalidDataError,
        match=r"2 of 10 rows hold values outside \[0, 1\], in 2 of 3 features; feature 1 goes from "
        r"-1 to 3.*MinMaxScaler.*handleInvalid='keep'",
    ):
        RBM(numHidden=2).fit(data)
    kept = RBM(numHidden=2, maxIter=1, handleInvalid="keep").fit(data)
    assert kept.numFeatures == 3
    skipped = RBM(numHidden=2, maxIter=1, handleInvalid="skip").fit(data)
    assert (skipped.training.rows, skipped.training.skipped) == (8, 2)


def test_columns_that_are_not_standardised_are_refused_with_their_range(spark):
    random = np.random.default_rng(0)
    rows = random.standard_normal((200, 4)) * [1, 30, 1, 0] + [0, 0, 2, 7]
    data = frame_of(spark, rows)
    with pytest.raises(
        InvalidDataError,
        match=r"2 of 4 features are not standardised; feature 1 goes from -.*deviation (2|3).*"
        r"StandardScaler\(withMean=True\)",
    ):
        RBM(numHidden=2, visibleType="gaussian").fit(data)
    # A constant column says nothing about scale.
    fine = frame_of(spark, rows[:, [0, 3]])
    RBM(numHidden=2, visibleType="gaussian", maxIter=1).fit(fine)


def test_params_out_of_range_are_refused_by_name(digits):
    for name, value, message in (
        ("numHidden", 0, "numHidden must be at least 1, got 0"),
        ("visibleType", "real", "visibleType must be one of binary, gaussian, got 'real'"),
        ("cdSteps", 0, "cdSteps must be at least 1"),
        ("sparsityTarget", 1.0, r"sparsityTarget must be in \(0, 1\)"),
        ("maxNorm", 0.0, "maxNorm must be greater than 0"),
        ("momentumSchedule", "up", "momentumSchedule must be one of step, linear, constant"),
        ("handleInvalid", "drop", "handleInvalid must be 'error' or 'skip' or 'keep'"),
        ("initialWeights", Vectors.dense([1.0]), "initialWeights holds 1 values.* have 6564"),
    ):
        with pytest.raises(InvalidParamError, match=message):
            RBM(**{name: value}).fit(digits)
