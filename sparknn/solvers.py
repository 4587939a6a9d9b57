"""Full-batch solvers as step objects: they ask for a point and are told value and gradient.

    solver = LBFGS(start, max_iter=100, tol=1e-6)
    while not solver.done:
        solver.tell(*objective(solver.point))
    solver.x, solver.history

Nothing here calls the objective, so one round on the cluster serves any solver, and a solver is
plain data that can be saved between two rounds. All arithmetic is float64. `maxIter`, `tol` and
the history mean what they do in Breeze, MLlib's optimisation library.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

__all__ = ["LBFGS", "GradientDescent", "Solver"]


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """Return the dot product, in an order that no number of threads can change (BLAS's can)."""
    return float(np.einsum("i,i->", a, b))


def _norm(a: np.ndarray) -> float:
    return math.sqrt(_dot(a, a))


class Solver:
    """A minimiser of a smooth function of a (size,) float64 vector.

    point: where it wants the function evaluated next.
    done: whether it has finished, and `reason` why.
    x, history: the best point, and the value at the start and after each iteration.
    """

    def __init__(self, start: np.ndarray, max_iter: int, tol: float):
        self.x = self.point = np.array(start, np.float64)
        self.max_iter = max_iter
        self.tol = tol
        self.history: list[float] = []
        self.iterations = 0
        self.reason: str | None = None

    @property
    def done(self) -> bool:
        return self.reason is not None

    def tell(self, value: float, gradient: np.ndarray) -> None:
        """Take the function's value and gradient, (size,), at `point`."""
        raise NotImplementedError

    def refresh(self, value: float, gradient: np.ndarray) -> None:
        """Take value and gradient at `x` again, from a more precise computation, and go on."""
        raise NotImplementedError

    def settled(self, tol: float) -> bool:
        """Return whether the last iteration lowered the value by less than `tol` of it."""
        if len(self.history) < 2:
            return self.done
        before, after = self.history[-2:]
        return self.done or before - after < tol * abs(before)


class GradientDescent(Solver):
    """Steps of fixed size against the full gradient, as MLlib's perceptron takes for "gd".

    It stops when a step is shorter than `tol` times the point's length (or `tol`, if longer).
    `history` holds the value before each step.
    """

    def __init__(self, start: np.ndarray, step_size: float, max_iter: int, tol: float):
        super().__init__(start, max_iter, tol)
        self.step_size = step_size
        if max_iter == 0:
            self.reason = "max iterations reached"

    def tell(self, value: float, gradient: np.ndarray) -> None:
        self.history.append(value)
        move = self.step_size * np.asarray(gradient, np.float64)
        self.x = self.point = self.point - move
        self.iterations += 1
        if _norm(move) < self.tol * max(_norm(self.x), 1.0):
            self.reason = "solution converged"
        elif self.iterations >= self.max_iter:
            self.reason = "max iterations reached"


class LBFGS(Solver):
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
        self.value = math.inf
        self.gradient = np.zeros(0)
        self.pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=memory)
        # As in Breeze the infinity keeps the value test from ending a fit in its first twenty.
        self.recent: deque[float] = deque([math.inf], maxlen=20)
        self.direction = np.zeros(0)
        self.search: _LineSearch | None = None
        self.restarted = False

    def tell(self, value: float, gradient: np.ndarray) -> None:
        gradient = np.array(gradient, np.float64)
        if self.search is None:
            self._accept(self.point, value, gradient)
            self._next_iteration()
            return
        slope = _dot(self.direction, gradient)
        self.search.tell(value, slope)
        if self.search.accepted:
            point = self.point
            self.pairs.append((point - self.x, gradient - self.gradient))
            self.iterations += 1
            self.recent.append(value)
            self.restarted = False
            self._accept(point, value, gradient)
            self._next_iteration()
        elif self.search.failed:
            self._restart_or_stop()
        else:
            self.point = self.x + self.search.step * self.direction

    def refresh(self, value: float, gradient: np.ndarray) -> None:
        self.value, self.gradient = value, np.array(gradient, np.float64)
        self.history[-1] = value
        if self.iterations:
            self.recent[-1] = value
        self.restarted = False
        self._next_iteration()

    def _accept(self, x: np.ndarray, value: float, gradient: np.ndarray) -> None:
        self.x, self.value, self.gradient = x, value, gradient
        self.history.append(value)

    def _next_iteration(self) -> None:
        """Stop if converged, else choose a direction and begin the search along it."""
        self.reason = self._converged()
        if self.done:
            return
        self.direction = self._two_loop(self.gradient)
        slope = _dot(self.direction, self.gradient)
        if not slope < 0:
            self._restart_or_stop()
            return
        step = 1.0 if self.iterations else 1.0 / _norm(self.direction)
        self.search = _LineSearch(self.value, slope, step)
        self.point = self.x + self.search.step * self.direction

    def _restart_or_stop(self) -> None:
        """Give up the curvature once and search along the gradient; a second time in a row, end."""
        if self.restarted:
            self.point, self.reason = self.x, "line search failed"
            return
        self.restarted = True
        self.pairs.clear()
        self._next_iteration()

    def _converged(self) -> str | None:
        if not math.isfinite(self.value):
            return "not finite"
        if self.iterations >= self.max_iter:
            return "max iterations reached"
        if abs(self.value - max(self.recent)) <= self.tol * abs(self.history[0]):
            return "function values converged"
        if _norm(self.gradient) <= max(self.tol * abs(self.value), 1e-8):
            return "gradient converged"
        return None

    def _two_loop(self, gradient: np.ndarray) -> np.ndarray:
        """Return minus the inverse Hessian's approximation times the gradient (algorithm 7.4)."""
        direction = -gradient
        applied = []
        for step, change in reversed(self.pairs):
            share = _dot(step, direction) / _dot(step, change)
            direction -= share * change
            applied.append(share)
        if self.pairs:
            step, change = self.pairs[-1]
            direction *= _dot(step, change) / _dot(change, change)
        for (step, change), share in zip(self.pairs, reversed(applied), strict=True):
            direction += (share - _dot(change, direction) / _dot(step, change)) * step
        return direction


