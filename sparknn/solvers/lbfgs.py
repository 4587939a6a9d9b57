"""Limited-memory BFGS."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from sparknn.solvers.base import Arrays, Facts, dot, norm
from sparknn.solvers.descent import Descent
from sparknn.solvers.linesearch import LineSearch, StrongWolfe

__all__ = ["LBFGS", "Pair"]

CACHED = 2**15
"""Numbers, of each of three arrays, that a core's cache holds at a time."""


class Pair(NamedTuple):
    """A step with the change of the gradient over it, both (size,), and their dot product."""

    step: np.ndarray
    change: np.ndarray
    curvature: float

    @classmethod
    def of(cls, step: np.ndarray, change: np.ndarray) -> Pair:
        return cls(step, change, dot(step, change))


class LBFGS(Descent):
    """Limited-memory BFGS with a strong Wolfe line search.

    Nocedal and Wright, Numerical Optimization (2006), algorithms 7.4, 7.5, 3.5 and 3.6.

    Parameters
    ----------
    start : array of (size,)
    max_iter : int, default 100
        Most iterations; each evaluates the function about once.
    tol : float, default 1e-6
        It stops when the value is within tol * |first value| of the largest of the last 20, or
        the gradient's length at most max(tol * |value|, 1e-8).
    memory : int, default 10
        Pairs of steps and gradient changes kept.
    """

    def __init__(self, start: np.ndarray, max_iter: int = 100, tol: float = 1e-6, memory: int = 10):
        super().__init__(start, max_iter, tol)
        self.pairs: deque[Pair] = deque(maxlen=memory)

    def _direction(self) -> np.ndarray:
        return self._two_loop(self.gradient)

    def _search(self, slope: float) -> LineSearch:
        step = 1.0 if self.iterations else 1.0 / norm(self.direction)
        return StrongWolfe(self.value, slope, step)

    def _learn(self, point: np.ndarray, gradient: np.ndarray) -> None:
        self.pairs.append(Pair.of(point - self.x, gradient - self.gradient))

    def _forget(self) -> None:
        self.pairs.clear()

    def _two_loop(self, gradient: np.ndarray) -> np.ndarray:
        """Return minus the inverse Hessian's approximation times the gradient (algorithm 7.4)."""
        direction = -gradient
        applied = []
        for step, change, curvature in reversed(self.pairs):
            share = dot(step, direction) / curvature
            _add(direction, -share, change)
            applied.append(share)
        if self.pairs:
            _, change, curvature = self.pairs[-1]
            direction *= curvature / dot(change, change)
        for (step, change, curvature), share in zip(self.pairs, reversed(applied), strict=True):
            _add(direction, share - dot(change, direction) / curvature, step)
        return direction

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = super().state()
        pairs = np.array([pair[:2] for pair in self.pairs], np.float64)
        pairs = pairs.reshape(-1, 2, len(self.x))
        return {**arrays, "pairs": pairs}, facts

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        super().restore(arrays, facts)
        pairs = np.array(arrays["pairs"], np.float64)
        self.pairs = deque((Pair.of(*pair) for pair in pairs), maxlen=self.pairs.maxlen)


def _add(total: np.ndarray, factor: float, vector: np.ndarray) -> None:
    """Add factor * vector to `total`, (size,), without a product as long as they are."""
    for start in range(0, len(total), CACHED):
        part = slice(start, start + CACHED)
        total[part] += factor * vector[part]
