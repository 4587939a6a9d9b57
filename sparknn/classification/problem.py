"""The optimisation problem of logistic regression: MLlib's objective, penalties and bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparknn.blocks import Blocks
from sparknn.errors import InvalidParamError
from sparknn.linear import LinearObjective
from sparknn.moments import column_moments
from sparknn.objective import ElasticNet
from sparknn.solvers import LBFGS, OWLQN, ProjectedLBFGS, Solver
from sparknn.training import Fit, FullBatchFit, MinibatchFit

__all__ = ["BOUNDS", "Problem"]

BOUNDS = (
    "lowerBoundsOnCoefficients",
    "upperBoundsOnCoefficients",
    "lowerBoundsOnIntercepts",
    "upperBoundsOnIntercepts",
)

SGD_FLOOR = 0.1
"""Added to each column's deviation, as a share of their root mean square, before it divides."""

RAREST = 1e-12
"""The least share of a class where a fit begins."""


class Problem:
    """What a logistic regression minimises on some rows, in which coordinates, and how.

    Parameters
    ----------
    estimator : LogisticRegression
    blocks : Blocks
    histogram : array of (classes,)
        The weight of each class.
    units : int
        One for a binomial model, else one per class.

    Raises
    ------
    InvalidParamError
        If bounds or initial weights are of another shape than the coefficients.
    """

    def __init__(self, estimator: Any, blocks: Blocks, histogram: np.ndarray, units: int):
        self.estimator, self.blocks = estimator, blocks
        self.histogram, self.units = histogram, units
        self.mean, self.deviation = column_moments(blocks)
        self.intercept = estimator.getFitIntercept()
        self.bounds = self._bounds()
        self.objective = self._objective()

    @property
    def bounded(self) -> bool:
        """Whether coefficients or intercepts are held within bounds."""
        return self.bounds is not None

    def fit(self) -> Fit:
        """Return the fit that solves the problem, at its start."""
        estimator, objective = self.estimator, self.objective
        strength, mix = estimator.getRegParam(), estimator.getElasticNetParam()
        standardised = estimator.getStandardization()
        l2 = objective.penalty((1 - mix) * strength, self.deviation, standardised)
        l1 = objective.l1(mix * strength, self.deviation, standardised)
        start = self._start()
        if estimator._is_minibatch:
            penalty = ElasticNet(l2.strength, l2.slices, l1) if l1.any() else l2
            return MinibatchFit(
                self.blocks,
                objective,
                penalty,
                estimator._optimizer(),
                start,
                estimator._minibatch(),
            )
        limits = estimator.getMaxIter(), estimator.getTol()
        solver: Solver
        if self.bounds is not None:
            lower, upper = (objective.bounds(*each) for each in self.bounds)
            solver = ProjectedLBFGS(start, lower, upper, *limits)
        elif strength and mix:
            solver = OWLQN(start, l1, *limits)
        else:
            solver = LBFGS(start, *limits)
        return FullBatchFit(self.blocks, objective, l2, solver, estimator.getGradientTol())

    def _objective(self) -> LinearObjective:
        estimator = self.estimator
        # Columns that hardly vary would take huge steps if divided by their deviation alone.
        spread = math.sqrt(np.mean(self.deviation**2))
        floor = SGD_FLOOR * spread if estimator._is_minibatch else 0.0
        scale = np.where(self.deviation > 0, self.deviation + floor, 0.0)
        # As in MLlib: a bound on a raw intercept is none on that of centred columns.
        free = self.bounds is None or not any(np.isfinite(each[1]).any() for each in self.bounds)
        centred = self.intercept and free
        centre = self.mean if centred else np.zeros_like(self.mean)
        objective = LinearObjective(centre, scale, self.units, self.intercept)
        if estimator.getMaxBlockSizeInMB() > 0:
            most = int(estimator.getMaxBlockSizeInMB() * 2**20 / (8 * max(len(scale), 1)))
            objective.chunk = max(1, min(objective.chunk, most))
        return objective

    def _start(self) -> np.ndarray:
        """Return where the solver begins: given weights, or none and the classes' shares."""
        objective = self.objective
        weights = np.zeros((objective.features, self.units))
        intercepts = np.zeros(self.units)
        if self.estimator.isDefined("initialWeights"):
            weights, intercepts = self._given_weights()
        elif self.intercept:
            intercepts = _prior_scores(self.histogram, self.units)
        if self.bounds is not None:
            (low, least), (high, most) = self.bounds
            weights, intercepts = np.clip(weights, low, high), np.clip(intercepts, least, most)
        return objective.theta(weights, intercepts)

    def _given_weights(self) -> tuple[np.ndarray, np.ndarray]:
        given = self.estimator.getInitialWeights().toArray()
        size = self.units * len(self.mean)
        if len(given) != size + self.units * self.intercept:
            raise InvalidParamError(
                f"initialWeights holds {len(given)} values; the coefficients, row by row, and the "
                f"intercepts are {size + self.units * self.intercept}"
            )
        weights = given[:size].reshape(self.units, -1).T
        return weights, given[size:] if self.intercept else np.zeros(self.units)

    def _bounds(self) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """Return lower and upper bounds on raw (features, units) and (units,), None without any."""
        if not any(self.estimator.isSet(name) for name in BOUNDS):
            return None
        shape = (len(self.mean), self.units)
        return [
            (
                self._bound(f"{side}BoundsOnCoefficients", shape, free),
                self._bound(f"{side}BoundsOnIntercepts", shape[1:], free),
            )
            for side, free in (("lower", -np.inf), ("upper", np.inf))
        ]

    def _bound(self, name: str, shape: tuple[int, ...], free: float) -> np.ndarray:
        if not self.estimator.isSet(name):
            return np.full(shape, free)
        values = np.asarray(self.estimator.getOrDefault(name).toArray(), np.float64).T
        if values.shape != shape:
            raise InvalidParamError(
                f"LogisticRegression: {name} is {values.T.shape}, and must be {shape[::-1]}: "
                "(1 or classes, features) for coefficients, (1 or classes,) for intercepts"
            )
        return values


def _prior_scores(histogram: np.ndarray, units: int) -> np.ndarray:
    """Return the intercepts that predict the classes' shares, where fits begin as MLlib's do."""
    if units == 1:
        weights = np.pad(histogram, (0, 2 - len(histogram)))
        # Where one class is all that there is, not infinite but as good as certain.
        none, one = np.maximum(weights, RAREST * weights.sum())
        return np.log([one / none])
    scores = np.log1p(histogram)
    return scores - scores.mean()
