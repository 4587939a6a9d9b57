"""OWL-QN and bounded L-BFGS take MLlib's iterations: the same histories on the same problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from pyspark.ml.linalg import DenseMatrix, Vectors
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_breast_cancer, load_iris
from solver_problems import solved

from sparknn.linear import LinearObjective
from sparknn.objective import Rows
from sparknn.solvers import OWLQN, ProjectedLBFGS

COLUMNS = 6


@pytest.fixture(scope="module", params=["cancer", "iris"])
def problem(request: pytest.FixtureRequest, spark: SparkSession) -> tuple[DataFrame, Rows]:
    load = load_breast_cancer if request.param == "cancer" else load_iris
    features, labels = load(return_X_y=True)
    # Of unequal classes: with equal ones rounding alone says which way the first step leads.
    features, labels = features[7:-13, :COLUMNS], labels[7:-13]
    rows = [(Vectors.dense(x), float(y)) for x, y in zip(features, labels, strict=True)]
    data = spark.createDataFrame(spark.sparkContext.parallelize(rows, 1), ["features", "label"])
    return data.cache(), Rows(features, labels[:, np.newaxis].astype(np.float64))


class Ours:
    """MLlib's logistic regression of the same rows, without a cluster."""

    def __init__(self, rows: Rows, params: dict[str, Any], centred: bool = True):
        counts = np.bincount(rows.targets[:, 0].astype(int))
        self.units = len(counts) if len(counts) > 2 else 1
        deviation = rows.features.std(axis=0, ddof=1)
        self.centre = rows.features.mean(axis=0) * centred
        self.objective = LinearObjective(self.centre, deviation, self.units, True)
        strength, mix = params["regParam"], params.get("elasticNetParam", 0.0)
        scaled = params.get("standardization", True)
        self.rows = rows
        self.l2 = self.objective.penalty((1 - mix) * strength, deviation, scaled)
        self.l1 = self.objective.l1(mix * strength, deviation, scaled)
        self.start = np.zeros(self.objective.size)
        if self.units == 1:
            self.start[-1] = np.log(counts[1] / counts[0])
        else:
            logs = np.log1p(counts)
            self.start[-self.units :] = logs - logs.mean()

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        gradient = np.empty(self.objective.size)
        value, _ = self.objective.gradient(theta, self.rows, gradient)
        self.l2.add_gradient(theta, gradient)
        return value + self.l2.value(theta), gradient


L1_CASES = [
    {"regParam": 0.02, "elasticNetParam": 1.0, "standardization": False},
    {"regParam": 0.001, "elasticNetParam": 0.9, "maxIter": 30},
]


@pytest.mark.parametrize("params", L1_CASES, ids=str)
def test_owlqn_has_mllibs_history_and_zeros(problem: tuple, params: dict[str, Any]) -> None:
    data, rows = problem
    theirs = mllib.LogisticRegression(**params).fit(data)
    ours = Ours(rows, params)
    solver = OWLQN(ours.start, ours.l1, params.get("maxIter", 100), params.get("tol", 1e-6))
    solved(solver, ours)
    expected = theirs.summary.objectiveHistory
    assert len(solver.history) == len(expected)
    assert solver.history == pytest.approx(expected, rel=1e-6)
    weights, _ = ours.objective.raw(solver.x)
    coefficients = theirs.coefficientMatrix.toArray()
    np.testing.assert_array_equal(weights.T == 0, coefficients == 0)
    np.testing.assert_allclose(weights.T, coefficients, atol=1e-4 * np.abs(coefficients).max())


def bounded(
    data: DataFrame, ours: Ours, weights: tuple, intercepts: tuple | None, **params: Any
) -> tuple[mllib.LogisticRegressionModel, ProjectedLBFGS]:
    """Return MLlib's fit and ours within bounds on raw weights and intercepts."""
    estimator = mllib.LogisticRegression(**params)
    lower, upper = (np.full((ours.units, ours.rows.features.shape[1]), each) for each in weights)
    estimator.setLowerBoundsOnCoefficients(DenseMatrix(*lower.shape, lower.ravel("F")))
    estimator.setUpperBoundsOnCoefficients(DenseMatrix(*upper.shape, upper.ravel("F")))
    within = (np.full(ours.units, each) for each in intercepts or (-np.inf, np.inf))
    lowest, highest = within
    if intercepts:
        estimator.setLowerBoundsOnIntercepts(Vectors.dense(lowest))
        estimator.setUpperBoundsOnIntercepts(Vectors.dense(highest))
    low, high = ours.objective.bounds(lower.T, lowest), ours.objective.bounds(upper.T, highest)
    start = np.clip(ours.start, low, high)
    if intercepts is None:
        shift = ours.objective.inverse_scale * ours.centre
        flat = start[: -ours.units].reshape(-1, ours.units)
        start[-ours.units :] += shift @ flat
    solver = ProjectedLBFGS(start, low, high, params["maxIter"], params["tol"])
    solved(solver, ours)
    return estimator.fit(data), solver


@pytest.mark.parametrize(
    ("weights", "intercepts"),
    [((0.0, np.inf), None), ((-0.05, 0.1), (-0.4, 0.3))],
    ids=["free intercepts", "bounded"],
)
def test_bounded_fits_have_mllibs_history_and_optimum(
    problem: tuple, weights: tuple, intercepts: tuple | None
) -> None:
    data, rows = problem
    params = {"regParam": 0.01, "maxIter": 100, "tol": 1e-6}
    ours = Ours(rows, params, centred=intercepts is None)
    theirs, solver = bounded(data, ours, weights, intercepts, **params)
    history = theirs.summary.objectiveHistory
    assert len(solver.history) == len(history)
    assert solver.history == pytest.approx(history, rel=1e-6)
    raw, biases = ours.objective.raw(solver.x)
    coefficients = theirs.coefficientMatrix.toArray()
    scale = rows.features.std(axis=0)
    difference = np.abs((raw.T - coefficients) * scale).max()
    assert difference <= 1e-3 * np.abs(coefficients * scale).max()
    assert (raw >= weights[0] - 1e-12).all() and (raw <= weights[1] + 1e-12).all()
    if intercepts:
        assert (biases >= intercepts[0]).all() and (biases <= intercepts[1]).all()
