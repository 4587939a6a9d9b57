"""What every full-batch solver is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["Arrays", "Facts", "Solver", "dot", "norm"]

Arrays = dict[str, np.ndarray]
Facts = dict[str, Any]


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Return the dot product, in an order that no number of threads can change (BLAS's can)."""
    return float(np.einsum("i,i->", a, b))


def norm(a: np.ndarray) -> float:
    """Return the Euclidean length of a (size,) vector."""
    return math.sqrt(dot(a, a))


class Solver:
    """A minimiser of a function of a (size,) float64 vector.

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
        self.stopped = False

    @property
    def done(self) -> bool:
        return self.reason is not None

    @property
    def gradient_norm(self) -> float:
        """The length of what is left of the gradient at the last accepted point, inf before any.

        Where the minimiser may sit on a kink or a bound, only what still leads downhill counts.
        """
        raise NotImplementedError

    def tell(self, value: float, gradient: np.ndarray) -> None:
        """Take the function's value and gradient, (size,), at `point`."""
        raise NotImplementedError

    def guess(self) -> np.ndarray | None:
        """Return the point, (size,), that it will want next if `point` does not please it.

        None where that depends on what it will be told.
        """
        return None

    def refresh(self, value: float, gradient: np.ndarray) -> None:
        """Take value and gradient at `x` again, from a more precise computation, and go on."""
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        """End at `x`, for a reason of the caller's; no `refresh` revives the solver."""
        self.point, self.reason, self.stopped = self.x, reason, True

    def settled(self, tol: float) -> bool:
        """Return whether the last iteration lowered the value by less than `tol` of it."""
        if len(self.history) < 2:
            return self.done
        before, after = self.history[-2:]
        return self.done or before - after < tol * abs(before)

    def state(self) -> tuple[Arrays, Facts]:
        """Return all that changes from one `tell` to the next, at any moment.

        Floats are in the arrays, because JSON, which the facts are meant for, has no infinity.
        """
        arrays = {"x": self.x, "point": self.point, "history": np.array(self.history, np.float64)}
        facts = {"iterations": self.iterations, "reason": self.reason, "stopped": self.stopped}
        return arrays, facts

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        """Become the solver whose `state` this was; it had the same arguments."""
        self.x, self.point = (np.array(arrays[name], np.float64) for name in ("x", "point"))
        self.history = [float(value) for value in arrays["history"]]
        self.iterations, self.reason = facts["iterations"], facts["reason"]
        self.stopped = facts["stopped"]
