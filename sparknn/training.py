"""The fit loops: rounds, steps, history, and when to stop.

Any `Objective` is trained here, by minibatch steps or by a full-batch solver; which model it
belongs to is not known.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from sparknn.blocks import Blocks
from sparknn.errors import DivergenceError
from sparknn.objective import L2, Objective, Rows
from sparknn.optimizers import SGD, Optimizer
from sparknn.rounds import Answer, Outcome, Rounds
from sparknn.solvers import Solver

__all__ = ["Fitted", "Minibatch", "Round", "fit_full_batch", "fit_minibatch"]

logger = logging.getLogger("sparknn")

FEW_STEPS = 20
"""Steps an epoch below which the global batch is large for the data."""

SETTLED = 1e-5
"""Relative decrease below which a full-batch fit goes over to precise products."""

OUTER_RATE, OUTER_MOMENTUM = 0.9, 0.6
"""The driver's Nesterov step on averaged parameters (measured: as good as syncing each step)."""


class Round(NamedTuple):
    """One line of a fit's history.

    epoch: from 1, for full-batch solvers the evaluation. loss: mean over the round's rows, with
    penalty. compute: seconds of work per core; other: seconds of everything else. batch: rows
    behind each step, over all partitions.
    """

    epoch: int
    loss: float
    compute: float
    other: float
    batch: int


@dataclass
class Fitted:
    """A fit's outcome.

    theta: the parameters, (size,). objective_history: as `Solver.history`, or the mean loss of
    each epoch. iterations: of the solver, or epochs. rounds: one entry a Spark job. reason: why
    it ended. rows, skipped: trained on, and left out as invalid. threads: of linear algebra in
    each task. seconds: of training, packing not counted.
    """

    theta: np.ndarray
    objective_history: list[float] = field(default_factory=list)
    iterations: int = 0
    rounds: list[Round] = field(default_factory=list)
    reason: str = ""
    rows: int = 0
    skipped: int = 0
    threads: int = 1
    seconds: float = 0.0


@dataclass(frozen=True)
class Minibatch:
    """How minibatch rounds go.

    epochs: passes over the data. batch: mean rows per partition and step. steps_per_round: local
    steps between two averagings; 1 adds gradients up at every step, 0 averages once a pass.
    seed: of the order of chunks and of dropout. tol: relative change of the epoch's loss at which
    to stop.
    """

    epochs: int
    batch: int
    steps_per_round: int = 0
    seed: int = 0
    tol: float = 0.0


def fit_full_batch(
    blocks: Blocks,
    objective: Objective,
    penalty: L2,
    solver: Solver,
    name: str = "model",
    deterministic: bool = False,
) -> Fitted:
    """Minimise the mean loss over all rows plus `penalty` with a full-batch solver.

    An objective with a `precise` switch is evaluated in float32 products until the solver comes
    near the optimum.

    Raises
    ------
    DivergenceError
        If the loss is not finite at the start or at an accepted point.
    """
    fitted = _begun(blocks, solver.x)
    precise = not hasattr(objective, "precise")
    began = time.perf_counter()
    with (
        Rounds(blocks, _FullBatch(objective), deterministic) as rounds,
        _bar(solver.max_iter, "iteration") as bar,
    ):
        while not (solver.done and precise):
            again = not precise and solver.settled(SETTLED)
            precise = precise or again
            point = solver.x if again else solver.point
            loss = f", loss {solver.history[-1]:.6g}" if solver.history else ""
            outcome = rounds.run(
                np.asarray(point, objective.dtype),
                precise,
                f"sparknn {name}: iteration {solver.iterations + 1} of {solver.max_iter}{loss}",
            )
            value, gradient = _penalised(outcome, penalty, point)
            (solver.refresh if again else solver.tell)(value, gradient)
            fitted.rounds.append(
                Round(len(fitted.rounds) + 1, value, outcome.compute, outcome.other, blocks.rows)
            )
            if not math.isfinite(solver.history[-1]):
                raise _diverged(f"iteration {solver.iterations}", solver.history[-1])
            bar.update(solver.iterations - bar.n)
            bar.set_postfix_str(f"loss {solver.history[-1]:.6g}")
    fitted.theta, fitted.iterations = solver.x, solver.iterations
    fitted.objective_history, fitted.reason = solver.history, solver.reason or ""
    fitted.seconds = time.perf_counter() - began
    return fitted


def _begun(blocks: Blocks, theta: np.ndarray) -> Fitted:
    return Fitted(theta, rows=blocks.rows, skipped=blocks.skipped, threads=blocks.cluster.threads)


