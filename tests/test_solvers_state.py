"""Solvers saved and restored at any moment go on with the same bits; and can be stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
from solver_problems import bounded_problem, logistic, rosenbrock, solved

from sparknn.solvers import LBFGS, OWLQN, ConjugateGradient, GradientDescent, ProjectedLBFGS

BOUNDED, START, LOWER, UPPER = bounded_problem(3)


def holed(x):
    """Rosenbrock's function, out of reach where a first step leads."""
    value, gradient = rosenbrock(x)
    return (value, gradient) if np.abs(x).max() < 1.25 else (np.inf, np.full(len(x), np.nan))


VALLEY = np.tile([-1.2, 1.0], 3)
SOLVERS = {
    "gradient descent": (lambda: GradientDescent(np.zeros(12), 0.05, 40, 1e-9), logistic),
    "lbfgs": (lambda: LBFGS(VALLEY, 60, 1e-12, memory=4), rosenbrock),
    "lbfgs with holes": (lambda: LBFGS(VALLEY, 60, 1e-12), holed),
    "owlqn": (lambda: OWLQN(VALLEY, np.full(6, 0.1), 60, 1e-12, memory=4), rosenbrock),
    "projected": (lambda: ProjectedLBFGS(START, LOWER, UPPER, 60, 1e-12, memory=4), BOUNDED),
    "conjugate": (lambda: ConjugateGradient(VALLEY, 60, 1e-12), rosenbrock),
    "conjugate with holes": (lambda: ConjugateGradient(VALLEY, 60, 1e-12), holed),
}


@pytest.fixture(params=list(SOLVERS))
def case(request):
    return SOLVERS[request.param]


def moved(solver, make):
    """Return a fresh solver in the state of another, which went through JSON and bytes."""
    arrays, facts = solver.state()
    fresh = make()
    copies = {name: np.frombuffer(a.tobytes()).reshape(a.shape) for name, a in arrays.items()}
    fresh.restore(copies, json.loads(json.dumps(facts, allow_nan=False)))
    return fresh


def test_a_solver_restored_after_every_tell_asks_for_the_same_points(case):
    make, function = case
    whole, part = make(), moved(make(), make)
    tells = 0
    while not whole.done:
        np.testing.assert_array_equal(part.point, whole.point)
        whole.tell(*function(whole.point))
        part.tell(*function(part.point))
        part = moved(part, make)
        tells += 1
    assert tells > 10 and whole.iterations > 5
    assert part.history == whole.history and part.reason == whole.reason
    assert part.iterations == whole.iterations and part.gradient_norm == whole.gradient_norm
    np.testing.assert_array_equal(part.x, whole.x)


def test_a_saved_state_does_not_change_as_the_solver_goes_on(case):
    make, function = case
    solver = make()
    for _ in range(9):
        solver.tell(*function(solver.point))
    arrays, _ = solver.state()
    kept = {name: array.copy() for name, array in arrays.items()}
    solved(solver, function)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, kept[name])


def test_a_stopped_solver_is_done_where_it_was_best_and_stays_so(case):
    make, function = case
    solver = make()
    for _ in range(8):
        solver.tell(*function(solver.point))
    solver.stop("held-out loss rises")
    assert solver.done and solver.reason == "held-out loss rises"
    np.testing.assert_array_equal(solver.point, solver.x)
    restored = moved(solver, make)
    assert restored.done and restored.stopped
    if not isinstance(solver, GradientDescent):
        solver.refresh(*function(solver.x))
        assert solver.reason == "held-out loss rises"


REFRESHED = {
    "owlqn": lambda: OWLQN(np.zeros(12), np.full(12, 0.01), 1000, 1e-12),
    "projected": lambda: ProjectedLBFGS(
        np.zeros(12), np.full(12, -0.3), np.full(12, 0.3), 1000, 1e-12
    ),
    "conjugate": lambda: ConjugateGradient(np.zeros(12), 1000, 1e-12),
}


@pytest.mark.parametrize("name", REFRESHED)
def test_refresh_goes_on_from_the_point_reached_to_the_precise_optimum(name):
    make, function = REFRESHED[name], logistic

    def coarse(x):
        value, gradient = function(x)
        return value * (1 + 3e-5), gradient + 1e-4 * np.sin(1e3 * np.arange(len(x)))

    exact, solver = make(), make()
    solved(exact, function)
    while not solver.settled(1e-3):
        solver.tell(*coarse(solver.point))
    reached, length = solver.x.copy(), len(solver.history)
    before = solver.history[-1]
    solver.refresh(*function(solver.x))
    np.testing.assert_array_equal(solver.x, reached)
    assert len(solver.history) == length and solver.history[-1] < before
    solved(solver, function)
    assert solver.history[-1] == pytest.approx(exact.history[-1], rel=1e-9)


def test_gradient_norm_is_what_is_left_at_a_kink_or_a_bound():
    kink = OWLQN(np.array([0.0, 2.0]), np.array([1.0, 0.5]))
    assert kink.gradient_norm == np.inf
    kink.tell(1.0, np.array([0.9, 3.0]))
    assert kink.gradient_norm == pytest.approx(3.5)
    corner = ProjectedLBFGS(np.zeros(2), np.array([0.0, -9.0]), np.full(2, np.inf))
    corner.tell(1.0, np.array([5.0, 2.0]))
    assert corner.gradient_norm == pytest.approx(2.0)
