"""LogisticRegression against MLlib's, and against its own promises."""

from __future__ import annotations

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from pyspark.ml.feature import StringIndexer
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from sklearn.datasets import load_breast_cancer, load_iris

from sparknn.classification import LogisticRegression, LogisticRegressionModel, problem
from sparknn.errors import InvalidDataError


def labelled(spark: SparkSession, features, labels, weights=None, parts: int = 2) -> DataFrame:
    weights = np.ones(len(labels)) if weights is None else weights
    rows = [
        (Vectors.dense(x), float(y), float(w))
        for x, y, w in zip(features, labels, weights, strict=True)
    ]
    data = spark.sparkContext.parallelize(rows, parts)
    return spark.createDataFrame(data, ["features", "label", "weight"]).cache()


@pytest.fixture(scope="module")
def iris(spark: SparkSession) -> tuple[DataFrame, np.ndarray]:
    features, labels = load_iris(return_X_y=True)
    weights = np.random.default_rng(1).random(len(labels))
    return labelled(spark, features, labels, weights), features


@pytest.fixture(scope="module")
def cancer(spark: SparkSession) -> tuple[DataFrame, np.ndarray]:
    """Well-conditioned columns of breast cancer, one of 1.5e9 ± 1e3 and a constant one."""
    features, labels = load_breast_cancer(return_X_y=True)
    random = np.random.default_rng(0)
    far = 1.5e9 + 1e3 * random.standard_normal((len(labels), 1))
    features = np.hstack([features[:, [0, 1, 4, 8, 9]], far, np.full((len(labels), 1), 3.0)])
    return labelled(spark, features, labels, random.random(len(labels))), features


CASES = [
    {"regParam": 0.01},
    {"regParam": 0.1, "standardization": False},
    {"regParam": 0.01, "weightCol": "weight"},
    {"regParam": 0.01, "family": "multinomial"},
]


@pytest.mark.parametrize("params", CASES, ids=str)
@pytest.mark.parametrize("name", ["iris", "cancer"])
def test_the_optimum_is_mllibs(name: str, params: dict, request: pytest.FixtureRequest) -> None:
    data, features = request.getfixturevalue(name)
    theirs = mllib.LogisticRegression(maxIter=500, tol=1e-9, **params).fit(data)
    ours = LogisticRegression(maxIter=500, tol=1e-9, **params).fit(data)
    expected = theirs.coefficientMatrix.toArray()
    scale = features.std(axis=0)
    difference = np.abs((ours.coefficientMatrix.toArray() - expected) * scale).max()
    assert difference <= 1e-3 * np.abs(expected * scale).max()
    assert ours.training.objective_history[-1] == pytest.approx(
        theirs.summary.objectiveHistory[-1], rel=1e-6
    )
    assert probabilities(ours, data) == pytest.approx(probabilities(theirs, data), abs=1e-3)


@pytest.mark.parametrize("name", ["iris", "cancer"])
def test_without_intercept_the_optimum_is_mllibs(name: str, request: pytest.FixtureRequest) -> None:
    data, _ = request.getfixturevalue(name)
    columns = slice(0, 5)
    narrow = data.sparkSession.createDataFrame(
        data.rdd.map(lambda row: (Vectors.dense(row[0].toArray()[columns]), row[1])).coalesce(2),
        ["features", "label"],
    ).cache()
    params = {"regParam": 0.1, "fitIntercept": False, "maxIter": 500, "tol": 1e-9}
    theirs = mllib.LogisticRegression(**params).fit(narrow)
    ours = LogisticRegression(**params).fit(narrow)
    assert ours.training.objective_history[-1] == pytest.approx(
        theirs.summary.objectiveHistory[-1], rel=1e-6
    )
    assert probabilities(ours, narrow) == pytest.approx(probabilities(theirs, narrow), abs=1e-3)
    assert not ours.interceptVector.toArray().any()


def probabilities(model, data: DataFrame) -> np.ndarray:
    rows = model.transform(data).select("probability").collect()
    return np.array([row.probability.toArray() for row in rows])


def test_transform_gives_what_mllib_gives(iris: tuple[DataFrame, np.ndarray]) -> None:
    data, _ = iris
    theirs = mllib.LogisticRegression(regParam=0.01, tol=1e-9, maxIter=500).fit(data)
    ours = LogisticRegression(regParam=0.01, tol=1e-9, maxIter=500).fit(data)
    expected, got = theirs.transform(data), ours.transform(data)
    assert got.columns == expected.columns
    assert [field.metadata for field in got.schema] == [field.metadata for field in expected.schema]
    assert [row.prediction for row in got.collect()] == [
        row.prediction for row in expected.collect()
    ]
    vector = data.first().features
    assert ours.predict(vector) == theirs.predict(vector)
    for one in ("predictRaw", "predictProbability"):
        assert getattr(ours, one)(vector).toArray() == pytest.approx(
            getattr(theirs, one)(vector).toArray(), abs=1e-3
        )


def test_params_are_mllibs_with_mllibs_defaults() -> None:
    theirs, ours = mllib.LogisticRegression(), LogisticRegression()
    for param in theirs.params:
        assert ours.hasParam(param.name)
        assert ours.hasDefault(param.name) == theirs.hasDefault(param.name), param.name
        if theirs.hasDefault(param.name) and param.name != "seed":
            assert ours.getOrDefault(param.name) == theirs.getOrDefault(param.name), param.name
        setter = f"set{param.name[0].upper()}{param.name[1:]}"
        assert hasattr(ours, setter) == hasattr(theirs, setter), setter


