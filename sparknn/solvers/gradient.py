"""Gradient descent with steps of fixed size."""

from __future__ import annotations

import math

import numpy as np

from sparknn.solvers.base import Arrays, Facts, Solver, norm

__all__ = ["GradientDescent"]


class GradientDescent(Solver):
    """Steps of fixed size against the full gradient, as MLlib's perceptron takes for "gd".

    It stops when a step is shorter than `tol` times the point's length (or `tol`, if longer).
    `history` holds the value before each step.
    """

    def __init__(self, start: np.ndarray, step_size: float, max_iter: int, tol: float):
        super().__init__(start, max_iter, tol)
        self.step_size = step_size
        self.length = math.inf
        if max_iter == 0:
            self.stop("max iterations reached")

    @property
    def gradient_norm(self) -> float:
        return self.length

    def tell(self, value: float, gradient: np.ndarray) -> None:
        gradient = np.asarray(gradient, np.float64)
        self.history.append(value)
        self.length = norm(gradient)
        move = self.step_size * gradient
        self.x = self.point = self.point - move
        self.iterations += 1
        if norm(move) < self.tol * max(norm(self.x), 1.0):
            self.reason = "solution converged"
        elif self.iterations >= self.max_iter:
            self.reason = "max iterations reached"

    def refresh(self, value: float, gradient: np.ndarray) -> None:
        # A step begins at `x` anyway: this is the next one, where there is to be one.
        if self.iterations < self.max_iter:
            self.reason = None
            self.tell(value, gradient)

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = super().state()
        return {**arrays, "length": np.array(self.length)}, facts

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        super().restore(arrays, facts)
        self.length = float(arrays["length"])
