"""L-BFGS within bounds."""

from __future__ import annotations

import math

import numpy as np

from sparknn.solvers.base import dot, norm
from sparknn.solvers.lbfgs import LBFGS, Pair
from sparknn.solvers.linesearch import LineSearch, StrongWolfe

__all__ = ["ProjectedLBFGS"]

TRIES = 20
"""Most steps tried: before there is curvature a search may begin far too long."""

PROJECTED_STEP = 1e-5
"""Breeze's bound on the projected gradient's largest coordinate, which MLlib cannot change."""

TINY = 2.2e-16
"""Share of a gradient change's square below which its curvature is rounding."""


class ProjectedLBFGS(LBFGS):
    """L-BFGS for lower <= x <= upper (L-BFGS-B, as Breeze has it).

    Byrd, Lu, Nocedal and Zhu, A Limited Memory Algorithm for Bound Constrained Optimization
    (1995): the bounds that hold come from the generalised Cauchy point (algorithm CP), the others
    move to the minimum of the quadratic model (direct primal method), and a strong Wolfe search
    follows.

    Parameters
    ----------
    start : array of (size,)
        Moved to the nearest point within the bounds.
    lower, upper : array of (size,)
        May be infinite; a coordinate whose bounds are equal is fixed.
    max_iter, memory
        As of `LBFGS`.
    tol : float, default 1e-6
        As of `LBFGS`; it stops also where no coordinate of the projected gradient exceeds 1e-5,
        or ten times `tol` if that is less.

    Raises
    ------
    ValueError
        If a bound is not a number or of another size, or a lower one above its upper one.
    """

    def __init__(
        self,
        start: np.ndarray,
        lower: np.ndarray,
        upper: np.ndarray,
        max_iter: int = 100,
        tol: float = 1e-6,
        memory: int = 10,
    ):
        super().__init__(start, max_iter, tol, memory)
        self.lower, self.upper = np.array(lower, np.float64), np.array(upper, np.float64)
        for name, bound in (("lower", self.lower), ("upper", self.upper)):
            if bound.shape != self.x.shape:
                raise ValueError(
                    f"{name} has shape {bound.shape}: give a bound for each of the "
                    f"{len(self.x)} coordinates, infinite for none"
                )
        wrong = np.flatnonzero(~(self.lower <= self.upper))
        if len(wrong):
            at = wrong[0]
            raise ValueError(
                f"the bounds of coordinate {at} are {self.lower[at]} and {self.upper[at]}: the "
                "lower must be at most the upper"
            )
        self.x = self.point = self._within(self.x)

    def _within(self, point: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(point, self.lower), self.upper)

    def _projected_step(self) -> np.ndarray:
        """Return the step that one gradient makes before it meets the bounds."""
        return self._within(self.x - self.gradient) - self.x

    @property
    def gradient_norm(self) -> float:
        return norm(self._projected_step()) if self.history else math.inf

    def _converged(self) -> str | None:
        most = min(PROJECTED_STEP, 10 * self.tol)
        if math.isfinite(self.value) and np.abs(self._projected_step()).max(initial=0) <= most:
            return "projected step converged"
        return super()._converged()

    def _along(self, step: float) -> np.ndarray:
        return self._within(super()._along(step))

    def _search(self, slope: float) -> LineSearch:
        moves = self.direction != 0
        direction = self.direction[moves]
        room = np.where(direction < 0, self.lower[moves], self.upper[moves]) - self.x[moves]
        bound = float(np.min(room / direction, initial=math.inf))
        return StrongWolfe(self.value, slope, min(1.0, bound), bound, most=TRIES)

    def _learn(self, point: np.ndarray, gradient: np.ndarray) -> None:
        """Keep the pair if it has curvature (equation 3.9), which a bound can hide."""
        pair = Pair.of(point - self.x, gradient - self.gradient)
        if pair.curvature > TINY * dot(pair.change, pair.change):
            self.pairs.append(pair)

    def _direction(self) -> np.ndarray:
        model = _Model(self.pairs, len(self.x))
        cauchy, reached = self._cauchy_point(model)
        if not self.iterations:
            return cauchy - self.x
        return self._subspace_minimum(model, cauchy, reached) - self.x

    def _cauchy_point(self, model: _Model) -> tuple[np.ndarray, np.ndarray]:
        """Return the model's first minimum along the projected gradient, and W'(it - x)."""
        x, gradient = self.x, self.gradient
        limit = np.where(gradient < 0, self.upper, self.lower)
        times = np.divide(x - limit, gradient, out=np.full(len(x), math.inf), where=gradient != 0)
        direction = np.where(times > 0, -gradient, 0.0)
        # Of the infinite times there are the most, and none of them is ever reached.
        finite = np.flatnonzero((times > 0) & np.isfinite(times))
        path = _Path(model, gradient, direction)
        for at in finite[np.argsort(times[finite], kind="stable")]:
            span = float(times[at]) - path.time
            if span > path.to_minimum:
                break
            path.meet(at, span, float(limit[at] - x[at]))
        path.advance(max(path.to_minimum, 0.0))
        cauchy = np.where(path.direction == direction, x + path.time * direction, limit)
        return self._within(np.where(direction == 0, x, cauchy)), path.reached

    def _subspace_minimum(
        self, model: _Model, cauchy: np.ndarray, reached: np.ndarray
    ) -> np.ndarray:
        """Return the model's minimum over the free coordinates, cut back to the bounds (5.4)."""
        free = np.flatnonzero((cauchy != self.lower) & (cauchy != self.upper))
        slope = (self.gradient + model.theta * (cauchy - self.x) - model.applied(reached))[free]
        move = -model.inverse_applied(slope, free)
        limit = np.where(move < 0, self.lower[free], self.upper[free])
        room = np.divide(limit - cauchy[free], move, out=np.ones(len(free)), where=move != 0)
        point = cauchy.copy()
        point[free] += min(1.0, float(room.min(initial=1.0))) * move
        return self._within(point)