@pytest.mark.parametrize(
    "param",
    [
        {"regParam": -1.0},
        {"family": "poisson"},
        {"solver": "newton"},
        {"maxIter": -1},
        {"numPartitions": 0},
        {"handleInvalid": "keep"},
        {"threshold": 1.5},
        {"thresholds": [1.0, 0.0, 0.0]},
        {"thresholds": [-1.0, 2.0, 1.0]},
        {"thresholds": [0.5, 0.5]},
        {"aggregationDepth": 1},
        {"maxBlockSizeInMB": -1.0},
    ],
    ids=str,
)
def test_a_param_out_of_range_is_named(param: dict, iris: tuple[DataFrame, np.ndarray]) -> None:
    with pytest.raises(ValueError, match=next(iter(param))):
        LogisticRegression(**param).fit(iris[0])


def test_max_block_size_bounds_what_a_task_works_on_at_a_time(
    iris: tuple[DataFrame, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, fit = [], problem.FullBatchFit

    def watched(blocks, objective, *others):
        chunks.append(objective.chunk)
        return fit(blocks, objective, *others)

    monkeypatch.setattr(problem, "FullBatchFit", watched)
    LogisticRegression(maxIter=1).fit(iris[0])
    small = LogisticRegression(maxIter=1, maxBlockSizeInMB=0.001, aggregationDepth=3)
    small.fit(iris[0])
    # 32 rows of four float64 are a kilobyte.
    assert chunks == [131072, 32]


def test_sgd_comes_near_the_optimum(iris: tuple[DataFrame, np.ndarray]) -> None:
    data, _ = iris
    best = LogisticRegression(regParam=0.01, maxIter=500, tol=1e-9).fit(data)
    model = LogisticRegression(
        regParam=0.01,
        solver="sgd",
        stepSize=0.2,
        stepSizeSchedule="linear",
        momentum=0.9,
        blockSize=8,
        maxIter=60,
    ).fit(data)
    assert probabilities(model, data) == pytest.approx(probabilities(best, data), abs=0.05)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("family", ["auto", "multinomial"])
def test_a_single_class_gives_mllibs_certain_model(
    spark: SparkSession, label: float, family: str
) -> None:
    data = labelled(spark, [[1.0, 2.0], [3.0, 5.0]], [label, label])
    theirs = mllib.LogisticRegression(family=family).fit(data)
    ours = LogisticRegression(family=family).fit(data)
    assert ours.numClasses == theirs.numClasses
    assert list(ours.interceptVector.toArray()) == list(theirs.interceptVector.toArray())
    assert not ours.coefficientMatrix.toArray().any()
    assert [row.prediction for row in ours.transform(data).collect()] == [
        row.prediction for row in theirs.transform(data).collect()
    ]


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_single_class_of_two_that_are_declared_is_the_one_predicted(spark, label: float) -> None:
    """MLlib's model is certain of class 1 here, whichever there is."""
    data = labelled(spark, [[1.0], [3.0]], [label, label])
    declared = {"ml_attr": {"type": "nominal", "num_vals": 2}}
    data = data.withColumn("label", F.col("label").alias("label", metadata=declared))
    model = LogisticRegression().fit(data)
    assert [row.prediction for row in model.transform(data).collect()] == [label, label]


def test_a_gap_between_labels_is_a_class_without_rows(spark: SparkSession) -> None:
    random = np.random.default_rng(2)
    features = random.standard_normal((60, 2))
    data = labelled(spark, features, np.where(features[:, 0] + features[:, 1] > 0, 2.0, 0.0))
    theirs = mllib.LogisticRegression(regParam=0.1, tol=1e-9, maxIter=500).fit(data)
    ours = LogisticRegression(regParam=0.1, tol=1e-9, maxIter=500).fit(data)
    assert ours.numClasses == theirs.numClasses == 3
    assert probabilities(ours, data) == pytest.approx(probabilities(theirs, data), abs=1e-3)


def test_a_nominal_label_column_says_how_many_classes_there_are(spark: SparkSession) -> None:
    data = spark.createDataFrame(
        [(Vectors.dense(float(i)), word) for i, word in enumerate("abcabcab")],
        ["features", "word"],
    )
    indexed = StringIndexer(inputCol="word", outputCol="label").fit(data).transform(data)
    two = indexed.filter("label < 2")
    assert LogisticRegression(regParam=0.1).fit(two).numClasses == 3


def test_binomial_refuses_three_classes(iris: tuple[DataFrame, np.ndarray]) -> None:
    with pytest.raises(InvalidDataError, match="binomial"):
        LogisticRegression(family="binomial").fit(iris[0])


def test_a_saved_model_is_the_same_model(iris: tuple[DataFrame, np.ndarray], tmp_path) -> None:
    data, _ = iris
    model = LogisticRegression(regParam=0.01, predictionCol="guess").fit(data)
    model.save(str(tmp_path / "model"))
    loaded = LogisticRegressionModel.load(str(tmp_path / "model"))
    assert loaded.coefficientMatrix == model.coefficientMatrix
    assert loaded.interceptVector == model.interceptVector
    assert loaded.uid == model.uid
    assert loaded.transform(data).collect() == model.transform(data).collect()
    assert loaded.getRegParam() == 0.01


def test_coefficients_of_a_multinomial_model_point_to_the_matrix(
    iris: tuple[DataFrame, np.ndarray],
) -> None:
    model = LogisticRegression(maxIter=3).fit(iris[0])
    with pytest.raises(ValueError, match="coefficientMatrix"):
        _ = model.coefficients
    with pytest.raises(ValueError, match="interceptVector"):
        _ = model.intercept


def test_max_iter_zero_gives_the_class_shares(iris: tuple[DataFrame, np.ndarray]) -> None:
    model = LogisticRegression(maxIter=0).fit(iris[0])
    assert model.training.iterations == 0
    assert not model.coefficientMatrix.toArray().any()
