"""The rounds of several fits: what each asks for, and what it is told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparknn.errors import DivergenceError
from sparknn.rounds import Outcome, Runner, Visitor
from sparknn.training.fit import Ask, Fit
from sparknn.training.together import Together, run_together

__all__ = ["Loop", "visitor_of"]

USED = 0.3
"""About how much of what is computed ahead turns out to be of use (OWL-QN on MNIST, strong L1)."""


def visitor_of(fits: Sequence[Fit]) -> Visitor:
    """Return what visits a block for all of these fits."""
    return fits[0].visitor if len(fits) == 1 else Together([fit.visitor for fit in fits])


class Loop:
    """Fits on their way.

    Parameters
    ----------
    fits : sequence of Fit
    name : str
        What the Spark UI calls the model.
    """

    def __init__(self, fits: Sequence[Fit], name: str):
        self.fits, self.name = fits, name
        # The last round's seconds for one fit's share of the computing, and beside the computing.
        self.share, self.other = math.inf, 0.0

    @property
    def active(self) -> list[int]:
        """The numbers of the fits that are not done."""
        return [n for n, fit in enumerate(self.fits) if fit.active]

    def round(self, rounds: Runner, active: list[int]) -> list[int]:
        """Run one round of `visitor_of`; return the fits that ended an iteration or epoch in it.

        A fit that diverges has the error as its `failure`, and takes part no more.
        """
        asks = {number: self.fits[number].ask() for number in active}
        if len(self.fits) == 1:
            rounds.states = self.fits[0].states
            outcomes = [rounds.run(*asks[0], self.text(active))]
            return active if self._tell(0, *outcomes) else []
        ahead = self._ahead(active)
        outcomes = self._together(rounds, asks, ahead)
        guessed = dict(zip(ahead, outcomes[len(asks) :], strict=True))
        return [
            number
            for number, outcome in zip(asks, outcomes[: len(asks)], strict=True)
            if self._tell(number, outcome, guessed.get(number))
        ]

    def _tell(self, number: int, outcome: Outcome, guessed: Outcome | None = None) -> bool:
        """Return whether an iteration or epoch ended."""
        fit = self.fits[number]
        try:
            ended = fit.tell(outcome)
            return ended if ended or guessed is None else fit.tell_ahead(guessed)
        except DivergenceError as error:
            fit.failure = error
            return False

    def _ahead(self, active: list[int]) -> dict[int, Ask]:
        """Return what the hindmost fits may ask in the next round, if this one should bring it.

        They decide how many rounds there are. What is computed for them may be of no use, so it
        must cost much less than a round's job.
        """
        least = min(self.fits[number].count for number in active)
        hindmost = [number for number in active if self.fits[number].count == least]
        if len(hindmost) * self.share > USED * self.other:
            return {}
        asks = {number: self.fits[number].ask_ahead() for number in hindmost}
        return {number: ask for number, ask in asks.items() if ask is not None}

    def _together(
        self, rounds: Runner, asks: dict[int, Ask], ahead: dict[int, Ask]
    ) -> list[Outcome]:
        """Run a round of several fits; return the outcomes of `asks`, then those of `ahead`."""
        states: dict[int, dict[int, np.ndarray]] = {}
        for number in asks:
            for partition, state in self.fits[number].states.items():
                states.setdefault(partition, {})[number] = state
        rounds.states = states
        outcomes = run_together(rounds, asks, self.text(list(asks)), ahead=ahead)
        for partition, own in rounds.states.items():
            for number, state in own.items():
                self.fits[number].states[partition] = state
        self.share = sum(each.compute for each in outcomes) / len(outcomes)
        self.other = sum(each.other for each in outcomes)
        return outcomes

    def text(self, active: list[int]) -> str:
        """Describe the job at hand, for the Spark UI."""
        fit = min((self.fits[number] for number in active), key=lambda fit: fit.count)
        history = fit.fitted.objective_history
        several = f" {len(active)} settings," if len(self.fits) > 1 else ""
        loss = f", loss {history[-1]:.4g}" if history else ""
        now = min(fit.count + 1, max(fit.total, 1))
        return f"sparknn {self.name}:{several} {fit.unit} {now} of {fit.total}{loss}"
