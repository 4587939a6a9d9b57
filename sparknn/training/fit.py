"""A model in training, as the loop sees it: it asks for a round and is told what came of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sparknn.blocks import Blocks
from sparknn.errors import DivergenceError
from sparknn.objective import Objective
from sparknn.rounds import Outcome, Visitor
from sparknn.training.history import Fitted, Round

__all__ = ["Arrays", "Ask", "Facts", "Fit", "diverged"]

Arrays = dict[str, np.ndarray]
Facts = dict[str, Any]

STATE = "state of partition "


class Ask(NamedTuple):
    """What a fit wants of the next round: `parameters`, (size,), to visit the blocks with."""

    parameters: np.ndarray
    task: Any


class Fit:
    """A model in training. Nothing here runs a job, so that several fits can share a round.

    objective: what it minimises. visitor: what a round does on each block. unit: what `total`
    counts, "iteration" or "epoch". theta: the parameters so far, (size,). fitted: the history.
    failure: why it diverged, where it did beside others that went on.
    states: by partition the array, if any, that its last visit left for the next one.
    """

    unit: str
    total: int
    visitor: Visitor
    theta: np.ndarray
    failure: DivergenceError | None = None

    def __init__(self, blocks: Blocks, objective: Objective):
        self.objective = objective
        self.states: dict[int, np.ndarray] = {}
        self.fitted = Fitted(
            np.zeros(0), rows=blocks.rows, skipped=blocks.skipped, threads=blocks.cluster.threads
        )

    @property
    def done(self) -> bool:
        """Whether no further round is wanted."""
        raise NotImplementedError

    @property
    def active(self) -> bool:
        """Whether it takes part in rounds: it is neither done nor diverged."""
        return not (self.done or self.failure)

    @property
    def count(self) -> int:
        """Iterations or epochs that are over."""
        raise NotImplementedError

    @property
    def work(self) -> float:
        """Floating-point operations of its next round, about: six for each weight and row."""
        raise NotImplementedError

    @property
    def reason(self) -> str:
        """Why it is done."""
        raise NotImplementedError

    def ask(self) -> Ask:
        """Return what the next round is to be."""
        raise NotImplementedError

    def tell(self, outcome: Outcome) -> bool:
        """Take the round's outcome; return whether an iteration or epoch ended with it.

        Raises DivergenceError where the loss is not finite.
        """
        raise NotImplementedError

    def ask_ahead(self) -> Ask | None:
        """Return what the round after the one just asked for may be, if that can be known."""
        return None

    def tell_ahead(self, outcome: Outcome) -> bool:
        """Take the outcome of `ask_ahead`, after `tell` ended nothing, if it is of use after all.

        Returns as `tell` does.
        """
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        """End with the parameters that it has."""
        raise NotImplementedError

    def state(self) -> tuple[Arrays, Facts]:
        """Return all that changes over the rounds; facts are JSON values."""
        history = {
            "rounds": np.array(self.fitted.rounds, np.float64).reshape(-1, len(Round._fields)),
            "held_out_history": np.array(self.fitted.held_out_history, np.float64),
            "objective_history": np.array(self.fitted.objective_history, np.float64),
            "monitored": np.array(self.fitted.monitored, np.float64).reshape(-1, 2),
        }
        states = {f"{STATE}{partition}": state for partition, state in self.states.items()}
        failure = str(self.failure) if self.failure else None
        return {**history, **states}, {"failure": failure}

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        """Go on from where `state` was taken, in a fit of the same data and settings."""
        self.fitted.rounds = [
            Round(int(epoch), loss, compute, other, int(batch))
            for epoch, loss, compute, other, batch in arrays["rounds"].tolist()
        ]
        self.fitted.held_out_history = arrays["held_out_history"].tolist()
        self.fitted.objective_history = arrays["objective_history"].tolist()
        if facts["failure"]:
            self.failure = DivergenceError(facts["failure"])
        self.fitted.monitored = [(own, held) for own, held in arrays["monitored"].tolist()]
        self.states = {
            int(name.removeprefix(STATE)): array
            for name, array in arrays.items()
            if name.startswith(STATE)
        }

    def finish(self, seconds: float) -> Fitted:
        """Return what was fitted."""
        self.fitted.theta, self.fitted.iterations = self.theta, self.count
        self.fitted.reason, self.fitted.seconds = self.reason, seconds
        return self.fitted


def diverged(when: str, loss: float, remedy: str) -> DivergenceError:
    """Return the error for a loss that is not finite; remedy: what to do, or else to scale."""
    return DivergenceError(
        f"{when}: the loss is {loss}. {remedy}, or scale the features to a deviation of about one "
        "(StandardScaler, MinMaxScaler)"
    )
