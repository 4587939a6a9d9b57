"""MultilayerPerceptronRegressor against MLlib, scikit-learn and SciPy, and its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.ml.regression import LinearRegression
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from scipy.optimize import linprog, minimize

from sparknn.regression import (
    MultilayerPerceptronRegressor,
)

EXACT = {"tol": 1e-9, "maxIter": 500}


@pytest.fixture(scope="module")
def diabetes_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Features as measured, (442, 10), whose deviations differ a hundredfold; disease, (442,)."""
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True, scaled=False)


@pytest.fixture(scope="module")
def diabetes(spark: SparkSession, diabetes_arrays) -> DataFrame:
    """The same with two more targets, and weights."""
    features, disease = diabetes_arrays
    weights = np.arange(len(disease)) % 3 + 0.5
    columns = zip(features, disease, 5000 + 20 * disease + features[:, 0], weights, strict=True)
    rows = [(Vectors.dense(x), float(y), float(z), float(w)) for x, y, z, w in columns]
    data = spark.createDataFrame(rows, ["features", "label", "cost", "weight"])
    return data.coalesce(2).cache()


def assert_near(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Up to `tolerance` of the largest coefficient."""
    largest = np.abs(expected[:-1]).max()
    assert np.abs(found[:-1] - expected[:-1]).max() <= tolerance * largest
    assert found[-1] == pytest.approx(expected[-1], rel=10 * tolerance)


@pytest.mark.parametrize("weight", [None, "weight"])
def test_without_hidden_layers_it_is_mllibs_linear_regression(diabetes: DataFrame, weight) -> None:
    given = {} if weight is None else {"weightCol": weight}
    theirs = LinearRegression(solver="normal", **EXACT, **given).fit(diabetes)
    ours = MultilayerPerceptronRegressor(layers=[10, 1], **EXACT, **given).fit(diabetes)
    expected = np.append(theirs.coefficients.toArray(), theirs.intercept)
    assert_near(ours.weights.toArray(), expected, 1e-5)
    row = diabetes.first()
    assert ours.predict(row.features) == pytest.approx(theirs.predict(row.features), rel=1e-6)
    summary, model = ours.evaluate(diabetes), theirs.evaluate(diabetes)
    names = ["rootMeanSquaredError", "meanSquaredError", "meanAbsoluteError"]
    if weight is None:
        # Of weighted rows MLlib's sums of squares are not quite those.
        names += ["r2", "explainedVariance"]
    for name in names:
        assert getattr(summary, name) == pytest.approx(getattr(model, name), rel=1e-5), name
    assert summary.numInstances == model.numInstances == 442


@pytest.mark.parametrize(
    ("mix", "strength", "deviation"), [(0.0, 3.0, F.stddev_pop), (1.0, 100.0, F.stddev)]
)
def test_the_penalty_is_mllibs_on_columns_as_they_are(diabetes, mix, strength, deviation) -> None:
    """MLlib's exact solver scales the target by its deviation as a population, ours as a sample.

    That leaves an L2 penalty as it is but for regParam's own scale, and is in an L1 penalty's.
    """
    spread = diabetes.agg(deviation("label")).first()[0]
    theirs = LinearRegression(
        solver="normal", regParam=strength, elasticNetParam=mix, standardization=False, **EXACT
    ).fit(diabetes)
    ours = MultilayerPerceptronRegressor(
        layers=[10, 1], regParam=strength / spread, elasticNetParam=mix, **EXACT
    ).fit(diabetes)
    expected = np.append(theirs.coefficients.toArray(), theirs.intercept)
    assert_near(ours.weights.toArray(), expected, 1e-4)


def test_huber_and_absolute_losses_reach_their_optimum(diabetes: DataFrame, diabetes_arrays):
    features, disease = diabetes_arrays
    scaled = (features - features.mean(axis=0)) / features.std(axis=0, ddof=1)
    target = (disease - disease.mean()) / disease.std(ddof=1)
    inputs = np.column_stack([scaled, np.ones(len(target))])

    def huber(theta: np.ndarray) -> float:
        errors = np.abs(inputs @ theta - target)
        return np.where(errors < 1.35, errors**2 / 2, 1.35 * (errors - 1.35 / 2)).mean()

    best = minimize(huber, np.zeros(11), method="BFGS", options={"gtol": 1e-9})
    model = MultilayerPerceptronRegressor(layers=[10, 1], loss="huber", **EXACT).fit(diabetes)
    predicted = (model._predictor()(features).value - disease.mean()) / disease.std(ddof=1)
    assert predicted == pytest.approx(inputs @ best.x, abs=1e-4)

    # Quantile regression as a linear programme: errors above and below the plane.
    rows, width = inputs.shape
    costs = np.concatenate([np.zeros(width), np.ones(2 * rows)])
    equal = np.hstack([inputs, np.eye(rows), -np.eye(rows)])
    bounds = [(None, None)] * width + [(0, None)] * (2 * rows)
    least = linprog(costs, A_eq=equal, b_eq=target, bounds=bounds).fun / rows
    model = MultilayerPerceptronRegressor(layers=[10, 1], loss="absolute", maxIter=60).fit(diabetes)
    error = np.abs(model._predictor()(features).value - disease).mean() / disease.std(ddof=1)
    assert error == pytest.approx(least, rel=2e-3)


def friedman(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_friedman1

    features, target = make_friedman1(rows, noise=1.0, random_state=seed)
    return (features - 0.5) * np.sqrt(12), 250_000 + 4000 * target


def frame(spark: SparkSession, features: np.ndarray, target: np.ndarray) -> DataFrame:
    rows = [(Vectors.dense(x), float(y)) for x, y in zip(features, target, strict=True)]
    return spark.createDataFrame(rows, ["features", "label"]).coalesce(2).cache()


def test_defaults_learn_targets_in_the_thousands(spark: SparkSession) -> None:
    """As well as scikit-learn's network of the same size, for which targets are scaled by hand."""
    from sklearn.neural_network import MLPRegressor

    features, target = friedman(1500, 0)
    fresh, expected = friedman(1000, 1)
    estimator = MultilayerPerceptronRegressor(layers=[10, 30, 1])
    model = estimator.fit(frame(spark, features, target))
    ours = model.evaluate(frame(spark, fresh, expected)).r2
    scores = []
    for seed in range(3):
        theirs = MLPRegressor(
            hidden_layer_sizes=[30], solver="lbfgs", random_state=seed, max_iter=100
        )
        theirs.fit(features, (target - target.mean()) / target.std())
        scores.append(theirs.score(fresh, (expected - target.mean()) / target.std()))
    assert ours > min(scores) - 0.01


def test_sparse_and_constant_columns_give_mllibs_linear_regression(spark: SparkSession) -> None:
    random = np.random.default_rng(2)
    features = random.standard_normal((400, 80)) * (random.random((400, 80)) < 0.03)
    features[:, 7] = 0.5
    target = 100 + features @ random.standard_normal(80) + random.normal(0, 0.1, 400)
    rows = [
        (Vectors.sparse(80, [(int(j), float(x[j])) for j in np.flatnonzero(x)]), float(y))
        for x, y in zip(features, target, strict=True)
    ]
    data = spark.createDataFrame(rows, ["features", "label"]).coalesce(2).cache()
    theirs = LinearRegression(solver="normal", **EXACT).fit(data)
    ours = MultilayerPerceptronRegressor(layers=[80, 1], **EXACT).fit(data)
    expected = np.append(theirs.coefficients.toArray(), theirs.intercept)
    assert_near(ours.weights.toArray(), expected, 1e-4)
    assert ours.weights[7] == 0
