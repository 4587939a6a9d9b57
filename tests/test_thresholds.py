"""`threshold` and `thresholds`: setters, getters and predictions, as MLlib's."""

from __future__ import annotations

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from sparknn.classification import (
    LogisticRegression,
    LogisticRegressionModel,
    MultilayerPerceptronClassificationModel,
    MultilayerPerceptronClassifier,
)


def table(spark: SparkSession, classes: int) -> DataFrame:
    random = np.random.default_rng(classes)
    features = random.standard_normal((120, 3))
    labels = np.clip(np.round(features[:, 0] + random.standard_normal(120)), 0, classes - 1)
    # Far out, margins are so large that probabilities round to 0 and 1.
    features[:6, 0] = [60, -60, 400, -400, 36.5, -36.5]
    rows = [(Vectors.dense(x), float(y)) for x, y in zip(features, labels, strict=True)]
    return spark.createDataFrame(rows, ["features", "label"]).coalesce(1).cache()


@pytest.fixture(scope="module")
def two(spark: SparkSession):
    data = table(spark, 2)
    theirs = mllib.LogisticRegression(maxIter=5).fit(data)
    return data, theirs


@pytest.fixture(scope="module")
def three(spark: SparkSession):
    data = table(spark, 3)
    theirs = mllib.LogisticRegression(maxIter=5).fit(data)
    return data, theirs


def labels(model, data: DataFrame) -> list[float]:
    return [row.prediction for row in model.transform(data).select("prediction").collect()]


COLUMNS = [
    {},
    {"rawPredictionCol": ""},
    {"rawPredictionCol": "", "probabilityCol": ""},
]


@pytest.mark.parametrize("columns", COLUMNS, ids=["raw", "probability", "label"])
@pytest.mark.parametrize(
    "params",
    [
        {"threshold": 0.0},
        {"threshold": 0.2},
        {"threshold": 1.0},
        {"thresholds": [0.7, 0.3]},
        {"thresholds": [0.0, 1.0]},
        {"thresholds": [2.0, 0.0]},
    ],
    ids=str,
)
def test_two_classes_are_predicted_as_by_mllib(two, params: dict, columns: dict) -> None:
    data, theirs = two
    ours = LogisticRegressionModel.fromMLlib(theirs)
    theirs = theirs.copy()
    for model in (ours, theirs):
        model._set(**params, **columns)
    if 0.0 in params.get("thresholds", []):
        # pyspark's model would hand both over to the JVM, and there threshold's default is kept.
        assert ours.getThreshold() == (1.0 if params["thresholds"][0] == 0 else 0.0)
    assert labels(ours, data) == labels(theirs, data)


@pytest.mark.parametrize("thresholds", [[0.9, 0.3, 0.1], [1.0, 0.0, 3.0]])
def test_three_classes_are_predicted_as_by_mllib(three, thresholds: list[float]) -> None:
    data, theirs = three
    ours = LogisticRegressionModel.fromMLlib(theirs).setThresholds(thresholds)
    theirs = theirs.copy().setThresholds(thresholds)
    expected = labels(theirs, data)
    assert labels(ours, data) == expected
    assert expected != labels(LogisticRegressionModel.fromMLlib(three[1]), data)
    vectors = [row.features for row in data.head(20)]
    assert [ours.predict(v) for v in vectors] == [theirs.predict(v) for v in vectors]


def test_a_perceptron_has_thresholds_as_mllibs(three) -> None:
    data, _ = three
    theirs = mllib.MultilayerPerceptronClassifier(layers=[3, 4, 3], maxIter=10, seed=1).fit(data)
    ours = MultilayerPerceptronClassificationModel.fromMLlib(theirs)
    assert labels(ours, data) == labels(theirs, data)
    ours.setThresholds([0.7, 0.2, 0.1])
    expected = labels(theirs.copy().setThresholds([0.7, 0.2, 0.1]), data)
    assert labels(ours, data) == expected != labels(theirs, data)


def test_setting_one_kind_clears_the_other(two) -> None:
    for one in (LogisticRegression(), LogisticRegressionModel.fromMLlib(two[1])):
        assert one.setThreshold(0.2) is one
        assert one.getThresholds() == [0.8, 0.2]
        assert one.setThresholds([0.3, 0.1]) is one
        assert not one.isSet("threshold")
        assert one.getThreshold() == pytest.approx(0.25)
        one.setThreshold(0.4)
        assert not one.isSet("thresholds")


def test_both_kinds_must_agree() -> None:
    agreeing = LogisticRegression(threshold=0.25, thresholds=[0.75, 0.25])
    assert agreeing.getThreshold() == 0.25
    with pytest.raises(ValueError, match="inconsistent values"):
        LogisticRegression(threshold=0.5, thresholds=[0.75, 0.25])
    with pytest.raises(ValueError, match="inconsistent values"):
        LogisticRegression().setParams(threshold=0.5, thresholds=[0.75, 0.25])


def test_get_threshold_is_for_two_classes_only() -> None:
    with pytest.raises(ValueError, match="length != 2"):
        LogisticRegression(thresholds=[1.0, 1.0, 1.0]).getThreshold()


def test_an_estimators_threshold_is_its_models(two) -> None:
    data, _ = two
    model = LogisticRegression(threshold=1.0, maxIter=3).fit(data)
    assert model.getThreshold() == 1.0
    assert set(labels(model, data)) == {0.0}


@pytest.mark.parametrize("thresholds", [[0.5, 0.5], [0.0, 0.0, 1.0], [0.5, 0.5, -0.1]])
def test_thresholds_that_do_not_fit_the_classes_are_an_error(three, thresholds) -> None:
    data, theirs = three
    model = LogisticRegressionModel.fromMLlib(theirs).setThresholds(thresholds)
    with pytest.raises(ValueError, match="thresholds must be"):
        model.transform(data)
    with pytest.raises(ValueError, match="thresholds must be"):
        MultilayerPerceptronClassifier(layers=[3, 3], thresholds=thresholds).fit(data)