def _penalised(outcome: Outcome, penalty: L2, point: np.ndarray) -> tuple[float, np.ndarray]:
    gradient = outcome.vector / outcome.weight if outcome.weight else outcome.vector
    penalty.add_gradient(point, gradient)
    return outcome.loss + penalty.value(point), gradient


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
    """Train by steps on minibatches, spread over the partitions.

    Parameters
    ----------
    start : array of (size,)
        Initial parameters.
    settings : Minibatch

    Returns
    -------
    Fitted
        Its objective history holds each epoch's mean training loss, taken as the steps went on.

    Raises
    ------
    DivergenceError
        If an epoch's loss is not finite.
    """
    fit = _MinibatchFit(blocks, objective, penalty, optimizer, start, settings)
    fitted = _begun(blocks, fit.theta)
    began = time.perf_counter()
    previous = math.inf
    with (
        Rounds(blocks, fit.visitor, deterministic) as rounds,
        _bar(settings.epochs, "epoch") as bar,
    ):
        for epoch in range(settings.epochs):
            last = f", loss {previous:.4g}" if epoch else ""
            text = f"sparknn {name}: epoch {epoch + 1} of {settings.epochs}{last}"
            done = [fit.round(rounds, epoch, first, text) for first in fit.round_starts]
            fitted.rounds.extend(done)
            value = float(np.mean([each.loss for each in done]))
            if not math.isfinite(value) or not np.isfinite(fit.theta).all():
                raise _diverged(f"epoch {epoch + 1}", value)
            fitted.objective_history.append(value)
            bar.update()
            bar.set_postfix_str(f"loss {value:.4g}")
            if epoch and abs(previous - value) <= settings.tol * abs(previous):
                fitted.reason = "training loss converged"
                break
            previous = value
    fitted.theta, fitted.iterations = fit.theta, len(fitted.objective_history)
    fitted.reason = fitted.reason or "max iterations reached"
    fitted.seconds = time.perf_counter() - began
    return fitted


class _MinibatchFit:
    """The parameters of a minibatch fit and how one round moves them."""

    def __init__(
        self,
        blocks: Blocks,
        objective: Objective,
        penalty: L2,
        optimizer: Optimizer,
        start: np.ndarray,
        settings: Minibatch,
    ):
        filled = sum(1 for rows in blocks.partition_rows if rows)
        self.steps = max(1, math.ceil(blocks.rows / (settings.batch * filled)))
        self.batch = min(settings.batch * filled, blocks.rows)
        if self.steps < FEW_STEPS:
            logger.warning(
                "an epoch has only %d steps of %d rows (blockSize times %d partitions): a smaller "
                "blockSize or fewer partitions would learn faster",
                self.steps,
                self.batch,
                filled,
            )
        self.theta: np.ndarray = np.array(start, objective.dtype)
        self.penalty, self.optimizer, self.settings = penalty, optimizer, settings
        optimizer.start(objective.size, objective.dtype)
        self.synchronous = settings.steps_per_round == 1
        # What one partition does is exact, so its momentum goes on; averaged ones start afresh.
        self.carries = filled == 1 or optimizer.carries > 0
        self.outer = None
        if filled > 1 and not self.synchronous:
            self.outer = SGD(OUTER_RATE, OUTER_MOMENTUM, nesterov=True)
            self.outer.start(objective.size, objective.dtype)
        self.visitor = _Steps(
            objective,
            penalty,
            optimizer,
            settings,
            self.steps,
            blocks.weight / blocks.rows,
            self.synchronous,
            self.carries,
        )

    @property
    def round_starts(self) -> range:
        """The first step of each round of an epoch."""
        return range(0, self.steps, self.settings.steps_per_round or self.steps)

    def round(self, rounds: Rounds, epoch: int, first: int, text: str) -> Round:
        """Run the round that begins at step `first` of `epoch` and move the parameters."""
        before = self.penalty.value(self.theta)
        sent = self.theta
        if self.carries and not self.synchronous:
            sent = np.concatenate([self.theta, self.optimizer.state.ravel()])
        outcome = rounds.run(sent, (epoch, first), text)
        if outcome.weight:
            mean = (outcome.vector / outcome.weight).astype(self.theta.dtype)
            if self.synchronous:
                self._step(mean, epoch, first)
            else:
                self._take_average(mean)
        return Round(epoch + 1, outcome.loss + before, outcome.compute, outcome.other, self.batch)

    def _step(self, gradient: np.ndarray, epoch: int, first: int) -> None:
        self.penalty.add_gradient(self.theta, gradient)
        count = epoch * self.steps + first
        self.optimizer.step(
            self.theta, gradient, count / (self.settings.epochs * self.steps), count
        )

    def _take_average(self, mean: np.ndarray) -> None:
        size = len(self.theta)
        if self.carries:
            self.optimizer.state[:] = mean[size:].reshape(self.optimizer.state.shape)
        if self.outer is None:
            self.theta = mean[:size]
        else:
            self.outer.step(self.theta, self.theta - mean[:size], 0.0, 0)


class _FullBatch:
    """Visits a block for the gradient of its mean loss; chunks are added up in float64."""

    def __init__(self, objective: Objective):
        self.objective = objective

    def __call__(
        self, theta: np.ndarray, precise: bool, partition: int, rows: Rows, state: None
    ) -> Answer:
        objective = self.objective
        if hasattr(objective, "precise"):
            objective.precise = precise
        total, loss, weight = np.zeros(objective.size), 0.0, 0.0
        out: np.ndarray = np.empty(objective.size, objective.dtype)
        for chunk in rows.chunks(objective.chunk):
            chunk_loss, chunk_weight = objective.gradient(theta, chunk, out)
            total += chunk_weight * out
            loss += chunk_weight * chunk_loss
            weight += chunk_weight
        if not weight:
            return Answer(0.0, total)
        return Answer(weight, total / weight, loss / weight)


