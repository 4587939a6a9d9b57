"""Regression models: several targets, columns, bad rows, saving, stopping, grids, checkpoints."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import RegressionEvaluator
from pyspark.ml.feature import StandardScaler
from pyspark.ml.linalg import DenseVector, Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn import load_numpy
from sparknn.errors import CheckpointError, InvalidDataError, InvalidParamError
from sparknn.fitting import _kin
from sparknn.regression import (
    MultilayerPerceptronRegressionModel,
    MultilayerPerceptronRegressor,
)
from sparknn.training import FullBatchFit


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Features, (300, 3), and two targets of them, (300, 2): in the thousands, and about 0.01."""
    random = np.random.default_rng(3)
    features = random.uniform(-1, 1, (300, 3))
    curve = np.sin(2 * features[:, 0]) + features[:, 1] ** 2
    noise = random.normal(0, 0.05, (300, 2))
    both = np.column_stack([curve, features[:, 2] - curve]) + noise
    return features, both * [2000, 0.01] + [7000, 0.5]


@pytest.fixture(scope="module")
def data(spark: SparkSession, arrays) -> DataFrame:
    rows = [
        (Vectors.dense(x), float(y), float(z), number % 4 == 0, number % 3 + 1.0)
        for number, (x, (y, z)) in enumerate(zip(*arrays, strict=True))
    ]
    names = ["features", "label", "other", "held", "weight"]
    return spark.createDataFrame(rows, names).coalesce(2).cache()


@pytest.fixture(scope="module")
def model(data: DataFrame) -> MultilayerPerceptronRegressionModel:
    return MultilayerPerceptronRegressor(layers=[3, 12, 1], maxIter=50).fit(data)


@pytest.fixture(scope="module")
def double(data: DataFrame) -> MultilayerPerceptronRegressionModel:
    estimator = MultilayerPerceptronRegressor(
        layers=[3, 16, 2], labelCols=["label", "other"], activation="tanh", maxIter=60
    )
    return estimator.fit(data)


def predictions(model, data: DataFrame) -> np.ndarray:
    found = [row[0] for row in model.transform(data).select("prediction").collect()]
    return np.array([each.toArray() if isinstance(each, DenseVector) else each for each in found])


def test_a_single_target_is_predicted_in_a_column_of_doubles(model, data: DataFrame, arrays):
    scored = model.transform(data)
    assert scored.schema["prediction"].dataType.simpleString() == "double"
    first = scored.first()
    assert model.predict(first.features) == pytest.approx(first.prediction, rel=1e-6)
    assert model.predict([0.0, 0.5, 1.0]) == pytest.approx(7500, abs=300)
    evaluator = RegressionEvaluator(metricName="r2")
    assert model.summary.r2 == pytest.approx(evaluator.evaluate(scored), abs=1e-9)
    assert model.summary.r2 > 0.97
    assert model.numTargets == 1
    assert model.numFeatures == 3


def test_several_targets_are_predicted_in_a_column_of_vectors(double, data: DataFrame, arrays):
    _, targets = arrays
    found = predictions(double, data)
    errors = found - targets
    summary = double.evaluate(data)
    np.testing.assert_allclose(summary.rootMeanSquaredError, np.sqrt((errors**2).mean(axis=0)))
    np.testing.assert_allclose(summary.meanAbsoluteError, np.abs(errors).mean(axis=0))
    expected = 1 - errors.var(axis=0) / targets.var(axis=0)
    np.testing.assert_allclose(summary.r2, expected, atol=1e-3)
    assert min(summary.r2) > 0.97
    residuals = [row.residuals.toArray() for row in summary.residuals.collect()]
    np.testing.assert_allclose(residuals, -errors)
    assert isinstance(double.predict(data.first().features), DenseVector)
    metadata = double.transform(data).schema["prediction"].metadata
    assert metadata == {"ml_attr": {"num_attrs": 2}}


def test_linear_targets_together_are_each_as_if_alone(data: DataFrame) -> None:
    exact = {"tol": 1e-10, "weightCol": "weight"}
    both = MultilayerPerceptronRegressor(layers=[3, 2], labelCols=["label", "other"], **exact)
    found = both.fit(data).weights.toArray().reshape(4, 2)
    for place, name in enumerate(["label", "other"]):
        alone = MultilayerPerceptronRegressor(layers=[3, 1], labelCol=name, **exact).fit(data)
        np.testing.assert_allclose(found[:, place], alone.weights.toArray(), rtol=1e-4)


