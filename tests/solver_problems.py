"""Functions for the solvers' tests, and how solvers are run on them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import rosen, rosen_der
from scipy.special import expit

__all__ = ["bounded_problem", "logistic", "quadratic", "rosenbrock", "solved"]


def rosenbrock(x):
    return float(rosen(x)), rosen_der(x)


def _quadratic():
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.normal(size=(20, 20)))
    hessian = rotation * np.logspace(0, 4, 20) @ rotation.T
    bottom = random.normal(size=20)

    def function(x):
        gradient = hessian @ (x - bottom)
        return 1 + 0.5 * float((x - bottom) @ gradient), gradient

    return function


def _logistic():
    random = np.random.default_rng(1)
    features = random.normal(size=(300, 12)) * np.logspace(-1, 1, 12)
    labels = (random.random(300) < expit(features @ random.normal(size=12))).astype(np.float64)

    def function(x):
        margins = features @ x
        value = np.mean(np.logaddexp(0, margins) - labels * margins) + 0.005 * x @ x
        return float(value), features.T @ (expit(margins) - labels) / 300 + 0.01 * x

    return function


quadratic, logistic = _quadratic(), _logistic()


def bounded_problem(seed):
    """Return a convex function of random size, a start, and bounds of every kind."""
    random = np.random.default_rng(seed)
    size = int(random.integers(8, 40))
    roots = random.normal(size=(size, size))
    hessian = roots @ roots.T / size + 0.1 * np.eye(size)
    bottom, fourth = 3 * random.normal(size=size), random.random(size)

    def function(x):
        slope = hessian @ (x - bottom)
        return (
            0.5 * float((x - bottom) @ slope) + 0.25 * float(np.sum(fourth * x**4)),
            slope + fourth * x**3,
        )

    lower = random.normal(size=size) - 0.5
    upper = lower + 1 + random.random(size)
    lower[:4] = [-np.inf, -np.inf, -1.0, 0.7]
    upper[:4] = [np.inf, 0.1, np.inf, 0.7]
    return function, random.normal(size=size), lower, upper


def solved(solver, function, most=5000):
    """Run a solver to its end and return how often it asked for the function."""
    evaluations = 0
    while not solver.done:
        evaluations += 1
        assert evaluations <= most
        solver.tell(*function(solver.point))
    return evaluations
