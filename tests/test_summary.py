"""Summaries: every number and curve is MLlib's for the same coefficients; and diagnostics."""

from __future__ import annotations

import logging

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_breast_cancer, load_iris

from sparknn.classification import (
    LogisticRegression,
    LogisticRegressionModel,
    MultilayerPerceptronClassificationModel,
    MultilayerPerceptronClassifier,
)


def table(spark: SparkSession, load) -> DataFrame:
    features, labels = load(return_X_y=True)
    weights = np.random.default_rng(1).random(len(labels))
    rows = [
        (Vectors.dense(x), float(y), float(w))
        for x, y, w in zip(features[:, :8], labels, weights, strict=True)
    ]
    return spark.createDataFrame(rows, ["features", "label", "weight"]).coalesce(1).cache()


@pytest.fixture(scope="module")
def iris(spark: SparkSession) -> DataFrame:
    return table(spark, load_iris)


@pytest.fixture(scope="module")
def cancer(spark: SparkSession) -> DataFrame:
    return table(spark, load_breast_cancer)


NUMBERS = [
    "accuracy",
    "weightedPrecision",
    "weightedRecall",
    "weightedTruePositiveRate",
    "weightedFalsePositiveRate",
    "labels",
    "precisionByLabel",
    "recallByLabel",
    "truePositiveRateByLabel",
    "falsePositiveRateByLabel",
]
NAMES = ["predictionCol", "labelCol", "weightCol"]
CURVES = ["roc", "pr", "fMeasureByThreshold", "precisionByThreshold", "recallByThreshold"]


def same(ours, theirs) -> None:
    for name in NUMBERS:
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=1e-9), name
    for name in NAMES:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.fMeasureByLabel(0.5) == pytest.approx(theirs.fMeasureByLabel(0.5), abs=1e-9)
    assert ours.weightedFMeasure(2.0) == pytest.approx(theirs.weightedFMeasure(2.0), abs=1e-9)
    assert ours.predictions.columns == theirs.predictions.columns


def test_two_classes_are_summarised_as_by_mllib(cancer: DataFrame) -> None:
    theirs = mllib.LogisticRegression(maxIter=20, regParam=0.01, weightCol="weight").fit(cancer)
    ours = LogisticRegressionModel.fromMLlib(theirs)
    mine, other = ours.evaluate(cancer), theirs.evaluate(cancer)
    assert isinstance(mine, mllib.BinaryLogisticRegressionSummary)
    same(mine, other)
    assert (mine.probabilityCol, mine.featuresCol, mine.scoreCol) == (
        other.probabilityCol,
        other.featuresCol,
        other.scoreCol,
    )
    assert mine.areaUnderROC == pytest.approx(other.areaUnderROC, abs=1e-9)
    for name in CURVES:
        curve, expected = getattr(mine, name), getattr(other, name)
        assert curve.columns == expected.columns
        assert np.array(curve.collect()) == pytest.approx(np.array(expected.collect()), abs=1e-9)


def test_several_classes_are_summarised_as_by_mllib(iris: DataFrame) -> None:
    theirs = mllib.LogisticRegression(maxIter=5).setProbabilityCol("").fit(iris)
    mine, other = LogisticRegressionModel.fromMLlib(theirs).evaluate(iris), theirs.evaluate(iris)
    assert not isinstance(mine, mllib.BinaryLogisticRegressionSummary)
    assert mine.probabilityCol.startswith("probability_")
    assert mine.accuracy == pytest.approx(other.accuracy, abs=1e-9)
    assert mine.precisionByLabel == pytest.approx(other.precisionByLabel, abs=1e-9)


def test_a_perceptron_is_summarised_as_by_mllib(iris: DataFrame) -> None:
    theirs = mllib.MultilayerPerceptronClassifier(layers=[4, 5, 3], maxIter=15, seed=1).fit(iris)
    ours = MultilayerPerceptronClassificationModel.fromMLlib(theirs)
    same(ours.evaluate(iris), theirs.evaluate(iris))
    assert isinstance(ours.evaluate(iris), mllib.MultilayerPerceptronClassificationSummary)


def test_a_perceptrons_summary_is_weighted_where_its_training_was(iris: DataFrame) -> None:
    network = MultilayerPerceptronClassifier(layers=[4, 3], maxIter=3, seed=1, weightCol="weight")
    model = network.fit(iris)
    rows = model.transform(iris).select("label", "prediction", "weight").collect()
    right, weights = [row.label == row.prediction for row in rows], [row.weight for row in rows]
    assert model.summary.accuracy == pytest.approx(np.average(right, weights=weights))
    assert np.average(right) != pytest.approx(np.average(right, weights=weights), rel=1e-6)
    assert model.evaluate(iris.drop("weight")).accuracy == pytest.approx(np.average(right))


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(maxIter=3), MultilayerPerceptronClassifier(layers=[4, 3], maxIter=3)],
    ids=["logistic", "perceptron"],
)
def test_a_label_with_a_dot_in_its_name_is_summarised(iris: DataFrame, estimator) -> None:
    plain = estimator.fit(iris).summary.accuracy
    dotted = iris.withColumnRenamed("label", "y.class")
    model = estimator.copy({estimator.labelCol: "y.class"}).fit(dotted)
    assert model.summary.accuracy == pytest.approx(plain)
    assert model.evaluate(dotted).accuracy == pytest.approx(plain)


