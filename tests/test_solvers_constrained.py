"""OWL-QN, bounded L-BFGS and conjugate gradients reach the optima that SciPy reaches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from solver_problems import bounded_problem, logistic, quadratic, rosenbrock, solved

from sparknn.solvers import LBFGS, OWLQN, ConjugateGradient, ProjectedLBFGS


def split_optimum(function, strengths):
    """Return SciPy's optimum with an L1 penalty: x is up - down, both at least zero."""
    size = len(strengths)

    def doubled(z):
        value, gradient = function(z[:size] - z[size:])
        penalty = strengths @ (z[:size] + z[size:])
        return value + penalty, np.concatenate([gradient + strengths, strengths - gradient])

    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20000, "maxfun": 50000}
    bounds = [(0, None)] * (2 * size)
    found = minimize(
        doubled, np.zeros(2 * size), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return found.x[:size] - found.x[size:], found.fun


@pytest.mark.parametrize("strength", [0.003, 0.03, 0.2])
def test_owlqn_reaches_the_optimum_with_exact_zeros(strength):
    strengths = np.full(12, strength)
    strengths[-2:] = [0.0, 3 * strength]
    x, value = split_optimum(logistic, strengths)
    solver = OWLQN(np.zeros(12), strengths, max_iter=2000, tol=1e-13)
    solved(solver, logistic)
    assert solver.history[-1] == pytest.approx(value, rel=1e-8)
    np.testing.assert_allclose(solver.x, x, atol=1e-4)
    np.testing.assert_array_equal(solver.x == 0, np.abs(x) < 1e-6)
    assert (solver.x == 0).any() and solver.x[-2] != 0
    bare = logistic(solver.x)[0] + strengths @ np.abs(solver.x)
    assert solver.history[-1] == pytest.approx(bare, rel=1e-14)


def test_owlqn_without_strengths_has_the_optimum_of_lbfgs():
    plain, bare = LBFGS(np.zeros(12), tol=1e-12), OWLQN(np.zeros(12), np.zeros(12), 500, 1e-12)
    solved(plain, logistic)
    solved(bare, logistic)
    assert bare.history[-1] == pytest.approx(plain.history[-1], rel=1e-9)


def test_owlqn_ends_at_once_where_the_penalty_outweighs_every_slope():
    solver = OWLQN(np.zeros(12), np.full(12, 1e3))
    assert solved(solver, logistic) == 1
    assert solver.reason == "gradient converged" and not solver.x.any()


def test_owlqn_stops_after_max_iter():
    solver = OWLQN(np.zeros(12), np.full(12, 1e-3), max_iter=3, tol=0.0)
    solved(solver, logistic)
    assert solver.reason == "max iterations reached"
    assert solver.iterations == 3 and len(solver.history) == 4


def test_owlqn_survives_values_that_are_not_finite():
    met = []

    def function(x):
        if (x >= 1).any():
            met.append(x)
            return np.inf, np.full(3, np.nan)
        return float(-np.log(1 - x).sum() - 5 * x.sum()), 1 / (1 - x) - 5

    solver = OWLQN(np.array([0.0, -3.0, 0.9]), np.full(3, 1.0), 200, 1e-12)
    solved(solver, function)
    assert met
    np.testing.assert_allclose(solver.x, 0.75, rtol=1e-4)


@pytest.mark.parametrize("sign", [1, 0])
def test_owlqn_with_a_wrong_gradient_ends_where_it_began(sign):
    solver = OWLQN(np.ones(3), np.zeros(3))
    solved(solver, lambda x: (1 - sign * float(x @ x), -2 * x * (1 - 2 * sign)), most=200)
    assert np.isfinite(solver.history).all() and solver.reason is not None


@pytest.mark.parametrize("wrong", [np.zeros(2), np.array([1.0, -1.0, 0.0]), np.full(3, np.inf)])
def test_owlqn_refuses_strengths_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="strengths"):
        OWLQN(np.zeros(3), wrong)


@pytest.mark.parametrize("seed", range(12))
def test_projected_lbfgs_reaches_scipys_optimum_within_bounds(seed):
    function, start, lower, upper = bounded_problem(seed)
    options = {"ftol": 1e-16, "gtol": 1e-11, "maxiter": 5000, "maxfun": 20000}
    bounds = list(zip(lower, upper, strict=True))
    first = np.clip(start, lower, upper)
    exact = minimize(function, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    asked = []

    def watched(x):
        asked.append(x)
        return function(x)

    solver = ProjectedLBFGS(start, lower, upper, max_iter=1000, tol=1e-12)
    evaluations = solved(solver, watched)
    assert solver.history[-1] == pytest.approx(exact.fun, rel=1e-8)
    np.testing.assert_allclose(solver.x, exact.x, atol=1e-6)
    assert ((np.array(asked) >= lower) & (np.array(asked) <= upper)).all()
    assert solver.x[3] == 0.7 and ((solver.x == lower) | (solver.x == upper)).sum() > 1
    assert (np.diff(solver.history) <= 0).all()
    # The last searches only find that rounding leaves nothing to gain.
    assert evaluations <= 2 * exact.nfev + 2 * 20 + 20


def test_projected_lbfgs_without_bounds_reaches_the_optimum_of_lbfgs():
    free = np.full(20, np.inf)
    solver = ProjectedLBFGS(np.zeros(20), -free, free, max_iter=2000, tol=1e-12)
    solved(solver, quadratic)
    assert solver.history[-1] == pytest.approx(1.0, rel=1e-8)


def test_projected_lbfgs_ends_where_everything_is_fixed():
    solver = ProjectedLBFGS(np.zeros(12), np.full(12, 0.5), np.full(12, 0.5))
    assert solved(solver, logistic) == 1
    assert solver.reason == "projected step converged"
    np.testing.assert_array_equal(solver.x, 0.5)


@pytest.mark.parametrize(
    ("lower", "upper", "named"),
    [
        (np.zeros(2), np.ones(3), "lower has shape"),
        (np.zeros(3), np.ones(4), "upper has shape"),
        (np.array([0.0, 2.0, 0.0]), np.ones(3), "coordinate 1"),
        (np.array([0.0, 0.0, np.nan]), np.ones(3), "coordinate 2"),
    ],
)
def test_projected_lbfgs_names_a_wrong_bound(lower, upper, named):
    with pytest.raises(ValueError, match=named):
        ProjectedLBFGS(np.zeros(3), lower, upper)


PROBLEMS = {
    "rosenbrock-2": (rosenbrock, np.array([-1.2, 1.0])),
    "rosenbrock-20": (rosenbrock, np.tile([-1.2, 1.0], 10)),
    "ill-conditioned quadratic": (quadratic, np.zeros(20)),
    "logistic": (logistic, np.zeros(12)),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_conjugate_gradients_reach_scipys_optimum_at_scipys_cost(name):
    function, start = PROBLEMS[name]
    exact = minimize(function, start, jac=True, method="CG", options={"gtol": 1e-6})
    solver = ConjugateGradient(start, max_iter=5000, tol=1e-14)
    evaluations = 0
    while not solver.done:
        solver.tell(*function(solver.point))
        evaluations += 1
        if solver.gradient_norm < 1e-6:
            solver.stop("gradient small enough")
    assert solver.history[-1] == pytest.approx(exact.fun, rel=1e-8, abs=1e-9)
    np.testing.assert_allclose(solver.x, exact.x, atol=1e-4)
    assert evaluations <= 1.5 * exact.nfev
    assert len(solver.history) == solver.iterations + 1
    assert (np.diff(solver.history) <= 0).all()
