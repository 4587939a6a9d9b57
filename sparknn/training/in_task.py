"""Fits that go on inside tasks, where a round's job would take longer than its visits.

On few rows a round is Spark's job and little else. So each task is given some of the fits and reads
all blocks itself: it runs their rounds, with the sums of `Rounds` and so with the same bits, and
returns what the fits have come to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from pyspark.serializers import CloudPickleSerializer

from sparknn.blas import blas_threads
from sparknn.blockfiles import Block
from sparknn.blocks import Blocks
from sparknn.objective import Rows
from sparknn.rounds import Answer, Outcome, Visitor, added, received, sent
from sparknn.training.fit import Arrays, Facts, Fit
from sparknn.training.held_out import HeldOut, Lookout, Watch, losses_of, monitors_of
from sparknn.training.loop import Loop, visitor_of
from sparknn.workers import hurry, tidy

__all__ = ["InTasks"]

logger = logging.getLogger("sparknn")

_serializer = CloudPickleSerializer()

MOST_BYTES = 2**26
"""Of blocks that every task reads for itself: 64 MB."""

MOST_PARAMETERS = 2**20
"""Of all fits together: their state, at 22 vectors for L-BFGS, goes to the tasks and back."""

A_JOB = 1.5e9
"""Operations that a core gets done in the time of a round's job: some 30 ms at 50 GFLOP/s."""

SECONDS = 4.0
"""After which a task returns, so that progress shows and fits are dealt out anew."""


class InTasks:
    """Takes fits further in tasks of their own.

    Parameters
    ----------
    blocks : Blocks
    name : str
        What the Spark UI calls the model.
    held_out : HeldOut, optional
        What watches all fits that are trained.
    """

    def __init__(self, blocks: Blocks, name: str, held_out: HeldOut | None = None):
        self.blocks, self.name, self.held_out = blocks, name, held_out
        self.cluster = blocks.cluster
        self.cores = self.cluster.cores
        read = blocks.bytes + (0 if held_out is None else held_out.blocks.bytes)
        # A task on another machine would not find the files.
        self.possible = self.cluster.local and read <= MOST_BYTES

    def suit(self, fits: Sequence[Fit]) -> bool:
        """Return whether the fits' next rounds are sooner done in tasks than as jobs.

        Rounds share the work out evenly; of fits, the largest share may be larger than that.
        """
        if not self.possible or sum(fit.objective.size for fit in fits) > MOST_PARAMETERS:
            return False
        work = [fit.work for fit in fits]
        slots = min(self.cores, self.blocks.filled)
        largest = max(sum(work[number] for number in group) for group in self._dealt(work))
        return largest - sum(work) / slots < A_JOB

    def advance(self, loop: Loop, active: list[int]) -> bool:
        """Take the active fits further, to their end or for some seconds; return whether it did.

        It did not, and is not to be tried again, if a task did not find all block files.
        """
        self.cluster.checkpoint()
        began = time.perf_counter()
        dealt = self._dealt([loop.fits[number].work for number in active])
        groups = [self._group(loop, [active[place] for place in places]) for places in dealt]
        found = self._run(groups, loop.text(active))
        advanced = [each for each in found if each is not None]
        if len(advanced) < len(found):
            logger.debug("a task did not find all block files: going on with a job for each round")
            self.possible = False
            return False
        seconds = time.perf_counter() - began
        for group, each in zip(groups, advanced, strict=True):
            members: list[Fit | Watch] = [*group.fits, *group.watches]
            for member, state in zip(members, each.states, strict=True):
                member.restore(*state)
            for fit in group.fits:
                _add_overhead(fit, (seconds - each.seconds) / len(group.fits))
        return True

    def _group(self, loop: Loop, numbers: list[int]) -> _Group:
        watches = [] if self.held_out is None else self.held_out.watches
        return _Group(
            [loop.fits[number] for number in numbers],
            [watches[number] for number in numbers if watches],
        )

    def _run(self, groups: list[_Group], description: str) -> list[_Advanced | None]:
        """Run a task for each group."""
        dumped = [_serializer.dumps(group) for group in groups]
        held = [] if self.held_out is None else _files(self.held_out.blocks)
        most = None if self.held_out is None else self.held_out.most
        numbers = self.cluster.context.parallelize(range(len(groups)), len(groups))
        size = sum(map(len, dumped))
        with self.cluster.described(description), sent(self.cluster, dumped, size) as way:
            task = _Advance(way, _files(self.blocks), held, most, self.name, self.cluster.threads)
            return numbers.mapPartitions(task).collect()

    def _dealt(self, work: Sequence[float]) -> list[list[int]]:
        """Return the numbers of the fits that each task gets, so that all have about as much."""
        groups: list[list[int]] = [[] for _ in range(min(self.cores, len(work)))]
        loads = [0.0] * len(groups)
        for number in sorted(range(len(work)), key=lambda number: -work[number]):
            least = loads.index(min(loads))
            groups[least].append(number)
            loads[least] += work[number]
        return groups