def test_a_training_is_summarised_as_by_mllib(iris: DataFrame) -> None:
    params = {"regParam": 0.05, "weightCol": "weight", "maxIter": 200, "tol": 1e-9}
    theirs = mllib.LogisticRegression(**params).fit(iris).summary
    model = LogisticRegression(**params).fit(iris)
    ours = model.summary
    assert isinstance(ours, mllib.LogisticRegressionTrainingSummary)
    same(ours, theirs)
    assert ours.objectiveHistory[0] == pytest.approx(theirs.objectiveHistory[0], rel=1e-6)
    assert ours.objectiveHistory[-1] == pytest.approx(theirs.objectiveHistory[-1], rel=1e-6)
    assert ours.totalIterations == len(ours.objectiveHistory) - 1 == model.training.iterations
    assert model.copy().summary.totalIterations == ours.totalIterations
    assert model.summary is ours


def test_a_perceptrons_summary_may_be_called_as_in_pyspark(iris: DataFrame) -> None:
    model = MultilayerPerceptronClassifier(layers=[4, 3], maxIter=3).fit(iris)
    summary = model.summary()
    assert isinstance(summary, mllib.MultilayerPerceptronClassificationTrainingSummary)
    assert summary is model.summary
    assert summary.accuracy == model.evaluate(iris).accuracy
    assert len(summary.objectiveHistory) == summary.totalIterations + 1 == 4


def test_a_fit_starts_no_job_for_its_summary(iris: DataFrame, monkeypatch) -> None:
    from sparknn.classification import base

    monkeypatch.setattr(base, "training_summary", lambda *arguments: pytest.fail("not asked for"))
    model = LogisticRegression(maxIter=1).fit(iris)
    assert model.hasSummary


def test_a_summary_follows_thresholds_but_not_names(cancer: DataFrame) -> None:
    model = LogisticRegression(maxIter=3, regParam=0.1).fit(cancer)
    before = model.summary.accuracy
    model.setThreshold(1.0).setFeaturesCol("elsewhere").setProbabilityCol("chance")
    assert model.summary.probabilityCol == "probability"
    assert model.summary.accuracy == cancer.filter("label = 0").count() / cancer.count() != before


def test_a_model_that_was_not_fitted_here_has_no_summary(spark: SparkSession) -> None:
    model = LogisticRegressionModel(np.ones((1, 2)), np.zeros(1), 2, False)
    assert not model.hasSummary
    with pytest.raises(RuntimeError, match="No training summary available"):
        _ = model.summary
    with pytest.raises(TypeError, match="DataFrame"):
        model.evaluate([1.0])


def test_skipped_rows_are_not_summarised(spark: SparkSession) -> None:
    rows = [(Vectors.dense(float("nan"), 1.0), 0.0), (Vectors.dense(1.0, 2.0), None)]
    rows += [(Vectors.dense(1.0, float("inf")), 1.0), (None, 1.0), (Vectors.dense(1.0, 2.0), 0.5)]
    rows += [(Vectors.dense(float(i), 1.0), float(i % 2)) for i in range(8)]
    data = spark.createDataFrame(rows, ["features", "label"]).coalesce(1)
    model = MultilayerPerceptronClassifier(layers=[2, 2], handleInvalid="skip", maxIter=2).fit(data)
    assert model.training.skipped == 5
    assert model.summary.predictions.count() == 8


def test_diagnostics_add_up(iris: DataFrame) -> None:
    layers = [4, 6, 3]
    estimator = MultilayerPerceptronClassifier(
        layers=layers, solver="sgd", maxIter=3, blockSize=50, stepsPerRound=1, numPartitions=1
    )
    summary = estimator.fit(iris).summary
    fitted = summary._training.fitted
    assert summary.totalIterations == 3
    assert [each.epoch for each in summary.history] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert summary.reason == "max iterations reached"
    timing = summary.timing
    assert timing.packing > 0 and timing.compute > 0
    assert timing.compute + timing.overhead == pytest.approx(fitted.seconds)
    assert summary.rowsPerSecond == pytest.approx(3 * 150 / fitted.seconds)
    work = 150 * 3 * (4 * 4 * 6 + 6 * 6 * 3)
    assert summary.gflops == pytest.approx(work / fitted.seconds / 1e9)
    assert 0 < summary.sgemmShare < 1
    assert summary.sgemmShare == pytest.approx(summary.gflops / summary.sgemmGflops)


def test_fewer_than_ten_rows_to_a_parameter_draw_a_warning(iris: DataFrame, caplog) -> None:
    with caplog.at_level(logging.WARNING, "sparknn"):
        LogisticRegression(maxIter=0).fit(iris)
        assert "rule of thumb" not in caplog.text
        MultilayerPerceptronClassifier(layers=[4, 2, 3], maxIter=0).fit(iris)
    assert "150 rows for 19 parameters" in caplog.text
