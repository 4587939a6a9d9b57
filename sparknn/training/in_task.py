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
    """

    def __init__(self, blocks: Blocks, name: str):
        self.blocks, self.name, self.cluster = blocks, name, blocks.cluster
        self.cores = self.cluster.cores
        # A task on another machine would not find the files.
        self.possible = self.cluster.local and blocks.bytes <= MOST_BYTES

    def suit(self, fits: Sequence[Fit]) -> bool:
        """Return whether the fits' next rounds are sooner done in tasks than as jobs.

        Rounds share the work out evenly; of fits, the largest share may be larger than that.
        """
        if not self.possible or sum(fit.objective.size for fit in fits) > MOST_PARAMETERS:
            return False
        work = [fit.work for fit in fits]
        slots = min(self.cores, sum(map(bool, self.blocks.partition_rows)))
        largest = max(sum(work[number] for number in group) for group in self._dealt(work))
        return largest - sum(work) / slots < A_JOB

    def advance(self, fits: Sequence[Fit], description: str) -> bool:
        """Take all fits further, to their end or for some seconds; return whether that was done.

        It was not, and will not be tried again, if a task did not find all block files.
        """
        self.cluster.checkpoint()
        began = time.perf_counter()
        groups = self._dealt([fit.work for fit in fits])
        found = self._advanced(
            [[fits[number] for number in group] for group in groups], description
        )
        advanced = [each for each in found if each is not None]
        if len(advanced) < len(found):
            logger.debug("a task did not find all block files: going on with a job for each round")
            self.possible = False
            return False
        seconds = time.perf_counter() - began
        for group, each in zip(groups, advanced, strict=True):
            for number, (arrays, facts) in zip(group, each.states, strict=True):
                fits[number].restore(arrays, facts)
                _add_overhead(fits[number], (seconds - each.seconds) / len(group))
        return True

    def _advanced(self, groups: list[list[Fit]], description: str) -> list[_Advanced | None]:
        """Run a task for each group of fits."""
        dumped = [_serializer.dumps(group) for group in groups]
        blocks = [packed.block for packed in self.blocks.packed]
        numbers = self.cluster.context.parallelize(range(len(groups)), len(groups))
        with (
            self.cluster.described(description),
            sent(self.cluster, dumped, sum(map(len, dumped))) as way,
        ):
            task = _Advance(way, blocks, self.name, self.cluster.threads, SECONDS)
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


class _Advanced(NamedTuple):
    """What the fits of a task have come to, and the seconds that it took."""

    states: list[tuple[Arrays, Facts]]
    seconds: float


class _Advance:
    """The task that takes some fits further."""

    def __init__(
        self, groups: Any, blocks: Sequence[Block], name: str, threads: int, seconds: float
    ):
        self.groups, self.blocks, self.name = groups, blocks, name
        self.threads, self.seconds = threads, seconds

    def __call__(self, numbers: Iterator[int]) -> Iterator[_Advanced | None]:
        hurry()
        # The iterator is read to its end: a worker that leaves some is thrown away by Spark.
        for number in list(numbers):
            began = time.perf_counter()
            rows = [block.open() for block in self.blocks]
            found = [each for each in rows if each is not None]
            if len(found) < len(rows):
                yield None
                return
            loop = Loop(_serializer.loads(received(self.groups)[number]), self.name)
            with blas_threads(self.threads):
                _run(loop, _AtHand(found, visitor_of(loop.fits)), began + self.seconds)
            tidy()
            yield _Advanced([fit.state() for fit in loop.fits], time.perf_counter() - began)


def _run(loop: Loop, rounds: _AtHand, deadline: float) -> None:
    """Run rounds until all fits are done, or, past the deadline, where `state` may be taken."""
    active = loop.active
    while active:
        loop.round(rounds, active)
        late = time.perf_counter() > deadline
        active = [n for n in loop.active if not (late and loop.fits[n].between)]


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
