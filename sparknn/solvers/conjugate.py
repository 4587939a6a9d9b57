"""Nonlinear conjugate gradients."""

from __future__ import annotations

import numpy as np

from sparknn.solvers.base import Arrays, Facts, dot, norm
from sparknn.solvers.descent import Descent
from sparknn.solvers.linesearch import LineSearch, StrongWolfe

__all__ = ["ConjugateGradient"]

CURVATURE = 0.1
"""Directions are conjugate only after strict searches (Nocedal and Wright, page 122)."""

TRIES = 20
"""Most steps tried: no curvature tells how long the first must be."""

ORTHOGONAL = 0.2
"""Gradients that overlap by a larger share with the one before begin anew (Powell 1977)."""


class ConjugateGradient(Descent):
    """Conjugate gradients of Polak and Ribière, never with a negative share (PR+).

    It keeps three vectors where `LBFGS` keeps more than twenty. Nocedal and Wright, Numerical
    Optimization (2006), algorithm 5.4 with equations 5.44, 5.45 and 5.52; a search begins with
    the step by which a parabola falls as much as the function fell before (equation 3.60).

    Parameters
    ----------
    start : array of (size,)
    max_iter : int, default 100
        Most iterations; each evaluates the function about twice.
    tol : float, default 1e-6
        As of `LBFGS`.
    """

    def __init__(self, start: np.ndarray, max_iter: int = 100, tol: float = 1e-6):
        super().__init__(start, max_iter, tol)
        self.share = 0.0
        self.fall = 0.0

    def _direction(self) -> np.ndarray:
        if self.share:
            direction = self.share * self.direction - self.gradient
            if dot(direction, self.gradient) < 0:
                return direction
        return -self.gradient

    def _search(self, slope: float) -> LineSearch:
        step = 2 * self.fall / slope if self.fall else 1.0 / norm(self.direction)
        return StrongWolfe(self.value, slope, step, curvature=CURVATURE, most=TRIES)

    def _learn(self, point: np.ndarray, gradient: np.ndarray) -> None:
        overlap, length = dot(gradient, self.gradient), dot(gradient, gradient)
        self.share = 0.0
        if abs(overlap) < ORTHOGONAL * length:
            self.share = max((length - overlap) / dot(self.gradient, self.gradient), 0.0)

    def _accept(self, total: float, gradient: np.ndarray) -> None:
        self.fall = total - self.value if self.iterations else 0.0
        super()._accept(total, gradient)

    def _forget(self) -> None:
        self.share = self.fall = 0.0

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = super().state()
        return {**arrays, "share": np.array(self.share), "fall": np.array(self.fall)}, facts

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        super().restore(arrays, facts)
        self.share, self.fall = float(arrays["share"]), float(arrays["fall"])