def test_metrics_are_weighted_by_the_models_weights(model, data: DataFrame, arrays) -> None:
    weighted = model.copy({model.weightCol: "weight", model.predictionCol: ""})
    errors = predictions(model, data) - arrays[1][:, 0]
    weights = np.arange(300) % 3 + 1.0
    summary = weighted.evaluate(data)
    assert summary.meanSquaredError == pytest.approx(np.average(errors**2, weights=weights))
    target = arrays[1][:, 0]
    spread = np.average((target - np.average(target, weights=weights)) ** 2, weights=weights)
    assert summary.r2 == pytest.approx(1 - summary.meanSquaredError / spread)


@pytest.mark.parametrize("layers", [[3, 1], [3, 8, 1]], ids=["linear", "hidden"])
def test_a_fit_begins_with_initial_weights_in_the_targets_own_units(layers, data: DataFrame):
    estimator = MultilayerPerceptronRegressor(layers=layers, activation="tanh", maxIter=15)
    first = estimator.fit(data)
    again = estimator.copy({estimator.initialWeights: first.weights, estimator.maxIter: 0})
    same = again.fit(data)
    np.testing.assert_allclose(same.weights.toArray(), first.weights.toArray(), rtol=1e-5)
    last = first.summary.objectiveHistory[-1]
    assert same.summary.objectiveHistory[0] == pytest.approx(last, rel=1e-4)


@pytest.mark.parametrize("max_iter", [0, 1, 400])
def test_gradient_descent_of_a_linear_model_comes_to_its_end(max_iter, data: DataFrame) -> None:
    settings = {"layers": [3, 1], "solver": "gd", "stepSize": 0.5, "maxIter": max_iter}
    summary = MultilayerPerceptronRegressor(**settings).fit(data).summary
    history = summary.objectiveHistory
    assert min(max_iter, 1) <= len(history) <= max_iter
    assert all(later < earlier for earlier, later in pairwise(history[:20]))
    if max_iter == 400:
        assert summary.r2 > 0.8


@pytest.mark.parametrize("solver", ["sgd", "adam", "cg"])
def test_every_solver_learns_targets_in_the_thousands(solver: str, data: DataFrame) -> None:
    step = 0.01 if solver == "adam" else 0.05
    estimator = MultilayerPerceptronRegressor(
        layers=[3, 12, 1], solver=solver, stepSize=step, momentum=0.9, blockSize=16, maxIter=30
    )
    model = estimator.fit(data)
    assert model.summary.r2 > 0.9
    assert model.summary.timing.compute > 0


def test_a_constant_target_is_predicted(data: DataFrame) -> None:
    constant = data.withColumn("label", F.lit(1234.5))
    for layers in ([3, 1], [3, 4, 1]):
        model = MultilayerPerceptronRegressor(layers=layers, maxIter=30).fit(constant)
        found = predictions(model, constant.limit(5))
        np.testing.assert_allclose(found, 1234.5, atol=0.05)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, r"MultilayerPerceptronRegressor: set layers .* \[784, 100, 1\]"),
        ({"layers": [3, 2]}, r"\[3, 2\] must end in as many outputs .*: 1, 'label'"),
        ({"layers": [3, 1], "labelCols": ["label", "other"]}, "2, 'label', 'other'"),
        ({"layers": [3, 1], "labelCols": []}, "labelCols must be one column or more"),
        ({"layers": [3, 1], "loss": "crossEntropy"}, "loss must be one of squared, absolute"),
        ({"layers": [3, 4, 1], "activation": "step"}, "MultilayerPerceptronRegressor: .*'step'"),
        ({"layers": [3, 1], "initialWeights": [1.0]}, r"holds 1 values, and layers \[3, 1\]"),
    ],
)
def test_params_that_do_not_fit_are_named(params: dict, message: str, data: DataFrame) -> None:
    with pytest.raises(InvalidParamError, match=message):
        MultilayerPerceptronRegressor(**params).fit(data)


def test_bad_targets_are_named_or_left_out(data: DataFrame, model) -> None:
    nan = F.when(F.col("held"), float("nan")).otherwise(F.col("label"))
    bad = data.withColumn("label", nan)
    estimator = MultilayerPerceptronRegressor(layers=[3, 1])
    with pytest.raises(InvalidDataError, match=r"column 'label': 75 rows are NaN.*row 0"):
        estimator.fit(bad)
    nulls = data.withColumn("label", F.when(~F.col("held"), F.col("label")))
    with pytest.raises(InvalidDataError, match="column 'label': 75 rows are null"):
        estimator.fit(nulls)
    with pytest.raises(InvalidDataError, match="column 'features': 300 rows are not 4 values wide"):
        MultilayerPerceptronRegressor(layers=[4, 1]).fit(data)
    skipped = estimator.setHandleInvalid("skip").fit(bad)
    clean = estimator.fit(data.filter("not held"))
    np.testing.assert_allclose(skipped.weights.toArray(), clean.weights.toArray(), rtol=1e-6)
    assert skipped.training.skipped == 75
    assert skipped.summary.numInstances == 225