class _Model:
    """The Hessian's compact form theta * I - W M W' (equation 3.2), of pairs of (size,) vectors.

    theta: the curvature where no pair says another. wide: W, (size, 2 pairs). inverse_middle:
    M^-1, (2 pairs, 2 pairs), so small that its solutions do not depend on the number of threads.
    """

    def __init__(self, pairs, size: int):
        self.theta = 1.0
        self.wide = np.zeros((size, 0))
        self.inverse_middle = np.zeros((0, 0))
        if not pairs:
            return
        steps, changes = (np.array(vectors) for vectors in zip(*(pair[:2] for pair in pairs)))
        self.theta = dot(changes[-1], changes[-1]) / dot(steps[-1], changes[-1])
        self.wide = np.concatenate([changes, self.theta * steps]).T
        inner = np.einsum("ki,li->kl", steps, changes)
        lower = np.tril(inner, -1)
        squares = self.theta * np.einsum("ki,li->kl", steps, steps)
        self.inverse_middle = np.block([[-np.diag(np.diag(inner)), lower.T], [lower, squares]])

    def middle(self, values: np.ndarray) -> np.ndarray:
        """Return M times values, (2 pairs,)."""
        return np.linalg.solve(self.inverse_middle, values)

    def applied(self, values: np.ndarray) -> np.ndarray:
        """Return W M times values, (2 pairs,), as (size,)."""
        return np.einsum("ij,j->i", self.wide, self.middle(values))

    def inverse_applied(self, vector: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Return the inverse of the Hessian's free rows and columns times vector, (free,).

        Sherman, Morrison and Woodbury, as in the paper's equation 5.11.
        """
        wide = self.wide[free]
        inner = self.inverse_middle - np.einsum("ij,ik->jk", wide, wide) / self.theta
        share = np.linalg.solve(inner, np.einsum("ij,i->j", wide, vector))
        return vector / self.theta + np.einsum("ij,j->i", wide, share) / self.theta**2


class _Path:
    """The model's derivatives along the projected gradient, as it turns at each bound it meets.

    time: how far along; reached: W'(here - x), (2 pairs,); to_minimum: from here, as long as no
    bound intervenes.
    """

    def __init__(self, model: _Model, gradient: np.ndarray, direction: np.ndarray):
        self.model, self.gradient = model, gradient
        self.direction = direction.copy()
        self.time = 0.0
        self.along = np.einsum("ij,i->j", model.wide, direction)
        self.reached = np.zeros(len(self.along))
        self.first = -dot(direction, direction)
        self.second = -model.theta * self.first - dot(self.along, model.middle(self.along))
        self.least = TINY * self.second

    @property
    def to_minimum(self) -> float:
        return -self.first / self.second if self.second > 0 else 0.0

    def advance(self, span: float) -> None:
        """Go on for a span in which no bound is met."""
        self.time += span
        self.reached = self.reached + span * self.along

    def meet(self, at: int, span: float, moved: float) -> None:
        """Go on to the bound of coordinate `at`, which by then has moved so far, and turn."""
        self.advance(span)
        slope, theta, row = float(self.gradient[at]), self.model.theta, self.model.wide[at]
        shared = self.model.middle(row)
        self.first += span * self.second + slope * slope + theta * slope * moved
        self.first -= slope * dot(shared, self.reached)
        self.second -= theta * slope * slope + 2 * slope * dot(shared, self.along)
        self.second = max(self.second - slope * slope * dot(shared, row), self.least)
        self.along = self.along + slope * row
        self.direction[at] = 0.0
