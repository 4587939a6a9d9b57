"""Early stopping: watch the loss on rows held out, and keep the parameters that did best on them.

Prechelt (1998), Early stopping - but when?
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparknn.blocks import Blocks
from sparknn.objective import Objective, Rows
from sparknn.rounds import Answer, Rounds
from sparknn.training.fit import Arrays, Ask, Facts, Fit
from sparknn.training.together import Together, run_together

__all__ = ["HeldOut", "Watch"]


class Watch:
    """The best that one fit has done on the held-out rows."""

    def __init__(self, fit: Fit, patience: int):
        self.fit, self.patience = fit, patience
        self.best, self.waited = math.inf, 0
        self.theta: np.ndarray | None = None

    def see(self, loss: float) -> None:
        """Take the held-out loss after an iteration or epoch; stop the fit if it keeps rising."""
        self.fit.fitted.held_out_history.append(loss)
        if loss < self.best:
            self.best, self.waited, self.theta = loss, 0, np.array(self.fit.theta)
            return
        self.waited += 1
        if self.waited >= self.patience and not self.fit.done:
            self.fit.stop("held-out loss no longer falling")

    def state(self) -> tuple[Arrays, Facts]:
        """Return what changes with each loss that is seen."""
        arrays = {"best": np.array(self.best)}
        if self.theta is not None:
            arrays["theta"] = self.theta
        return arrays, {"waited": self.waited}

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        """Go on from where `state` was taken."""
        self.best, self.waited = float(arrays["best"]), facts["waited"]
        self.theta = arrays.get("theta")


class HeldOut:
    """Measures fits on rows that do not train.

    Parameters
    ----------
    blocks : Blocks
        The held-out rows.
    patience : int
        Iterations or epochs without a new lowest loss after which a fit ends.
    """

    def __init__(self, blocks: Blocks, patience: int):
        self.blocks, self.patience = blocks, patience

    def watch(self, fits: Sequence[Fit]) -> None:
        """Prepare to measure these fits; to be called once, before `look`."""
        self.watches = [Watch(fit, self.patience) for fit in fits]
        self.rounds = Rounds(self.blocks, Together([_Loss(fit.objective) for fit in fits]))

    def look(self, numbers: Sequence[int], description: str) -> None:
        """Measure the fits of these numbers, in one round."""
        asks = {
            number: Ask(np.asarray(fit.theta, fit.objective.dtype), None)
            for number in numbers
            for fit in [self.watches[number].fit]
        }
        outcomes = run_together(self.rounds, asks, f"{description}, held-out rows", vectors=False)
        for number, outcome in zip(numbers, outcomes, strict=True):
            self.watches[number].see(outcome.loss)

    def close(self) -> None:
        """Forget what was sent to the executors."""
        self.rounds.__exit__(None, None, None)


class _Loss:
    """Visits a block for its mean loss; there is no cheaper way than with the gradient."""

    def __init__(self, objective: Objective):
        self.objective = objective

    def __call__(
        self, theta: np.ndarray, task: None, partition: int, rows: Rows, state: None
    ) -> Answer:
        objective = self.objective
        out: np.ndarray = np.empty(objective.size, objective.dtype)
        loss, weight = 0.0, 0.0
        for chunk in rows.chunks(objective.chunk):
            chunk_loss, chunk_weight = objective.gradient(theta, chunk, out)
            loss += chunk_weight * chunk_loss
            weight += chunk_weight
        return Answer(weight, np.zeros(0), loss / weight if weight else 0.0)
