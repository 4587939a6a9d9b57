"""L-BFGS for functions with an L1 penalty."""

from __future__ import annotations

import numpy as np

from sparknn.solvers.base import dot, norm
from sparknn.solvers.lbfgs import LBFGS
from sparknn.solvers.linesearch import Backtracking, LineSearch

__all__ = ["OWLQN"]


class OWLQN(LBFGS):
    """Orthant-wise limited-memory quasi-Newton: L-BFGS with the penalty sum(strengths * |x|).

    The caller tells value and gradient without that penalty; `value`, `history` and the stopping
    tests are with it. Within one iteration no coordinate changes sign: it stops at zero, exactly.
    Andrew and Gao, Scalable Training of L1-Regularized Log-Linear Models (2007), in the form
    that Breeze gave it, so that a fit has the iterations that it has in MLlib.

    Parameters
    ----------
    start : array of (size,)
    strengths : array of (size,)
        How strongly each coordinate is penalised: at least 0, which leaves it without penalty.
    max_iter, tol, memory
        As of `LBFGS`; the gradient is that of least length at a kink.

    Raises
    ------
    ValueError
        If the strengths are of another size, negative or not finite.
    """

    Search = Backtracking

    def __init__(
        self,
        start: np.ndarray,
        strengths: np.ndarray,
        max_iter: int = 100,
        tol: float = 1e-6,
        memory: int = 10,
    ):
        super().__init__(start, max_iter, tol, memory)
        self.strengths = np.array(strengths, np.float64)
        if self.strengths.shape != self.x.shape:
            raise ValueError(
                f"strengths has shape {self.strengths.shape}: give one for each of the "
                f"{len(self.x)} coordinates"
            )
        if not (np.isfinite(self.strengths) & (self.strengths >= 0)).all():
            raise ValueError("strengths holds a negative or infinite number: give 0 for none")

    def _penalty(self, point: np.ndarray) -> float:
        return dot(self.strengths, np.abs(point))

    def _total(self, point: np.ndarray, value: float) -> float:
        return value + self._penalty(point)

    def _uphill(self, point: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the pseudo-gradient (equation 4): at a kink the shortest of the subgradients."""
        shortest = np.sign(gradient) * np.maximum(np.abs(gradient) - self.strengths, 0)
        return np.where(point == 0, shortest, gradient + np.sign(point) * self.strengths)

    def _direction(self) -> np.ndarray:
        direction = self._two_loop(self.uphill)
        return np.where(direction * self.uphill < 0, direction, 0.0)

    def _search(self, slope: float) -> LineSearch:
        if self.iterations:
            step, shrink = 1.0, 0.5
        else:
            step, shrink = 0.5 / (norm(self.gradient) or norm(self.direction)), 0.1
        bare = self.value - self._penalty(self.x)
        return Backtracking(self.value, slope, step, shrink, stand_in=bare)

    def _learn(self, point: np.ndarray, gradient: np.ndarray) -> None:
        """Keep the pair; one without curvature, which this search may leave, ends the memory."""
        super()._learn(point, gradient)
        if not self.pairs[-1].curvature > 0:
            self._forget()

    def _along(self, step: float) -> np.ndarray:
        """Return the step's end, with what left its orthant at zero.

        A coordinate without penalty stays in its orthant, too, as in Breeze.
        """
        orthant = np.where(self.x != 0, np.sign(self.x), -np.sign(self.uphill))
        point = super()._along(step)
        return np.where(np.sign(point) == orthant, point, 0.0)