class _LineSearch:
    """A step along a direction that meets the strong Wolfe conditions (algorithms 3.5 and 3.6).

    step: the length to try next; accepted, failed: how it ended, both False while it goes on.
    """

    DECREASE, CURVATURE = 1e-4, 0.9
    TRIES = 10

    def __init__(self, value: float, slope: float, step: float):
        self.value, self.slope, self.step = value, slope, step
        self.low = self.high = (0.0, value, slope)
        self.zooms = False
        self.tries = 0
        self.accepted = self.failed = False

    def tell(self, value: float, slope: float) -> None:
        """Take the function's value and slope at `step`."""
        self.tries += 1
        here = (self.step, value, slope)
        (self._zoom if self.zooms else self._bracket)(here)
        if not self.accepted and self.tries >= self.TRIES:
            self.failed = True

    def _too_high(self, here: tuple[float, float, float]) -> bool:
        step, value, _ = here
        return value > self.value + self.DECREASE * step * self.slope

    def _bracket(self, here: tuple[float, float, float]) -> None:
        """Grow the step until an interval surely holds a good one."""
        step, value, slope = here
        if not math.isfinite(value):
            self.step = step / 2
        elif self._too_high(here) or (value >= self.low[1] and self.tries > 1):
            self._begin_zoom(self.low, here)
        elif abs(slope) <= self.CURVATURE * abs(self.slope):
            self.accepted = True
        elif slope >= 0:
            self._begin_zoom(here, self.low)
        else:
            self.low = here
            self.step = step * 1.5

    def _begin_zoom(self, low, high) -> None:
        self.low, self.high, self.tries, self.zooms = low, high, 0, True
        self.step = _cubic_minimum(low, high)

    def _zoom(self, here: tuple[float, float, float]) -> None:
        """Shrink the interval between `low`, the best step so far, and `high`."""
        _, value, slope = here
        if self._too_high(here) or value >= self.low[1] or not math.isfinite(value):
            self.high = here
        elif abs(slope) <= self.CURVATURE * abs(self.slope):
            self.accepted = True
            return
        else:
            if slope * (self.high[0] - self.low[0]) >= 0:
                self.high = self.low
            self.low = here
        self.step = _cubic_minimum(self.low, self.high)


def _cubic_minimum(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """Return where the cubic through both (step, value, slope) is least, off the ends by a tenth.

    Nocedal and Wright, equation 3.59.
    """
    (left, f0, d0), (right, f1, d1) = sorted((one, other))
    low, high = left + 0.1 * (right - left), left + 0.9 * (right - left)
    slope = d0 + d1 - 3 * (f0 - f1) / (left - right)
    square = slope * slope - d0 * d1
    if not math.isfinite(square) or square < 0:
        return 0.5 * (left + right)
    root = math.sqrt(square)
    bottom = d1 - d0 + 2 * root
    if bottom == 0:
        return 0.5 * (left + right)
    return min(max(right - (right - left) * (d1 + root - slope) / bottom, low), high)
