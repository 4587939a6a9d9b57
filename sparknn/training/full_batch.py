"""Full-batch training: each round gives a solver the value and gradient that it asked for."""

from __future__ import annotations

import math
from copy import copy

import numpy as np

from sparknn.blocks import Blocks
from sparknn.objective import L2, Objective, Rows
from sparknn.products import Computation, run
from sparknn.rounds import Answer, Outcome
from sparknn.solvers import Solver
from sparknn.training.fit import Arrays, Ask, Facts, Fit, diverged
from sparknn.training.history import Round

__all__ = ["FullBatchFit"]


class FullBatchFit(Fit):
    """Minimises the mean loss over all rows plus `penalty`.

    An objective with a `precise` switch is evaluated in float32 products until an iteration lowers
    the value by less than its `settled`, relatively.

    Parameters
    ----------
    blocks : Blocks
    objective : Objective
    penalty : L2
    solver : Solver
        At its start.
    gradient_tol : float, default 0.0
        Stop when the gradient, with the penalty's, is no longer than this.
    """

    unit = "iteration"

    def __init__(
        self,
        blocks: Blocks,
        objective: Objective,
        penalty: L2,
        solver: Solver,
        gradient_tol: float = 0.0,
    ):
        super().__init__(blocks, objective)
        self.penalty, self.solver, self.gradient_tol = penalty, solver, gradient_tol
        self.precise = not hasattr(objective, "precise")
        self.settled = getattr(objective, "settled", 0.0)
        self.again = False
        self.guess: np.ndarray | None = None
        self.batch = blocks.rows
        self.total = solver.max_iter
        self.visitor = _Gradient(objective)
        self.fitted.objective_history = solver.history

    @property
    def theta(self) -> np.ndarray:  # type: ignore[override]
        return self.solver.x

    @property
    def done(self) -> bool:
        return self.solver.done and (self.precise or self.solver.stopped)

    @property
    def count(self) -> int:
        return self.solver.iterations

    @property
    def work(self) -> float:
        return 6.0 * self.objective.size * self.batch

    @property
    def reason(self) -> str:
        return self.solver.reason or ""

    def ask(self) -> Ask:
        solver = self.solver
        self.again = not self.precise and solver.settled(self.settled)
        self.precise = self.precise or self.again
        return self._ask(solver.x if self.again else solver.point)

    def _ask(self, point: np.ndarray) -> Ask:
        # What products in float32 are made of, and give, need not travel in more.
        dtype = self.objective.dtype if self.precise else np.float32
        return Ask(np.asarray(point, dtype), self.precise)

    def ask_ahead(self) -> Ask | None:
        self.guess = None if self.again else self.solver.guess()
        return None if self.guess is None else self._ask(self.guess)

    def tell_ahead(self, outcome: Outcome) -> bool:
        if self.guess is None or self.solver.done:
            return False
        return np.array_equal(self.guess, self.solver.point) and self.tell(outcome)

    def tell(self, outcome: Outcome) -> bool:
        solver, before = self.solver, len(self.solver.history)
        point = solver.x if self.again else solver.point
        gradient = outcome.vector
        if outcome.weight:
            gradient /= outcome.weight
        self.penalty.add_gradient(point, gradient)
        value = outcome.loss + self.penalty.value(point)
        (solver.refresh if self.again else solver.tell)(value, gradient)
        self.fitted.rounds.append(
            Round(len(self.fitted.rounds) + 1, value, outcome.compute, outcome.other, self.batch)
        )
        if not math.isfinite(solver.history[-1]):
            remedy = "Raise regParam, look for extreme values (with solver 'gd' lower stepSize)"
            raise diverged(f"iteration {solver.iterations}", solver.history[-1], remedy)
        ended = len(solver.history) > before
        if ended and not solver.done and 0 < self.gradient_tol >= solver.gradient_norm:
            solver.stop("gradient is small enough")
        return ended

    def stop(self, reason: str) -> None:
        self.solver.stop(reason)

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = super().state()
        solver_arrays, solver_facts = self.solver.state()
        arrays |= {f"solver/{name}": array for name, array in solver_arrays.items()}
        return arrays, {**facts, "precise": self.precise, "solver": solver_facts}

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        super().restore(arrays, facts)
        own = {
            name.removeprefix("solver/"): array
            for name, array in arrays.items()
            if name.startswith("solver/")
        }
        self.solver.restore(own, facts["solver"])
        self.precise = facts["precise"]
        self.fitted.objective_history = self.solver.history


class _Gradient:
    """Visits a block for the gradient of its mean loss."""

    def __init__(self, objective: Objective):
        self.objective = objective

    def __call__(
        self, theta: np.ndarray, precise: bool, partition: int, rows: Rows, state: None
    ) -> Answer:
        total = self.begin(theta, precise)
        for chunk in rows.chunks(total.chunk):
            run(total.add(chunk))
        return total.answer()

    def begin(self, theta: np.ndarray, precise: bool) -> _Sum:
        """Return a sum over chunks of rows that is still empty."""
        return _Sum(self.objective, theta, precise)


class _Sum:
    """Adds chunks' gradients up in float64. wide: whether it casts rows to float64 itself."""

    def __init__(self, objective: Objective, theta: np.ndarray, precise: bool):
        # A copy, because sums that take turns may share an objective.
        self.objective = copy(objective)
        switched = hasattr(objective, "precise")
        self.wide = switched and precise
        if switched:
            self.objective.precise = precise  # type: ignore[attr-defined]
        self.theta, self.chunk, self.precise = theta, objective.chunk, precise
        self.total, self.loss, self.weight = np.zeros(objective.size), 0.0, 0.0
        self.out: np.ndarray = np.empty(objective.size, objective.dtype)

    def add(self, chunk: Rows) -> Computation:
        """Add some rows; the products with them are whoever runs it's."""
        loss, weight = yield from self._gradient(chunk)
        self.out *= weight
        self.total += self.out
        self.loss += weight * loss
        self.weight += weight

    def _gradient(self, chunk: Rows) -> Computation:
        if hasattr(self.objective, "computation"):
            return (yield from self.objective.computation(self.theta, chunk, self.out))
        return self.objective.gradient(self.theta, chunk, self.out)

    def answer(self) -> Answer:
        """Return the mean over all rows."""
        if not self.weight:
            return Answer(0.0, self.total)
        mean = self.total / self.weight
        if not self.precise:
            mean = mean.astype(np.float32)
        return Answer(self.weight, mean, self.loss / self.weight)
