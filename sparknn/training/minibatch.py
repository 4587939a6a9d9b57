"""Minibatch training: steps on small chunks, exact ones or each partition's own, then averaged."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparknn.blocks import Blocks
from sparknn.objective import L2, Objective, Rows
from sparknn.optimizers import SGD, Optimizer
from sparknn.rounds import Answer, Outcome
from sparknn.training.fit import Arrays, Ask, Facts, Fit, diverged
from sparknn.training.history import Round

__all__ = ["Minibatch", "MinibatchFit"]

logger = logging.getLogger("sparknn")

FEW_STEPS = 20
"""Steps an epoch below which the global batch is large for the data."""

AHEAD_BYTES = 2**22
"""Of the rows that are to come, what is announced to the disk."""

OUTER_RATE, OUTER_MOMENTUM = 0.9, 0.6
"""The driver's Nesterov step on averaged parameters (measured: as good as syncing each step)."""


@dataclass(frozen=True)
class Minibatch:
    """How minibatch rounds go.

    epochs: passes over the data. batch: mean rows per partition and step. steps_per_round: local
    steps between two averagings; 1 adds gradients up at every step, 0 averages once a pass; or a
    function that returns their number for the progress at an epoch's start, from 0 to below 1.
    seed: of the order of chunks and of what is drawn. tol: relative change of the epoch's loss at
    which to stop. outer: rate and momentum of the driver's Nesterov step on averaged parameters,
    each partition's own momentum starting at zero; None: the averages are taken as they are, of
    the parameters and of the optimizer's state, which is closest to what one partition does.
    """

    epochs: int
    batch: int
    steps_per_round: int | Callable[[float], int] = 0
    seed: int = 0
    tol: float = 0.0
    outer: tuple[float, float] | None = (OUTER_RATE, OUTER_MOMENTUM)

    def length(self, epoch: int, steps: int) -> int:
        """Return the steps between two averagings in an epoch of so many."""
        wanted = self.steps_per_round
        return (wanted(epoch / self.epochs) if callable(wanted) else wanted) or steps


