"""Early stopping: watch the loss on rows held out, and keep the parameters that did best on them.

Prechelt (1998), Early stopping - but when?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparknn.blocks import Blocks
from sparknn.objective import Objective, Rows
from sparknn.rounds import Answer, Rounds, Runner
from sparknn.training.fit import Arrays, Ask, Facts, Fit
from sparknn.training.together import Together, run_together

__all__ = ["HeldOut", "Lookout", "Watch", "losses_of", "monitors_of"]


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


class Lookout:
    """Measures fits on held-out rows, wherever those are.

    Parameters
    ----------
    watches : sequence of Watch
    losses : Runner
        Visits the held-out rows by `losses_of`.
    monitors : sequence of (Runner, int)
        Of the training rows and of the held-out ones, each with the most rows of a partition that
        are looked at: they visit by `monitors_of`.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        losses: Runner,
        monitors: Sequence[tuple[Runner, int]] = (),
    ):
        self.watches, self.losses, self.monitors = watches, losses, monitors

    def look(self, numbers: Sequence[int], description: str) -> None:
        """Measure the fits of these numbers, in one round."""
        asks = {
            number: Ask(np.asarray(fit.theta, fit.objective.dtype), None)
            for number in numbers
            for fit in [self.watches[number].fit]
        }
        outcomes = run_together(self.losses, asks, f"{description}, held-out rows", vectors=False)
        for number, outcome in zip(numbers, outcomes, strict=True):
            self.watches[number].see(outcome.loss)
        if self.monitors:
            self._monitor(asks, description)

    def _monitor(self, asks: dict[int, Ask], description: str) -> None:
        means = [
            run_together(
                rounds,
                {number: ask._replace(task=most) for number, ask in asks.items()},
                f"{description}, monitored",
                vectors=False,
            )
            for rounds, most in self.monitors
        ]
        for number, own, held in zip(asks, *means, strict=True):
            self.watches[number].fit.fitted.monitored.append((own.loss, held.loss))


class HeldOut:
    """Rows that do not train, on which fits are measured.

    Parameters
    ----------
    blocks : Blocks
        The held-out rows.
    patience : int
        Iterations or epochs without a new lowest loss after which a fit ends.
    training : Blocks, optional
        The rows that train. Of an objective that has a `monitor`, its means over about as many of
        these and over the held-out ones are kept.
    """

    def __init__(self, blocks: Blocks, patience: int, training: Blocks | None = None):
        self.blocks, self.patience, self.training = blocks, patience, training

    def watch(self, fits: Sequence[Fit]) -> None:
        """Prepare to measure these fits; to be called once, before `look`."""
        self.watches = [Watch(fit, self.patience) for fit in fits]
        losses, visitor = Rounds(self.blocks, losses_of(fits)), monitors_of(fits)
        self._opened = [losses]
        monitors: list[tuple[Runner, int]] = []
        if visitor is not None and self.training is not None:
            both = [Rounds(blocks, visitor) for blocks in (self.training, self.blocks)]
            self._opened += both
            monitors = list(zip(both, self.most or ()))
        self._lookout = Lookout(self.watches, losses, monitors)

    @property
    def most(self) -> tuple[int, int] | None:
        """The most rows of a partition to monitor: of training rows, and of held-out ones.

        All held-out rows, and about as many of the others; None where those are not known.
        """
        if self.training is None:
            return None
        return -(-self.blocks.rows // self.training.filled), self.blocks.rows

    def look(self, numbers: Sequence[int], description: str) -> None:
        """Measure the fits of these numbers, in one round."""
        self._lookout.look(numbers, description)

    def close(self) -> None:
        """Forget what was sent to the executors."""
        for rounds in self._opened:
            rounds.__exit__(None, None, None)


def losses_of(fits: Sequence[Fit]) -> Together:
    """Return what visits held-out rows for the fits' losses."""
    return Together([_Loss(fit.objective) for fit in fits])


def monitors_of(fits: Sequence[Fit]) -> Together | None:
    """Return what visits rows for what the fits' objectives monitor, or None where one does not."""
    if not all(hasattr(fit.objective, "monitor") for fit in fits):
        return None
    return Together([_Monitor(fit.objective) for fit in fits])


class _Loss:
    """Visits a block for its mean loss: with the gradient, unless the objective can `measure`."""

    def __init__(self, objective: Objective):
        self.objective = objective

    def __call__(
        self, theta: np.ndarray, task: None, partition: int, rows: Rows, state: None
    ) -> Answer:
        objective = self.objective
        measure = getattr(objective, "measure", None)
        out: np.ndarray = np.empty(0 if measure else objective.size, objective.dtype)
        loss, weight = 0.0, 0.0
        for chunk in rows.chunks(objective.chunk):
            if measure is None:
                chunk_loss, chunk_weight = objective.gradient(theta, chunk, out)
            else:
                chunk_loss, chunk_weight = measure(theta, chunk)
            loss += chunk_weight * chunk_loss
            weight += chunk_weight
        return Answer(weight, np.zeros(0), loss / weight if weight else 0.0)


class _Monitor:
    """Visits a block for the mean of what the objective monitors, over its first rows."""

    def __init__(self, objective: Any):
        self.objective = objective

    def __call__(
        self, theta: np.ndarray, most: int, partition: int, rows: Rows, state: None
    ) -> Answer:
        some = rows.between(0, min(most, rows.length))
        total = sum(
            chunk.length * self.objective.monitor(theta, chunk)
            for chunk in some.chunks(self.objective.chunk)
        )
        return Answer(float(some.length), np.zeros(0), total / max(some.length, 1))
