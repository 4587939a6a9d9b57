"""Full-batch solvers: optima and cost as SciPy's, Breeze's stopping rules, plain data."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize
from solver_problems import logistic, quadratic, rosenbrock, solved
from threadpoolctl import threadpool_limits

from sparknn.solvers import LBFGS, GradientDescent

PROBLEMS = {
    "rosenbrock-2": (rosenbrock, np.array([-1.2, 1.0])),
    "rosenbrock-20": (rosenbrock, np.tile([-1.2, 1.0], 10)),
    "ill-conditioned quadratic": (quadratic, np.zeros(20)),
    "logistic": (logistic, np.zeros(12)),
}


@pytest.fixture(params=list(PROBLEMS))
def problem(request):
    return PROBLEMS[request.param]


def test_lbfgs_reaches_the_optimum_that_scipy_reaches(problem):
    function, start = problem
    exact = minimize(function, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    solver = LBFGS(start, max_iter=2000, tol=0.0)
    solved(solver, function)
    assert solver.history[-1] == pytest.approx(exact.fun, rel=1e-10, abs=1e-12)
    np.testing.assert_allclose(solver.x, exact.x, rtol=1e-5, atol=1e-6)
    assert function(solver.x)[0] == solver.history[-1]


def test_lbfgs_needs_about_as_many_evaluations_as_scipy(problem):
    function, start = problem
    options = {"maxcor": 10, "ftol": 1e-14, "gtol": 1e-10, "maxiter": 2000, "maxfun": 5000}
    # Its tiny products are far slower with several threads where others use the cores too.
    with threadpool_limits(1):
        peer = minimize(function, start, jac=True, method="L-BFGS-B", options=options)
    solver = LBFGS(start, max_iter=2000, tol=1e-14)
    evaluations = solved(solver, function)
    assert solver.history[-1] == pytest.approx(peer.fun, rel=1e-8, abs=1e-9)
    assert evaluations <= 2 * peer.nfev + 20


def test_lbfgs_history_falls_and_has_the_start_and_every_iteration(problem):
    function, start = problem
    solver = LBFGS(start, max_iter=500, tol=1e-10)
    solved(solver, function)
    assert solver.history[0] == function(start)[0]
    assert len(solver.history) == solver.iterations + 1 > 5
    assert (np.diff(solver.history) <= 0).all()


def test_lbfgs_leaves_its_start_as_it_is():
    start = np.array([-1.2, 1.0])
    solved(LBFGS(start), rosenbrock)
    np.testing.assert_array_equal(start, [-1.2, 1.0])


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_lbfgs_takes_gradients_from_one_array_that_is_written_anew():
    buffer = np.empty(12)

    def function(x):
        value, buffer[:] = logistic(x)
        return value, buffer

    solver, same = LBFGS(np.zeros(12)), LBFGS(np.zeros(12))
    solved(solver, logistic)
    solved(same, function)
    assert same.history == solver.history


def test_lbfgs_takes_float32_gradients():
    solver = LBFGS(np.zeros(12, np.float32), tol=1e-4)
    solved(solver, lambda x: (logistic(x)[0], logistic(x)[1].astype(np.float32)))
    assert solver.x.dtype == np.float64
    assert solver.history[-1] == pytest.approx(
        minimize(logistic, np.zeros(12), jac=True).fun, rel=1e-3
    )


@pytest.mark.parametrize("solver", [LBFGS, lambda x, most: LBFGS(x, most, memory=1)])
@pytest.mark.parametrize("most", [1, 2, 7])
def test_lbfgs_stops_after_max_iter(solver, most):
    one = solver(np.array([-1.2, 1.0]), most)
    solved(one, rosenbrock)
    assert one.reason == "max iterations reached"
    assert one.iterations == most and len(one.history) == most + 1


def test_no_iterations_return_the_start():
    start = np.array([-1.2, 1.0])
    solver = LBFGS(start, max_iter=0)
    assert solved(solver, rosenbrock) == 1
    np.testing.assert_array_equal(solver.x, start)
    assert solver.history == [rosenbrock(start)[0]] and solver.iterations == 0
    descent = GradientDescent(start, 0.1, max_iter=0, tol=1e-6)
    assert solved(descent, rosenbrock) == 0
    np.testing.assert_array_equal(descent.x, start)
    assert descent.iterations == 0


def test_lbfgs_stops_at_once_where_the_gradient_is_zero():
    solver = LBFGS(np.ones(5))
    assert solved(solver, rosenbrock) == 1
    assert solver.reason == "gradient converged" and solver.iterations == 0


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_tol_ends_at_the_first_iteration_whose_value_nears_the_largest_of_the_last_20(tol):
    # The value 1 added keeps the gradient's test, which is relative to it, from interfering.
    solver = LBFGS(np.zeros(20), max_iter=2000, tol=tol)
    solved(solver, quadratic)
    history = solver.history
    assert solver.reason == "function values converged"

    def near(iteration):
        recent = history[iteration - 19 : iteration + 1]
        return max(recent) - history[iteration] <= tol * history[0]

    assert solver.iterations >= 20 and near(solver.iterations)
    assert not any(near(iteration) for iteration in range(20, solver.iterations))


def test_value_test_does_not_end_a_fit_within_its_first_20_iterations():
    # In these units the gradient is long against the value, so that its test cannot end the fit.
    def function(x):
        value, gradient = rosenbrock(1e4 * x)
        return value, 1e4 * gradient

    solver = LBFGS(np.tile([-1.2e-4, 1e-4], 10), max_iter=2000, tol=0.9)
    solved(solver, function)
    assert solver.reason == "function values converged" and solver.iterations == 20


@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-6])
def test_tol_ends_where_the_gradient_is_short_against_the_value(tol):
    solver = LBFGS(np.ones(5), max_iter=2000, tol=tol)
    curvature = np.arange(1.0, 6.0)
    lengths = {}

    def function(x):
        value, gradient = 1 + 0.5 * float(x @ (curvature * x)), curvature * x
        lengths[value] = np.linalg.norm(gradient)
        return value, gradient

    solved(solver, function)
    assert solver.reason == "gradient converged"
    *before, last = solver.history
    assert lengths[last] <= tol * last
    assert all(lengths[value] > tol * value for value in before)


def test_a_smaller_tol_never_ends_earlier():
    iterations = []
    for tol in (1e-1, 1e-3, 1e-6, 1e-9):
        solver = LBFGS(np.zeros(20), max_iter=2000, tol=tol)
        solved(solver, quadratic)
        iterations.append(solver.iterations)
    assert iterations == sorted(iterations) and iterations[0] < iterations[-1]


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_lbfgs_survives_values_that_are_not_finite_in_its_line_search(bad):
    met = []

    def function(x):
        # The minimum of 5 sum(x) + sum(log(1 - x)), negated, lies in its domain at 0.8.
        if (x >= 1).any():
            met.append(x)
            return bad, np.full(4, math.nan)
        return float(-np.log(1 - x).sum() - 5 * x.sum()), 1 / (1 - x) - 5

    start = np.array([0.0, 0.3, -3.0, 0.9])
    solver = LBFGS(start, tol=1e-10)
    solved(solver, function)
    assert met
    np.testing.assert_allclose(solver.x, 0.8, rtol=1e-5)
    assert np.isfinite(solver.history).all() and (np.diff(solver.history) <= 0).all()


def test_lbfgs_survives_a_value_that_is_not_finite_between_two_that_are():
    trials = []

    def function(x):
        trials.append(x[0])
        # The first step, of length 1, is too long, and the next ones lead into the gap.
        if 0.06 < x[0] < 0.5:
            return math.nan, np.full(1, math.nan)
        return -x[0] + x[0] ** 2 / 0.06, -1 + 2 * x / 0.06

    solver = LBFGS(np.zeros(1), tol=1e-12)
    solved(solver, function)
    assert trials[1] == 1.0 and 0.06 < trials[2] < 0.5
    assert solver.x[0] == pytest.approx(0.03, rel=1e-6)


def test_a_start_that_is_not_finite_ends_with_that_reason():
    solver = LBFGS(np.zeros(2))
    solver.tell(math.nan, np.full(2, math.nan))
    assert solver.reason == "not finite"
    np.testing.assert_array_equal(solver.x, [0, 0])


@pytest.mark.parametrize("sign", [1, 0])
def test_a_gradient_that_is_wrong_ends_with_a_failed_line_search_at_the_best_point(sign):
    solver = LBFGS(np.ones(3))
    # It points uphill, or claims a slope where the function is flat.
    evaluations = solved(solver, lambda x: (1 - sign * float(x @ x), 2 * x), most=100)
    assert solver.reason == "line search failed"
    np.testing.assert_array_equal(solver.x, 1)
    np.testing.assert_array_equal(solver.point, solver.x)
    assert solver.iterations == 0 and evaluations > 2


def test_lbfgs_gives_up_its_curvature_once_before_it_gives_up():
    solver, after = LBFGS(np.tile([-1.2, 1.0], 3), max_iter=500, tol=0.0), None
    asked = 0
    while not solver.done and asked < 2000:
        asked += 1
        value, gradient = rosenbrock(solver.point)
        # For one whole search the function is out of reach, as after a lost block; then it is well.
        if solver.iterations == 5 and after is None:
            value = math.inf
        solver.tell(value, gradient)
        if after is None and solver.iterations == 5 and not solver.pairs:
            after = solver.iterations
    assert after == 5
    assert solver.history[-1] < 1e-10 and solver.reason == "gradient converged"


@pytest.mark.parametrize("between", [0, 1, 2, 3, 10, 17, 40])
def test_a_pickled_lbfgs_continues_with_the_same_bits(between):
    start = np.tile([-1.2, 1.0], 5)
    whole, part = LBFGS(start, tol=1e-12), LBFGS(start, tol=1e-12)
    solved(whole, rosenbrock)
    for _ in range(between):
        part.tell(*rosenbrock(part.point))
    continued = pickle.loads(pickle.dumps(part))
    solved(continued, rosenbrock)
    assert continued.history == whole.history and continued.reason == whole.reason
    np.testing.assert_array_equal(continued.x, whole.x)


def test_a_lbfgs_pickled_between_any_two_tells_continues_with_the_same_bits():
    whole, moved = LBFGS(np.array([-1.2, 1.0])), LBFGS(np.array([-1.2, 1.0]))
    solved(whole, rosenbrock)
    while not moved.done:
        moved = pickle.loads(pickle.dumps(moved))
        moved.tell(*rosenbrock(moved.point))
    assert moved.history == whole.history
    np.testing.assert_array_equal(moved.x, whole.x)


def coarse(function):
    """Return a function as float32 products give it: right to about four places."""

    def rounded(x):
        value, gradient = function(x)
        return value * (1 + 3e-5), gradient + 1e-4 * np.sin(1e3 * np.arange(len(x)))

    return rounded


def test_refresh_goes_on_from_the_point_reached_to_the_precise_optimum():
    exact = minimize(logistic, np.zeros(12), jac=True, options={"gtol": 1e-10})
    solver = LBFGS(np.zeros(12), tol=1e-12)
    rough = coarse(logistic)
    while not solver.settled(1e-4):
        solver.tell(*rough(solver.point))
    reached, length = solver.x.copy(), len(solver.history)
    assert solver.iterations > 2
    solver.refresh(*logistic(solver.x))
    np.testing.assert_array_equal(solver.x, reached)
    assert len(solver.history) == length and solver.history[-1] == logistic(reached)[0]
    solved(solver, logistic)
    assert solver.history[-1] == pytest.approx(exact.fun, rel=1e-12)
    assert len(solver.history) == solver.iterations + 1


def test_refresh_revives_a_solver_that_ended_by_coarse_values():
    solver = LBFGS(np.zeros(12), tol=1e-12)
    # A gradient this wrong must end in a failed search, near the optimum.
    rough = coarse(logistic)
    solved(solver, rough)
    assert solver.iterations > 5
    solver.refresh(*logistic(solver.x))
    assert not solver.done
    solved(solver, logistic)
    assert solver.history[-1] == pytest.approx(
        minimize(logistic, np.zeros(12), jac=True, options={"gtol": 1e-10}).fun, rel=1e-12
    )


@pytest.mark.parametrize("value", [math.inf, 7.0])
def test_refresh_revives_a_solver_that_ended_before_its_first_iteration(value):
    solver = LBFGS(np.array([-1.2, 1.0]))
    solver.tell(value, np.zeros(2))
    assert solver.done and solver.iterations == 0
    solver.refresh(*rosenbrock(solver.x))
    assert not solver.done


def test_refresh_at_the_optimum_ends():
    solver = LBFGS(np.zeros(12), tol=1e-8)
    solved(solver, logistic)
    iterations = solver.iterations
    solver.refresh(*logistic(solver.x))
    assert solver.done and solver.iterations == iterations


def test_settled_tells_whether_the_last_iteration_lowered_the_value_by_little():
    solver = LBFGS(np.zeros(2))
    assert not solver.settled(1.0)
    solver.history = [10.0]
    assert not solver.settled(1.0)
    solver.history = [10.0, 9.0]
    assert not solver.settled(0.05) and solver.settled(0.2)
    solver.history = [10.0, -9.0, -9.5]
    assert not solver.settled(0.05) and solver.settled(0.1)
    solver.reason = "gradient converged"
    assert solver.settled(0.0)


def test_gradient_descent_takes_steps_of_fixed_size():
    solver = GradientDescent(np.array([1.0, -2.0]), step_size=0.1, max_iter=3, tol=0.0)
    curvature = np.array([1.0, 5.0])
    x, history = np.array([1.0, -2.0]), []
    for _ in range(3):
        np.testing.assert_allclose(solver.point, x, rtol=1e-15)
        history.append(0.5 * float(x @ (curvature * x)))
        solver.tell(history[-1], curvature * solver.point)
        x = x - 0.1 * curvature * x
    np.testing.assert_allclose(solver.x, x, rtol=1e-14)
    assert solver.history == pytest.approx(history, rel=1e-14)
    assert solver.iterations == 3 and solver.reason == "max iterations reached"


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_gradient_descent_stops_when_a_step_is_short_against_the_point_or_one(offset):
    solver = GradientDescent(np.array([offset + 1.0]), step_size=0.5, max_iter=100, tol=1e-3)
    points = [solver.x[0]]
    while not solver.done:
        solver.tell(0.5 * float((solver.point[0] - offset) ** 2), solver.point - offset)
        points.append(solver.x[0])
    assert solver.reason == "solution converged"
    short = [
        abs(after - before) < 1e-3 * max(abs(after), 1.0) for before, after in pairwise(points)
    ]
    assert short[-1] and not any(short[:-1])
    assert len(solver.history) == solver.iterations == len(points) - 1


def test_a_pickled_gradient_descent_continues_with_the_same_bits():
    whole, moved = (GradientDescent(np.zeros(4), 1e-3, 30, 1e-9) for _ in range(2))
    solved(whole, rosenbrock)
    while not moved.done:
        moved = pickle.loads(pickle.dumps(moved))
        moved.tell(*rosenbrock(moved.point))
    np.testing.assert_array_equal(moved.x, whole.x)
    assert moved.history == whole.history