def _add_overhead(fit: Fit, seconds: float) -> None:
    """Count the job's own time to the last of the rounds that it brought."""
    rounds = fit.fitted.rounds
    if rounds:
        rounds[-1] = rounds[-1]._replace(other=rounds[-1].other + seconds)


def _files(blocks: Blocks) -> list[Block]:
    return [packed.block for packed in blocks.packed]


class _Group(NamedTuple):
    """The fits of a task and, where rows are held out, what watches each."""

    fits: list[Fit]
    watches: list[Watch]


class _Advanced(NamedTuple):
    """The states that a group's fits, then its watches, have come to; and the task's seconds."""

    states: list[tuple[Arrays, Facts]]
    seconds: float


class _Advance:
    """The task that takes a group further.

    groups: the groups as they were `sent`. blocks, held: the rows that train, and those held out.
    most: see `HeldOut.most`.
    """

    def __init__(
        self,
        groups: Any,
        blocks: list[Block],
        held: list[Block],
        most: tuple[int, int] | None,
        name: str,
        threads: int,
    ):
        self.groups, self.blocks, self.held, self.most = groups, blocks, held, most
        self.name, self.threads, self.seconds = name, threads, SECONDS

    def __call__(self, numbers: Iterator[int]) -> Iterator[_Advanced | None]:
        hurry()
        # The iterator is read to its end: a worker that leaves some is thrown away by Spark.
        for number in list(numbers):
            began = time.perf_counter()
            rows, held = _opened(self.blocks), _opened(self.held)
            if rows is None or held is None:
                yield None
                return
            fits, watches = _serializer.loads(received(self.groups)[number])
            lookout = self._lookout(watches, rows, held) if watches else None
            rounds = _AtHand(rows, visitor_of(fits))
            with blas_threads(self.threads):
                _run_until(began + self.seconds, Loop(fits, self.name), rounds, lookout)
            tidy()
            states = [member.state() for member in (*fits, *watches)]
            yield _Advanced(states, time.perf_counter() - began)

    def _lookout(self, watches: list[Watch], rows: list[Rows], held: list[Rows]) -> Lookout:
        fits = [watch.fit for watch in watches]
        losses, visitor = _AtHand(held, losses_of(fits)), monitors_of(fits)
        if visitor is None or self.most is None:
            return Lookout(watches, losses)
        monitors = [_AtHand(rows, visitor), _AtHand(held, visitor)]
        return Lookout(watches, losses, list(zip(monitors, self.most)))


def _opened(blocks: list[Block]) -> list[Rows] | None:
    """Return all blocks' rows, or None where a file is missing."""
    opened = [rows for block in blocks if (rows := block.open()) is not None]
    return opened if len(opened) == len(blocks) else None


def _run_until(deadline: float, loop: Loop, rounds: _AtHand, lookout: Lookout | None) -> None:
    """Run rounds, one at least, until all fits are done or the deadline is over."""
    while active := loop.active:
        ended = loop.round(rounds, active)
        if ended and lookout is not None:
            lookout.look(ended, loop.text(ended))
        if time.perf_counter() > deadline:
            break


class _AtHand:
    """Rounds over rows that are all at hand: `Rounds` without Spark, in the order of partitions."""

    def __init__(self, rows: Sequence[Rows], visitor: Visitor):
        self.rows, self.visitor = rows, visitor
        self._filled = [number for number, each in enumerate(rows) if each.length]
        self.states: dict[int, Any] = {}
        self.ended = time.perf_counter()

    def run(self, parameters: np.ndarray, task: Any, description: str) -> Outcome:
        """Visit all rows with `parameters`, (size,), and the visitor's `task`."""
        before, began = self.ended, time.perf_counter()
        answers = [self._visited(parameters, task, partition) for partition in self._filled]
        total = added(answers)
        self.ended = time.perf_counter()
        size, compute = len(parameters), self.ended - began
        return Outcome.of(answers, total, size, compute, began - before)

    def _visited(self, parameters: np.ndarray, task: Any, partition: int) -> Answer:
        state = self.states.get(partition)
        answer = self.visitor(parameters, task, partition, self.rows[partition], state)
        if answer.state is not None:
            self.states[partition] = answer.state
        return answer
