"""Grids of settings: packed once, trained in shared rounds, with the bits of separate fits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from job_groups import job_group
from pyspark.ml.evaluation import MulticlassClassificationEvaluator
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, ParamGridBuilder, TrainValidationSplit
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_iris

from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.errors import InvalidParamError


@pytest.fixture(scope="module")
def iris(spark: SparkSession) -> DataFrame:
    features, labels = load_iris(return_X_y=True)
    rows = [(Vectors.dense(x), float(y)) for x, y in zip(features, labels, strict=True)]
    data = spark.sparkContext.parallelize(rows, 2)
    return spark.createDataFrame(data, ["features", "label"]).cache()


def logistic() -> tuple[LogisticRegression, list[dict]]:
    estimator = LogisticRegression(maxIter=5)
    grid = ParamGridBuilder().addGrid(estimator.regParam, [0.0, 0.1])
    return estimator, grid.addGrid(estimator.elasticNetParam, [0.0, 0.5]).build()


def perceptron() -> tuple[MultilayerPerceptronClassifier, list[dict]]:
    estimator = MultilayerPerceptronClassifier(
        layers=[4, 5, 3], solver="sgd", maxIter=4, blockSize=8
    )
    grid = ParamGridBuilder().addGrid(estimator.stepSize, [0.1, 0.5])
    return estimator, grid.addGrid(estimator.layers, [[4, 5, 3], [4, 3, 3]]).build()


def parameters(model) -> np.ndarray:
    if hasattr(model, "weights"):
        return model.weights.toArray()
    return np.append(model.coefficientMatrix.toArray(), model.interceptVector.toArray())


def jobs_of(spark: SparkSession, body) -> tuple:
    """Return what `body` returns and how many Spark jobs it started."""
    with job_group(spark) as jobs:
        return body(), len(jobs())


@pytest.mark.parametrize("make", [logistic, perceptron])
def test_a_grid_has_the_bits_of_separate_fits_for_far_fewer_jobs(spark, iris, make) -> None:
    estimator, grid = make()
    alone, many = jobs_of(spark, lambda: [estimator.fit(iris, setting) for setting in grid])
    together, few = jobs_of(spark, lambda: dict(estimator.fitMultiple(iris, grid)))
    assert sorted(together) == list(range(len(grid)))
    for index, model in enumerate(alone):
        np.testing.assert_array_equal(parameters(together[index]), parameters(model))
        assert together[index].uid == model.uid
        for param, value in grid[index].items():
            assert together[index].getOrDefault(param.name) == value
    assert few < many / 2, (few, many)


def test_settings_that_want_other_rows_are_packed_apart(iris: DataFrame) -> None:
    estimator, _ = perceptron()
    grid = [{estimator.seed: 1}, {estimator.seed: 2}, {estimator.solver: "l-bfgs"}]
    models = dict(estimator.fitMultiple(iris, grid))
    for index, setting in enumerate(grid):
        expected = estimator.fit(iris, setting)
        np.testing.assert_array_equal(parameters(models[index]), parameters(expected))


def test_models_of_a_grid_may_be_asked_for_by_several_threads(iris: DataFrame) -> None:
    estimator, grid = logistic()
    models = estimator.fitMultiple(iris, grid)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: next(models), grid))
    assert sorted(index for index, _ in found) == list(range(len(grid)))
    with pytest.raises(StopIteration):
        next(models)


def test_a_setting_out_of_range_or_missing_is_told_before_anything_is_packed(
    iris: DataFrame,
) -> None:
    estimator, _ = logistic()
    with pytest.raises(InvalidParamError, match="regParam must be at least 0"):
        estimator.fitMultiple(iris, [{estimator.regParam: 0.1}, {estimator.regParam: -1.0}])
    network = MultilayerPerceptronClassifier()
    with pytest.raises(InvalidParamError, match="set layers"):
        network.fitMultiple(iris, [{network.seed: 1}, {network.seed: 2}])


def test_cross_validation_finds_the_same_winner_as_fits_by_hand(iris: DataFrame) -> None:
    estimator, grid = logistic()
    evaluator = MulticlassClassificationEvaluator(metricName="logLoss")
    validator = CrossValidator(
        estimator=estimator,
        estimatorParamMaps=grid,
        evaluator=evaluator,
        numFolds=2,
        seed=3,
        parallelism=3,
    )
    fitted = validator.fit(iris)
    means = np.zeros(len(grid))
    for train, test in validator._kFold(iris):
        for index, setting in enumerate(grid):
            means[index] += evaluator.evaluate(estimator.fit(train, setting).transform(test)) / 2
    np.testing.assert_allclose(fitted.avgMetrics, means, rtol=1e-6)
    assert fitted.bestModel.getRegParam() == grid[int(means.argmin())][estimator.regParam]


def test_a_train_validation_split_works(iris: DataFrame) -> None:
    estimator, grid = perceptron()
    split = TrainValidationSplit(
        estimator=estimator,
        estimatorParamMaps=grid,
        evaluator=MulticlassClassificationEvaluator(),
        parallelism=2,
        seed=1,
    ).fit(iris)
    assert len(split.validationMetrics) == len(grid)
    assert split.bestModel.numClasses == 3
