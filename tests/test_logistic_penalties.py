"""L1, elastic net, bounds, sgd's penalties and warm starts of LogisticRegression."""

from __future__ import annotations

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from pyspark.ml.linalg import DenseMatrix, DenseVector, Vectors
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_breast_cancer, load_iris

from sparknn.classification import LogisticRegression
from sparknn.errors import InvalidParamError


@pytest.fixture(scope="module")
def cancer(spark: SparkSession) -> DataFrame:
    features, labels = load_breast_cancer(return_X_y=True)
    return weighted(spark, features[:, [0, 1, 4, 8, 9]], labels)


@pytest.fixture(scope="module")
def iris(spark: SparkSession) -> DataFrame:
    return weighted(spark, *load_iris(return_X_y=True))


@pytest.fixture
def data(request: pytest.FixtureRequest) -> DataFrame:
    """The data set that a test names."""
    return request.getfixturevalue(request.param)


def weighted(spark: SparkSession, features: np.ndarray, labels: np.ndarray) -> DataFrame:
    """Return rows of unequal classes, with weights and a constant column."""
    features = features[7:-13]
    features = np.hstack([features, np.full((len(features), 1), 2.5)])
    weights = np.random.default_rng(2).random(len(features)).round(3)
    rows = [
        (Vectors.dense(x), float(y), float(w))
        for x, y, w in zip(features, labels[7:-13], weights, strict=True)
    ]
    return (
        spark.createDataFrame(spark.sparkContext.parallelize(rows, 1))
        .toDF("features", "label", "weight")
        .cache()
    )


def assert_same(ours, theirs, data: DataFrame) -> None:
    assert ours.summary.objectiveHistory[-1] == pytest.approx(
        theirs.summary.objectiveHistory[-1], rel=1e-6
    )
    expected, got = theirs.coefficientMatrix.toArray(), ours.coefficientMatrix.toArray()
    scale = np.array([row.features.toArray() for row in data.select("features").collect()]).std(0)
    largest = np.abs(expected * scale).max()
    assert np.abs((got - expected) * scale).max() <= 1e-3 * largest
    small = np.abs(expected * scale) < 1e-4 * largest
    np.testing.assert_array_equal((got == 0) | small, (expected == 0) | small)
    np.testing.assert_allclose(
        ours.interceptVector.toArray(),
        theirs.interceptVector.toArray(),
        atol=1e-3 * max(1, np.abs(theirs.interceptVector.toArray()).max()),
    )


TIGHT = {"maxIter": 300, "tol": 1e-9}
NETS = [
    ("cancer", {"regParam": 0.1, "elasticNetParam": 0.3, "standardization": False}),
    ("iris", {"regParam": 0.1, "elasticNetParam": 0.5, "weightCol": "weight"}),
]
BOTH = pytest.mark.parametrize("data", ["cancer", "iris"], indirect=True)


@pytest.mark.parametrize(("data", "params"), NETS, indirect=["data"], ids=str)
def test_the_optimum_and_its_zeros_are_mllibs(data: DataFrame, params: dict) -> None:
    theirs = mllib.LogisticRegression(**TIGHT, **params).fit(data)
    ours = LogisticRegression(**TIGHT, **params).fit(data)
    assert_same(ours, theirs, data)


@BOTH
def test_a_strong_l1_penalty_leaves_no_coefficient(data: DataFrame) -> None:
    model = LogisticRegression(regParam=10.0, elasticNetParam=1.0).fit(data)
    assert not model.coefficientMatrix.toArray().any()
    assert model.summary.objectiveHistory == pytest.approx(
        mllib.LogisticRegression(regParam=10.0, elasticNetParam=1.0)
        .fit(data)
        .summary.objectiveHistory,
        rel=1e-6,
    )


def bounds(data: DataFrame, kind: str) -> dict:
    classes = data.select("label").distinct().count()
    units, features = (1 if classes == 2 else classes), len(data.first().features)
    if kind == "nonnegative":
        return {"lowerBoundsOnCoefficients": DenseMatrix(units, features, [0.0] * units * features)}
    if kind == "box":
        limit = [0.5] * units * features
        return {
            "lowerBoundsOnCoefficients": DenseMatrix(units, features, [-v for v in limit]),
            "upperBoundsOnCoefficients": DenseMatrix(units, features, limit),
        }
    return {
        "upperBoundsOnIntercepts": DenseVector([0.25] * units),
        "upperBoundsOnCoefficients": DenseMatrix(units, features, [1.0] * units * features),
    }


UNSCALED = {"weightCol": "weight", "standardization": False}