def test_saved_models_predict_in_spark_numpy_and_onnx(
    model, double, data: DataFrame, arrays, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    for name, each in (("one", model), ("two", double)):
        expected = predictions(each, data)
        scale = expected.std(axis=0)
        each.write().overwrite().save(str(tmp_path / name))
        loaded = MultilayerPerceptronRegressionModel.load(str(tmp_path / name))
        np.testing.assert_array_equal(predictions(loaded, data), expected)
        assert loaded.uid == each.uid
        assert not loaded.hasSummary
        plain = load_numpy(tmp_path / name)
        assert plain.layers == each.getLayers()
        np.testing.assert_allclose(plain.predict(arrays[0]) / scale, expected / scale, rtol=1e-6)
        each.toONNX(str(tmp_path / f"{name}.onnx"))
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx")
        (found,) = session.run(["prediction"], {"features": arrays[0].astype(np.float32)})
        assert found.dtype == np.float64
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)


def test_a_pipeline_is_saved_and_loaded_with_it(data: DataFrame, arrays, tmp_path: Path) -> None:
    scaler = StandardScaler(inputCol="features", outputCol="scaled", withMean=True)
    estimator = MultilayerPerceptronRegressor(
        featuresCol="scaled", layers=[3, 1], initialWeights=Vectors.dense(1, 2, 3, 4)
    )
    Pipeline(stages=[scaler, estimator]).save(str(tmp_path / "pipeline"))
    loaded = Pipeline.load(str(tmp_path / "pipeline"))
    assert loaded.getStages()[1].getInitialWeights() == estimator.getInitialWeights()
    fitted = loaded.fit(data)
    fitted.save(str(tmp_path / "model"))
    expected = predictions(fitted, data)
    np.testing.assert_array_equal(
        predictions(PipelineModel.load(str(tmp_path / "model")), data), expected
    )
    np.testing.assert_allclose(load_numpy(tmp_path / "model").predict(arrays[0]), expected)


def test_held_out_rows_stop_a_fit_at_its_best(data: DataFrame) -> None:
    noisy = data.withColumn("label", F.col("label") + 3000 * F.randn(5)).cache()
    estimator = MultilayerPerceptronRegressor(
        layers=[3, 50, 1], maxIter=100, tol=0.0, validationIndicatorCol="held", patience=3
    )
    model = estimator.fit(noisy)
    assert model.training.reason == "held-out loss no longer falling"
    assert model.summary.numInstances == 225
    error = model.evaluate(noisy.filter("held")).meanSquaredError
    (spread,) = noisy.filter("not held").agg(F.stddev("label")).first()
    best = min(model.training.held_out_history)
    assert error / (2 * spread**2) == pytest.approx(best, rel=1e-4)


def test_settings_that_differ_in_loss_share_blocks_and_keep_their_bits(data: DataFrame) -> None:
    estimator = MultilayerPerceptronRegressor(layers=[3, 6, 1], maxIter=8)
    grid = ParamGridBuilder().addGrid(estimator.loss, ["squared", "huber"]).build()
    assert len({_kin(estimator.copy(each)) for each in grid}) == 1
    for index, model in estimator.fitMultiple(data, grid):
        alone = estimator.fit(data, grid[index])
        assert list(model.weights) == list(alone.weights)


def test_cross_validation_finds_the_better_setting(data: DataFrame) -> None:
    estimator = MultilayerPerceptronRegressor(layers=[3, 8, 1], maxIter=15)
    grid = ParamGridBuilder().addGrid(estimator.regParam, [0.0, 3.0]).build()
    validator = CrossValidator(
        estimator=estimator, estimatorParamMaps=grid, evaluator=RegressionEvaluator(), numFolds=2
    )
    found = validator.fit(data)
    assert found.avgMetrics[0] < found.avgMetrics[1] / 2
    assert found.bestModel.getLayers() == [3, 8, 1]


class Killed(Exception):
    """Stands for the end of the driver."""


def test_a_fit_that_was_killed_goes_on_with_the_same_bits(
    data: DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = MultilayerPerceptronRegressor(
        layers=[3, 6, 1], maxIter=9, tol=0.0, checkpointDir=str(tmp_path), checkpointInterval=2
    )
    tell = FullBatchFit.tell

    def until_killed(self, outcome):
        if self.count == 5:
            raise Killed
        return tell(self, outcome)

    monkeypatch.setattr(FullBatchFit, "tell", until_killed)
    with pytest.raises(Killed):
        estimator.fit(data)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="loss was 'squared' and is 'huber'"):
        estimator.copy({estimator.loss: "huber"}).fit(data)
    resumed = estimator.fit(data)
    whole = estimator.copy({estimator.checkpointInterval: -1}).fit(data)
    assert list(resumed.weights) == list(whole.weights)
