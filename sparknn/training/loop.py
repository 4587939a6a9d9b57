"""The loop of every fit: run rounds until all fits are done, show progress, stop early, go on.

Any `Fit` is trained here, alone or together with others on the same blocks; which model it
belongs to is not known.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from tqdm import tqdm

from sparknn.blocks import Blocks
from sparknn.errors import DivergenceError
from sparknn.objective import L2, Objective
from sparknn.optimizers import Optimizer
from sparknn.rounds import Outcome, Rounds
from sparknn.solvers import Solver
from sparknn.training.checkpoints import Checkpoints
from sparknn.training.fit import Ask, Fit
from sparknn.training.full_batch import FullBatchFit
from sparknn.training.held_out import HeldOut
from sparknn.training.history import Fitted
from sparknn.training.minibatch import Minibatch, MinibatchFit
from sparknn.training.together import Together, run_together

__all__ = ["fit_full_batch", "fit_minibatch", "train_fits"]

USED = 0.3
"""About how much of what is computed ahead turns out to be of use (OWL-QN on MNIST, strong L1)."""


def train_fits(
    blocks: Blocks,
    fits: Sequence[Fit],
    name: str = "model",
    deterministic: bool = False,
    held_out: HeldOut | None = None,
    checkpoints: Checkpoints | None = None,
) -> list[Fitted]:
    """Train fits on the same blocks, in shared rounds, until each is done.

    Parameters
    ----------
    blocks : Blocks
    fits : sequence of Fit
    name : str
        What the Spark UI and the progress bar call the model.
    deterministic : bool, default False
        Raise LostBlockError where a block that had to be packed again came out different.
    held_out : HeldOut, optional
        Rows to watch: a fit ends when their loss no longer falls, with the best parameters.
    checkpoints : Checkpoints, optional
        Where to save the fits' state; a fit that was cut short goes on from there.

    Raises
    ------
    DivergenceError
        If the loss of a single fit is not finite. Of several fits the others go on, and the one
        that diverged has the error as its `failure`.
    CheckpointError
        If the checkpoints are of other settings or other rows.
    """
    began = time.perf_counter()
    loop = _Loop(fits, name, held_out)
    visitor = fits[0].visitor if len(fits) == 1 else Together([fit.visitor for fit in fits])
    with ExitStack() as stack:
        rounds = stack.enter_context(Rounds(blocks, visitor, deterministic))
        if held_out is not None:
            held_out.watch(fits)
            stack.callback(held_out.close)
        if checkpoints is not None:
            checkpoints.resume(fits, held_out)
        bar = stack.enter_context(_bar(sum(fit.total for fit in fits), fits[0].unit))
        loop.run(rounds, bar, checkpoints)
        if checkpoints is not None:
            checkpoints.complete(fits, held_out)
    return loop.finish(time.perf_counter() - began)


class _Loop:
    """Fits on their way."""

    def __init__(self, fits: Sequence[Fit], name: str, held_out: HeldOut | None):
        self.fits, self.name, self.held_out = fits, name, held_out
        # The last round's seconds for one fit's share of the computing, and beside the computing.
        self.share, self.other = math.inf, 0.0

    def run(self, rounds: Rounds, bar: tqdm, checkpoints: Checkpoints | None) -> None:
        """Run rounds until every fit is done."""
        self._show(bar)
        while active := [
            number for number, fit in enumerate(self.fits) if not (fit.done or fit.failure)
        ]:
            ended = self._round(rounds, active)
            if not ended:
                continue
            if self.held_out is not None:
                self.held_out.look(ended, self._text(ended))
            if checkpoints is not None:
                checkpoints.save(self.fits, self.held_out)
            self._show(bar)

    def finish(self, seconds: float) -> list[Fitted]:
        """Return what was fitted, with the parameters that did best where rows were held out."""
        results = [fit.finish(seconds) for fit in self.fits]
        if self.held_out is not None:
            for fitted, watch in zip(results, self.held_out.watches, strict=True):
                if watch.theta is not None:
                    fitted.theta = watch.theta
        return results

    def _round(self, rounds: Rounds, active: list[int]) -> list[int]:
        """Run one round; return the fits of which an iteration or epoch ended with it."""
        asks = {number: self.fits[number].ask() for number in active}
        if len(self.fits) == 1:
            rounds.states = self.fits[0].states
            outcomes = [rounds.run(*asks[0], self._text(active))]
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
        """Return whether an iteration or epoch ended; a fit that diverges leaves the others."""
        fit = self.fits[number]
        try:
            ended = fit.tell(outcome)
            return ended if ended or guessed is None else fit.tell_ahead(guessed)
        except DivergenceError as error:
            if len(self.fits) == 1:
                raise
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
        self, rounds: Rounds, asks: dict[int, Ask], ahead: dict[int, Ask]
    ) -> list[Outcome]:
        """Run a round of several fits; return the outcomes of `asks`, then those of `ahead`."""
        states: dict[int, dict[int, np.ndarray]] = {}
        for number in asks:
            for partition, state in self.fits[number].states.items():
                states.setdefault(partition, {})[number] = state
        rounds.states = states
        outcomes = run_together(rounds, asks, self._text(list(asks)), ahead=ahead)
        for partition, own in rounds.states.items():
            for number, state in own.items():
                self.fits[number].states[partition] = state
        self.share = sum(each.compute for each in outcomes) / len(outcomes)
        self.other = sum(each.other for each in outcomes)
        return outcomes

    def _text(self, active: list[int]) -> str:
        """Describe the job at hand, for the Spark UI."""
        fit = min((self.fits[number] for number in active), key=lambda fit: fit.count)
        history = fit.fitted.objective_history
        several = f" {len(active)} settings," if len(self.fits) > 1 else ""
        loss = f", loss {history[-1]:.4g}" if history else ""
        now = min(fit.count + 1, max(fit.total, 1))
        return f"sparknn {self.name}:{several} {fit.unit} {now} of {fit.total}{loss}"

    def _show(self, bar: tqdm) -> None:
        bar.update(sum(fit.count for fit in self.fits) - bar.n)
        losses = [fit.fitted.objective_history[-1:] for fit in self.fits if not fit.failure]
        if losses and all(losses):
            bar.set_postfix_str(f"loss {min(loss[0] for loss in losses):.6g}")


def fit_full_batch(
    blocks: Blocks,
    objective: Objective,
    penalty: L2,
    solver: Solver,
    name: str = "model",
    deterministic: bool = False,
) -> Fitted:
    """Train one model with a full-batch solver; see `FullBatchFit` and `train_fits`."""
    fit = FullBatchFit(blocks, objective, penalty, solver)
    return train_fits(blocks, [fit], name, deterministic)[0]


def fit_minibatch(
    blocks: Blocks,
    objective: Objective,
    penalty: L2,
    optimizer: Optimizer,
    start: np.ndarray,
    settings: Minibatch,
    name: str = "model",
    deterministic: bool = False,
) -> Fitted:
    """Train one model by minibatches; see `MinibatchFit` and `train_fits`."""
    fit = MinibatchFit(blocks, objective, penalty, optimizer, start, settings)
    return train_fits(blocks, [fit], name, deterministic)[0]


@contextmanager
def _bar(total: int, unit: str) -> Iterator[tqdm]:
    """Show progress where somebody watches: on a terminal, not in logs."""
    with tqdm(
        total=total, unit=unit, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True
    ) as bar:
        yield bar