class _Steps:
    """Visits a block for some steps of an epoch: a gradient, or parameters after local steps."""

    def __init__(
        self,
        objective: Objective,
        penalty: L2,
        optimizer: Optimizer,
        settings: Minibatch,
        steps: int,
        mean_weight: float,
        synchronous: bool,
        carries: bool,
    ):
        self.objective, self.penalty, self.optimizer = objective, penalty, optimizer
        self.settings, self.steps, self.mean_weight = settings, steps, mean_weight
        self.synchronous, self.carries = synchronous, carries

    def __getstate__(self) -> dict:
        # The driver's optimizer state is not the visits': those begin with their own.
        return {**self.__dict__, "optimizer": _stateless(self.optimizer)}

    def __call__(
        self, sent: np.ndarray, task: tuple[int, int], partition: int, rows: Rows, state: None
    ) -> Answer:
        epoch, first = task
        if self.synchronous:
            return self._gradient(sent, epoch, first, partition, rows)
        return self._walk(sent, epoch, first, partition, rows)

    def _gradient(
        self, theta: np.ndarray, epoch: int, step: int, partition: int, rows: Rows
    ) -> Answer:
        out: np.ndarray = np.empty(self.objective.size, self.objective.dtype)
        chunk = self._chunk(rows, self._order(epoch, partition)[step])
        loss, used = self._evaluate(theta, chunk, out, self._random(epoch, partition, step))
        return Answer(float(used), out, loss)

    def _evaluate(
        self, theta: np.ndarray, chunk: Rows, out: np.ndarray, random: np.random.Generator | None
    ) -> tuple[float, int]:
        """Write a chunk's gradient into `out`; return its loss and how many rows it stands for.

        Loss and gradient are means over the chunk's weight, and some chunks weigh more than
        others: what makes their sum over an epoch the weighted mean is this factor.
        """
        loss, weight = self.objective.gradient(theta, chunk, out, random)
        used = chunk.length
        if chunk.weights is not None and used:
            factor = weight / (self.mean_weight * used)
            out *= factor
            loss *= factor
        return loss, used

    def _walk(self, sent: np.ndarray, epoch: int, first: int, partition: int, rows: Rows) -> Answer:
        """Take the round's steps on this block alone."""
        objective, optimizer = self.objective, self.optimizer
        result = np.array(sent)
        theta = result[: objective.size]
        optimizer.start(objective.size, objective.dtype)
        if self.carries:
            optimizer.state = result[objective.size :].reshape(optimizer.state.shape)
        out: np.ndarray = np.empty(objective.size, objective.dtype)
        loss, used = 0.0, 0
        last = min(first + (self.settings.steps_per_round or self.steps), self.steps)
        order = self._order(epoch, partition)
        for step in range(first, last):
            chunk = self._chunk(rows, order[step])
            step_loss, step_rows = self._evaluate(
                theta, chunk, out, self._random(epoch, partition, step)
            )
            if not step_rows:
                continue
            self.penalty.add_gradient(theta, out)
            count = epoch * self.steps + step
            optimizer.step(theta, out, count / (self.settings.epochs * self.steps), count)
            loss += step_rows * step_loss
            used += step_rows
        return Answer(float(used), result, loss / used if used else 0.0)

    def _order(self, epoch: int, partition: int) -> np.ndarray:
        """Return the order in which an epoch visits a partition's chunks."""
        return self._generator(epoch, partition).permutation(self.steps)

    def _chunk(self, rows: Rows, number: int) -> Rows:
        """Return one of `steps` chunks of nearly equal size."""
        count = rows.length
        return rows.between(number * count // self.steps, (number + 1) * count // self.steps)

    def _random(self, epoch: int, partition: int, step: int) -> np.random.Generator | None:
        if not getattr(self.objective, "stochastic", False):
            return None
        return self._generator(epoch, partition, step + 1)

    def _generator(self, *place: int) -> np.random.Generator:
        """Return a generator that depends on the seed and the place alone."""
        entropy = np.random.SeedSequence((self.settings.seed % 2**64, *place))
        return np.random.Generator(np.random.SFC64(entropy))


def _stateless(optimizer: Optimizer) -> Optimizer:
    bare = object.__new__(type(optimizer))
    bare.__dict__.update({k: v for k, v in optimizer.__dict__.items() if k != "state"})
    return bare


def _diverged(when: str, loss: float) -> DivergenceError:
    return DivergenceError(
        f"{when}: the loss is {loss}. Lower stepSize (or momentum), or scale the features to a "
        "deviation of about one (StandardScaler, MinMaxScaler)"
    )


@contextmanager
def _bar(total: int, unit: str) -> Iterator[tqdm]:
    """Show progress where somebody watches: on a terminal, not in logs."""
    with tqdm(
        total=total, unit=unit, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True
    ) as bar:
        yield bar
