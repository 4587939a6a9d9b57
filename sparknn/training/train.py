"""Training, of every fit: rounds until all fits are done, progress, early stopping, checkpoints.

Any `Fit` is trained here, alone or together with others on the same blocks; which model it
belongs to is not known.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from tqdm import tqdm

from sparknn.blocks import Blocks
from sparknn.objective import L2, Objective
from sparknn.optimizers import Optimizer
from sparknn.rounds import Rounds
from sparknn.training.checkpoints import Checkpoints
from sparknn.training.fit import Fit
from sparknn.training.held_out import HeldOut
from sparknn.training.history import Fitted
from sparknn.training.in_task import InTasks
from sparknn.training.loop import Loop, visitor_of
from sparknn.training.minibatch import Minibatch, MinibatchFit

__all__ = ["fit_minibatch", "train_fits"]


def train_fits(
    blocks: Blocks,
    fits: Sequence[Fit],
    name: str = "model",
    deterministic: bool = False,
    held_out: HeldOut | None = None,
    checkpoints: Checkpoints | None = None,
) -> list[Fitted]:
    """Train fits on the same blocks, in shared rounds or tasks, until each is done.

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
    loop = Loop(fits, name)
    # Checkpoints are written between rounds, which then are the driver's.
    tasks = InTasks(blocks, name, held_out) if checkpoints is None else None
    with ExitStack() as stack:
        rounds = stack.enter_context(Rounds(blocks, visitor_of(fits), deterministic))
        if held_out is not None:
            held_out.watch(fits)
            stack.callback(held_out.close)
        if checkpoints is not None:
            checkpoints.resume(fits, held_out)
        bar = stack.enter_context(_bar(fits))
        while active := loop.active:
            advanced = tasks is not None and _in_tasks(tasks, loop, active)
            if advanced or _in_round(rounds, loop, active, held_out, checkpoints):
                _show(bar, fits)
        if len(fits) == 1 and fits[0].failure:
            raise fits[0].failure
        if checkpoints is not None:
            checkpoints.complete(fits, held_out)
    return _finished(fits, held_out, time.perf_counter() - began)


def _in_tasks(tasks: InTasks, loop: Loop, active: list[int]) -> bool:
    """Take the active fits further in tasks, where that is sooner done than in rounds."""
    return tasks.suit([loop.fits[number] for number in active]) and tasks.advance(loop, active)


def _in_round(
    rounds: Rounds,
    loop: Loop,
    active: list[int],
    held_out: HeldOut | None,
    checkpoints: Checkpoints | None,
) -> bool:
    """Run one round of the active fits; look after those that ended an iteration or epoch.

    Returns whether any did.
    """
    ended = loop.round(rounds, active)
    if ended and held_out is not None:
        held_out.look(ended, loop.text(ended))
    if ended and checkpoints is not None:
        checkpoints.save(loop.fits, held_out)
    return bool(ended)


def _finished(fits: Sequence[Fit], held_out: HeldOut | None, seconds: float) -> list[Fitted]:
    """Return what was fitted, with the parameters that did best where rows were held out."""
    results = [fit.finish(seconds) for fit in fits]
    if held_out is not None:
        for fitted, watch in zip(results, held_out.watches, strict=True):
            if watch.theta is not None:
                fitted.theta = watch.theta
    return results


@contextmanager
def _bar(fits: Sequence[Fit]) -> Iterator[tqdm]:
    """Show progress where somebody watches: on a terminal, not in logs."""
    with tqdm(
        total=sum(fit.total for fit in fits),
        unit=fits[0].unit,
        disable=not sys.stderr.isatty(),
        leave=False,
        dynamic_ncols=True,
    ) as bar:
        _show(bar, fits)
        yield bar


def _show(bar: tqdm, fits: Sequence[Fit]) -> None:
    bar.update(sum(fit.count for fit in fits) - bar.n)
    losses = [fit.fitted.objective_history[-1:] for fit in fits if not fit.failure]
    if losses and all(losses):
        bar.set_postfix_str(f"loss {min(loss[0] for loss in losses):.6g}")


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