@pytest.mark.parametrize(
    ("data", "kind", "more"),
    [
        ("cancer", "nonnegative", UNSCALED),
        ("iris", "intercepts", {}),
    ],
    indirect=["data"],
    ids=str,
)
def test_the_bounded_optimum_is_mllibs(data: DataFrame, kind: str, more: dict) -> None:
    params = {"regParam": 0.1, **bounds(data, kind), **more, **TIGHT}
    theirs = mllib.LogisticRegression(**params).fit(data)
    ours = LogisticRegression(**params).fit(data)
    assert_same(ours, theirs, data)
    for name, value in bounds(data, kind).items():
        low = name.startswith("lower")
        got = ours.coefficientMatrix if "Coefficients" in name else ours.interceptVector
        gap = got.toArray() - value.toArray()
        assert (gap >= 0).all() if low else (gap <= 0).all()


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"elasticNetParam": 1.5}, r"elasticNetParam must be in \[0, 1\]"),
        ({"elasticNetParam": 0.5, "regParam": 0.1, "box": True}, "elasticNetParam must be 0"),
        ({"solver": "sgd", "box": True}, "solver must be 'l-bfgs'"),
        ({"lowerBoundsOnCoefficients": DenseMatrix(2, 2, [0.0] * 4)}, r"is \(2, 2\), and must be"),
        (
            {"lowerBoundsOnIntercepts": DenseVector([0.0]), "fitIntercept": False},
            "fitIntercept must be True",
        ),
    ],
    ids=str,
)
def test_bounds_and_penalties_that_do_not_fit_are_refused(
    cancer: DataFrame, params: dict, complaint: str
) -> None:
    params = dict(params)
    if params.pop("box", False):
        params |= bounds(cancer, "box")
    with pytest.raises(InvalidParamError, match=complaint):
        LogisticRegression(**params).fit(cancer)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_single_class_is_fitted_within_bounds(spark: SparkSession, label: float) -> None:
    rows = [(Vectors.dense(1.0, 2.0), label), (Vectors.dense(3.0, 5.0), label)]
    data = spark.createDataFrame(rows, ["features", "label"])
    limit = DenseMatrix(1, 2, [0.25, 0.25])
    for bounded in (
        {"upperBoundsOnCoefficients": limit},
        {"upperBoundsOnIntercepts": DenseVector([0.5]), "upperBoundsOnCoefficients": limit},
    ):
        model = LogisticRegression(**bounded).fit(data)
        assert np.isfinite(model.interceptVector.toArray()).all()
        assert (model.coefficients.toArray() <= 0.25).all()
        assert [row.prediction for row in model.transform(data).collect()] == [label, label]


def test_bounds_survive_saving(iris: DataFrame, tmp_path) -> None:
    estimator = LogisticRegression(**bounds(iris, "box"))
    estimator.save(str(tmp_path / "estimator"))
    loaded = LogisticRegression.load(str(tmp_path / "estimator"))
    for name in ("lowerBoundsOnCoefficients", "upperBoundsOnCoefficients"):
        np.testing.assert_array_equal(
            loaded.getOrDefault(name).toArray(), estimator.getOrDefault(name).toArray()
        )


@pytest.mark.parametrize("data", ["iris"], indirect=True)
def test_sgd_comes_close_to_an_elastic_nets_optimum(data: DataFrame) -> None:
    net = {"regParam": 0.05, "elasticNetParam": 0.5}
    best = LogisticRegression(**net, **TIGHT).fit(data).summary.objectiveHistory[-1]
    sgd = LogisticRegression(
        **net, solver="sgd", stepSize=0.1, maxIter=40, blockSize=8, stepSizeSchedule="linear", tol=0
    ).fit(data)
    assert sgd.summary.objectiveHistory[-1] == pytest.approx(best, rel=0.05)


@pytest.mark.parametrize("data", ["cancer"], indirect=True)
def test_a_warm_start_at_the_optimum_has_nothing_left_to_do(data: DataFrame) -> None:
    params = {"regParam": 0.05, **TIGHT}
    cold = LogisticRegression(**params).fit(data)
    weights = np.concatenate(
        [cold.coefficientMatrix.toArray().ravel(), cold.interceptVector.toArray()]
    )
    warm = LogisticRegression(**params, initialWeights=Vectors.dense(weights)).fit(data)
    assert warm.summary.totalIterations <= 3 < cold.summary.totalIterations
    with pytest.raises(InvalidParamError, match="initialWeights holds 2 values"):
        LogisticRegression(initialWeights=Vectors.dense([1.0, 2.0])).fit(data)