class MinibatchFit(Fit):
    """Takes steps on minibatches, spread over the partitions.

    Its objective history holds each epoch's mean training loss, taken as the steps went on.

    Parameters
    ----------
    blocks : Blocks
    objective : Objective
    penalty : L2
    optimizer : Optimizer
    start : array of (size,)
        Initial parameters.
    settings : Minibatch
    """

    unit = "epoch"

    def __init__(
        self,
        blocks: Blocks,
        objective: Objective,
        penalty: L2,
        optimizer: Optimizer,
        start: np.ndarray,
        settings: Minibatch,
    ):
        super().__init__(blocks, objective)
        self.total = settings.epochs
        filled = blocks.filled
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
        self.theta = np.array(start, objective.dtype)
        self.penalty, self.optimizer, self.settings = penalty, optimizer, settings
        optimizer.start(objective.size, objective.dtype)
        self.synchronous = settings.steps_per_round == 1
        # What one partition does is exact, so its momentum goes on; averaged ones start afresh.
        self.carries = filled == 1 or optimizer.carries > 0 or settings.outer is None
        self.outer = None
        if filled > 1 and not self.synchronous and settings.outer is not None:
            self.outer = SGD(*settings.outer, nesterov=True)
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
        self.epoch = self.first = 0
        self.losses: list[float] = []
        self.ended = ""

    @property
    def done(self) -> bool:
        return bool(self.ended) or self.epoch >= self.total

    @property
    def count(self) -> int:
        return self.epoch

    @property
    def work(self) -> float:
        steps = min(self.settings.length(self.epoch, self.steps), self.steps)
        return 6.0 * self.objective.size * self.batch * steps

    @property
    def reason(self) -> str:
        return self.ended or "max iterations reached"

    def stop(self, reason: str) -> None:
        self.ended = reason

    def ask(self) -> Ask:
        sent = self.theta
        if self.carries and not self.synchronous:
            sent = np.concatenate([self.theta, self.optimizer.state.ravel()])
        return Ask(sent, (self.epoch, self.first))

    def tell(self, outcome: Outcome) -> bool:
        loss = outcome.loss + self.penalty.value(self.theta)
        if outcome.weight:
            mean = (outcome.vector / outcome.weight).astype(self.theta.dtype)
            if self.synchronous:
                self._step(mean)
            else:
                self._take_average(mean)
        self.losses.append(loss)
        self.fitted.rounds.append(
            Round(self.epoch + 1, loss, outcome.compute, outcome.other, self.batch)
        )
        self.first += self.settings.length(self.epoch, self.steps)
        if self.first < self.steps:
            return False
        self._end_epoch()
        return True

    def _end_epoch(self) -> None:
        value = float(np.mean(self.losses))
        self.epoch, self.first, self.losses = self.epoch + 1, 0, []
        if not math.isfinite(value) or not np.isfinite(self.theta).all():
            raise diverged(f"epoch {self.epoch}", value, "Lower stepSize (or momentum)")
        history = self.fitted.objective_history
        if history and abs(history[-1] - value) <= self.settings.tol * abs(history[-1]):
            self.stop("training loss converged")
        history.append(value)

    def _step(self, gradient: np.ndarray) -> None:
        self.penalty.add_gradient(self.theta, gradient)
        count = self.epoch * self.steps + self.first
        self.optimizer.step(self.theta, gradient, count / (self.total * self.steps), count)
        _project(self.objective, self.theta)

    def _take_average(self, mean: np.ndarray) -> None:
        size = len(self.theta)
        if self.carries:
            self.optimizer.state[:] = mean[size:].reshape(self.optimizer.state.shape)
        if self.outer is None:
            self.theta = mean[:size]
        else:
            self.outer.step(self.theta, self.theta - mean[:size], 0.0, 0)
            _project(self.objective, self.theta)

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = super().state()
        # Floats are no facts: in JSON there is no infinity.
        losses = np.array(self.losses, np.float64)
        arrays |= {"theta": self.theta, "optimizer": self.optimizer.state, "losses": losses}
        if self.outer is not None:
            arrays["outer"] = self.outer.state
        own = {"epoch": self.epoch, "first": self.first, "ended": self.ended}
        return arrays, {**facts, **own}

    def restore(self, arrays: Arrays, facts: Facts) -> None:
        super().restore(arrays, facts)
        dtype = self.theta.dtype
        self.theta = arrays["theta"].astype(dtype)
        self.optimizer.state = arrays["optimizer"].astype(dtype)
        if self.outer is not None:
            self.outer.state = arrays["outer"].astype(dtype)
        self.losses = arrays["losses"].tolist()
        self.epoch, self.first, self.ended = (facts[name] for name in ("epoch", "first", "ended"))


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
        self.accumulates = getattr(objective, "accumulates", False) and optimizer.gathers()

    def __getstate__(self) -> dict:
        # The driver's optimizer state is not the visits': those begin with their own.
        own = {"optimizer": _stateless(self.optimizer), "objective": copy(self.objective)}
        return {**self.__dict__, **own}

    def __call__(
        self, sent: np.ndarray, task: tuple[int, int], partition: int, rows: Rows, state: Any
    ) -> Answer:
        # By a copy, so that nothing is left of it in the objective or the optimizer for the next.
        return copy(self)._visit(sent, task, partition, rows, state)

    def _visit(
        self, sent: np.ndarray, task: tuple[int, int], partition: int, rows: Rows, state: Any
    ) -> Answer:
        epoch, first = task
        # Chains that go on from step to step: a list of them, or of none.
        chains: list[Any] = []
        if getattr(self.objective, "persistent", False):
            chains = [self._chains(sent[: self.objective.size], partition, state)]
        visit = self._gradient if self.synchronous else self._walk
        answer = visit(sent, epoch, first, partition, rows, chains)
        if not chains:
            return answer
        objective: Any = self.objective
        return answer._replace(state=objective.state(*chains))

    def _chains(self, theta: np.ndarray, partition: int, state: Any) -> Any:
        """Return the partition's chains as its last visit left them, or new ones."""
        objective: Any = self.objective
        # No step of the first epoch has this number.
        random = self._generator(0, partition, self.steps + 1)
        return objective.chains(state, self.settings.batch, theta, random)

    def _gradient(
        self, theta: np.ndarray, epoch: int, step: int, partition: int, rows: Rows, chains: list
    ) -> Answer:
        # Zeros, which stay where there are more steps than rows.
        out: np.ndarray = np.zeros(self.objective.size, self.objective.dtype)
        chunk = next(self._chunks(rows, self._order(epoch, partition), step, step + 1))
        random = self._random(epoch, partition, step)
        loss, used = self._evaluate(theta, chunk, out, random, chains)
        return Answer(float(used), out, loss)

    def _evaluate(
        self,
        theta: np.ndarray,
        chunk: Rows,
        out: np.ndarray,
        random: np.random.Generator | None,
        chains: list,
    ) -> tuple[float, int]:
        """Write a chunk's gradient into `out`; return its loss and how many rows it stands for.

        Loss and gradient are means over the chunk's weight, and some chunks weigh more than
        others: what makes their sum over an epoch the weighted mean is this factor.
        """
        loss, weight = self.objective.gradient(theta, chunk, out, random, *chains)
        used = chunk.length
        if chunk.weights is not None and used:
            factor = weight / (self.mean_weight * used)
            out *= factor
            loss *= factor
        return loss, used

    def _walk(
        self, sent: np.ndarray, epoch: int, first: int, partition: int, rows: Rows, chains: list
    ) -> Answer:
        """Take the round's steps on this block alone."""
        objective, optimizer = self.objective, self.optimizer
        result = np.array(sent)
        theta = result[: objective.size]
        optimizer.start(objective.size, objective.dtype)
        if self.carries:
            optimizer.state = result[objective.size :].reshape(optimizer.state.shape)
        out: np.ndarray = np.empty(objective.size, objective.dtype)
        loss, used = 0.0, 0
        last = min(first + self.settings.length(epoch, self.steps), self.steps)
        chunks = self._chunks(rows, self._order(epoch, partition), first, last)
        for step, chunk in enumerate(chunks, first):
            random = self._random(epoch, partition, step)
            if chunk.length:
                count = epoch * self.steps + step
                loss += chunk.length * self._descend(theta, chunk, out, random, chains, count)
                used += chunk.length
        optimizer.settle()
        return Answer(float(used), result, loss / used if used else 0.0)

    def _descend(
        self,
        theta: np.ndarray,
        chunk: Rows,
        out: np.ndarray,
        random: np.random.Generator | None,
        chains: list,
        count: int,
    ) -> float:
        """Take one step, in place, on a chunk that has rows; return its loss."""
        objective: Any = self.objective
        progress = count / (self.settings.epochs * self.steps)
        if chunk.weights is None and self.accumulates:
            scale = self.optimizer.gather(progress)
            move = self.optimizer.state[0]
            loss, _ = objective.gradient(theta, chunk, move, random, *chains, scale=scale)
            self.penalty.add_gradient(theta, move, scale)
            self.optimizer.follow(theta)
        else:
            loss, _ = self._evaluate(theta, chunk, out, random, chains)
            self.penalty.add_gradient(theta, out)
            self.optimizer.step(theta, out, progress, count)
        _project(objective, theta)
        return loss

    def _order(self, epoch: int, partition: int) -> np.ndarray:
        """Return the order in which an epoch visits a partition's chunks."""
        return self._generator(epoch, partition).permutation(self.steps)

    def _chunks(self, rows: Rows, order: np.ndarray, first: int, last: int) -> Iterator[Rows]:
        """Yield the chunks of steps `first` up to `last`, some announced before their turn.

        All `steps` chunks are of nearly equal size.
        """
        bounds = np.arange(self.steps + 1) * rows.length // self.steps
        spans = [(int(bounds[number]), int(bounds[number + 1])) for number in order[first:last]]
        announce, ahead = rows.announce, 0
        if announce is not None:
            chunk_bytes = rows.features.strides[0] * rows.length // self.steps
            ahead = min(max(AHEAD_BYTES // max(chunk_bytes, 1), 1), 64)
            for span in spans[:ahead]:
                announce(*span)
        for place, span in enumerate(spans):
            if announce is not None and place + ahead < len(spans):
                announce(*spans[place + ahead])
            yield rows.between(*span)

    def _random(self, epoch: int, partition: int, step: int) -> np.random.Generator | None:
        if not getattr(self.objective, "stochastic", False):
            return None
        return self._generator(epoch, partition, step + 1)

    def _generator(self, *place: int) -> np.random.Generator:
        """Return a generator that depends on the seed and the place alone."""
        entropy = np.random.SeedSequence((self.settings.seed % 2**64, *place))
        return np.random.Generator(np.random.SFC64(entropy))


def _project(objective: Objective, theta: np.ndarray) -> None:
    """Bring parameters back, in place, to where an objective wants them that says so."""
    project = getattr(objective, "project", None)
    if project is not None:
        project(theta)


def _stateless(optimizer: Optimizer) -> Optimizer:
    bare = object.__new__(type(optimizer))
    bare.__dict__.update({k: v for k, v in optimizer.__dict__.items() if k != "state"})
    return bare
