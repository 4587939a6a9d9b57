"""What the solvers have in common that go from one line search to the next, as Breeze's do."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from sparknn.solvers.base import Arrays, Facts, Solver, dot, norm
from sparknn.solvers.linesearch import LineSearch, StrongWolfe

__all__ = ["Descent"]


class Descent(Solver):
    """Iterations of a direction and a search along it, with the tests by which Breeze stops.

    A subclass says which direction, which search, and what an accepted step teaches it; OWL-QN
    also adds a penalty of its own to what is told, and the bounded solver bends the path.
    """

    Search: type[LineSearch] = StrongWolfe

    def __init__(self, start: np.ndarray, max_iter: int, tol: float):
        super().__init__(start, max_iter, tol)
        self.value = math.inf
        self.gradient = np.zeros(0)
        self.uphill = np.zeros(0)
        # As in Breeze the infinity keeps the value test from ending a fit in its first twenty.
        self.recent: deque[float] = deque([math.inf], maxlen=20)
        self.direction = np.zeros(0)
        self.search: LineSearch | None = None
        self.restarted = False

    def _direction(self) -> np.ndarray:
        """Return the direction, (size,), in which to leave `x`."""
        raise NotImplementedError

    def _search(self, slope: float) -> LineSearch:
        """Return the search along `direction`, whose slope at `x` is given."""
        raise NotImplementedError

    def _learn(self, point: np.ndarray, gradient: np.ndarray) -> None:
        """Take in the step from `x` to `point`, where the gradient is the one given."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Drop what steps have taught."""
        raise NotImplementedError

    def _total(self, point: np.ndarray, value: float) -> float:
        """Return the value at `point` with the solver's own penalty."""
        return value

    def _uphill(self, point: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the gradient at `point` with the solver's own penalty."""
        return gradient

    def _along(self, step: float) -> np.ndarray:
        """Return the point that a step along `direction` leads to."""
        return self.x + step * self.direction

    @property
    def gradient_norm(self) -> float:
        return norm(self.uphill) if self.history else math.inf

    def tell(self, value: float, gradient: np.ndarray) -> None:
        gradient = np.array(gradient, np.float64)
        total = self._total(self.point, float(value))
        if self.search is None:
            self._accept(total, gradient)
            self._next_iteration()
            return
        self.search.tell(total, dot(self.direction, self._uphill(self.point, gradient)))
        if self.search.accepted:
            self._learn(self.point, gradient)
            self.iterations += 1
            self.recent.append(total)
            self.restarted = False
            self._accept(total, gradient)
            self._next_iteration()
        elif self.search.failed:
            self._restart_or_stop()
        else:
            self.point = self._along(self.search.step)

    def guess(self) -> np.ndarray | None:
        step = None if self.search is None else self.search.guess
        return None if step is None else self._along(step)

    def refresh(self, value: float, gradient: np.ndarray) -> None:
        self.value = self.history[-1] = self._total(self.x, float(value))
        self._leave_from(np.array(gradient, np.float64))
        if self.iterations:
            self.recent[-1] = self.value
        if not self.stopped:
            self.restarted = False
            self._next_iteration()

    def _accept(self, total: float, gradient: np.ndarray) -> None:
        self.x, self.value = self.point, total
        self._leave_from(gradient)
        self.history.append(total)

    def _leave_from(self, gradient: np.ndarray) -> None:
        self.gradient, self.uphill = gradient, self._uphill(self.x, gradient)

    def _next_iteration(self) -> None:
        """Stop if converged, else choose a direction and begin the search along it."""
        self.reason = self._converged()
        if self.done:
            self.point = self.x
            return
        self.direction = self._direction()
        slope = dot(self.direction, self.uphill)
        if not slope < 0:
            self._restart_or_stop()
            return
        self.search = self._search(slope)
        self.point = self._along(self.search.step)

    def _restart_or_stop(self) -> None:
        """Give up what was learnt once and begin anew; a second time in a row, end."""
        if self.restarted:
            self.point, self.reason = self.x, "line search failed"
            return
        self.restarted = True
        self._forget()
        self._next_iteration()

    def _converged(self) -> str | None:
        if not math.isfinite(self.value):
            return "not finite"
        if self.iterations >= self.max_iter:
            return "max iterations reached"
        if abs(self.value - max(self.recent)) <= self.tol * abs(self.history[0]):
            return "function values converged"
        if norm(self.uphill) <= max(self.tol * abs(self.value), 1e-8):
            return "gradient converged"
        return None

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = super().state()
        arrays |= {
            "value": np.array(self.value),
            "gradient": self.gradient,
            "recent": np.array(self.recent),
            "direction": self.direction,
        }
        facts |= {"restarted": self.restarted, "search": None}
        if self.search is not None:
            numbers, facts["search"] = self.search.state()
            arrays |= {f"search.{name}": array for name, array in numbers.items()}
        return arrays, facts

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        super().restore(arrays, facts)
        self.value = float(arrays["value"])
        if arrays["gradient"].size:
            self._leave_from(np.array(arrays["gradient"], np.float64))
        self.recent = deque(arrays["recent"].tolist(), maxlen=self.recent.maxlen)
        self.direction = np.array(arrays["direction"], np.float64)
        self.restarted, self.search = facts["restarted"], None
        if facts["search"] is not None:
            numbers = {
                name.removeprefix("search."): array
                for name, array in arrays.items()
                if name.startswith("search.")
            }
            self.search = self.Search.restored(numbers, facts["search"])
