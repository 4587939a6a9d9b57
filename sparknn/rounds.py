"""One round, one Spark job: send parameters, visit every block, add up what comes back.

Sums are taken in float64 in the order of the partitions, never of arrival, so that a round gives
the same bits however its tasks were spread or repeated.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.linalg.blas  # noqa: F401 - SciPy's own library, loaded before it is looked up
from pyspark import RDD, Broadcast
from pyspark.serializers import CloudPickleSerializer

from sparknn.blas import blas_threads
from sparknn.blockfiles import Packed
from sparknn.blocks import Blocks, require_space
from sparknn.cluster import Cluster, unless_stopped
from sparknn.errors import LostBlockError
from sparknn.objective import Rows
from sparknn.workers import hurry, tidy

__all__ = ["Answer", "Outcome", "Rounds", "Runner", "Visitor", "added", "received", "sent"]

logger = logging.getLogger("sparknn")

_serializer = CloudPickleSerializer()

BROADCAST_BYTES = 2**18
"""Size from which parameters travel as a broadcast rather than inside the task."""

ATTEMPTS = 5
"""How often a round is tried for blocks whose files are missing."""


class Answer(NamedTuple):
    """What a visit gives back.

    weight: with which `vector` enters the sum. loss: with the same weight, for the mean loss.
    state: what the driver keeps for this partition and hands to its next visit.
    """

    weight: float
    vector: np.ndarray
    loss: float = 0.0
    state: Any = None


class Visitor(Protocol):
    """What a round does on each block; sent to the executors once a fit."""

    def __call__(
        self, parameters: np.ndarray, task: Any, partition: int, rows: Rows, state: Any, /
    ) -> Answer:
        """Visit the rows of one block. `parameters` is shared: not to be written to."""
        ...


@dataclass
class Outcome:
    """A round's result.

    vector: the weighted sum over the partitions, (size,) float64. weight: the sum of weights.
    loss: the weighted mean loss. compute: seconds of work per core, other: the seconds beside it.
    """

    vector: np.ndarray
    weight: float
    loss: float
    compute: float
    other: float

    @classmethod
    def of(
        cls,
        answers: Sequence[Answer | _Visited],
        total: np.ndarray | None,
        size: int,
        compute: float,
        other: float,
    ) -> Outcome:
        """Return what answers in the order of their partitions come to.

        total: the sum of their vectors as `added` gives it, to stand as (size,) zeros for None.
        """
        weight = sum(each.weight for each in answers if each.weight)
        loss = sum(each.loss * each.weight for each in answers if each.weight)
        vector = np.zeros(size) if total is None else total
        return cls(vector, weight, loss / weight if weight else 0.0, compute, other)


class Runner(Protocol):
    """What runs rounds: `Rounds` as jobs, and others where all rows are at hand.

    states: by partition what its last visit left.
    """

    states: dict[int, Any]

    def run(self, parameters: np.ndarray, task: Any, description: str) -> Outcome:
        """Visit every block once with `parameters`, (size,), and the visitor's `task`."""
        ...


class _Visited(NamedTuple):
    """An `Answer` on its way to the driver.

    `weight` None says that the file was missing, `problem` why the block could not be packed again.
    """

    partition: int
    weight: float | None = None
    vector: np.ndarray | None = None
    loss: float = 0.0
    state: Any = None
    seconds: float = 0.0
    checksum: int = 0
    problem: str | None = None


class Rounds:
    """Runs rounds of one visitor over a packed data set.

    Parameters
    ----------
    blocks : Blocks
    visitor : Visitor
    deterministic : bool, default False
        Raise LostBlockError where a block that had to be packed again came out different, instead
        of a warning.
    """

    def __init__(self, blocks: Blocks, visitor: Visitor, deterministic: bool = False):
        self.blocks = blocks
        self.cluster = blocks.cluster
        self.deterministic = deterministic
        self.states: dict[int, Any] = {}
        self._visits = visitor
        self._checksums = [packed.block.checksum for packed in blocks.packed]

    @cached_property
    def _visitor(self) -> Broadcast:
        # As Spark sends functions, so that what is defined in a shell can be part of it.
        return self.cluster.context.broadcast(_serializer.dumps(self._visits))

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, kind, error, trace) -> None:
        # There is none where no round was run.
        if "_visitor" in vars(self):
            with unless_stopped("a broadcast"):
                self._visitor.destroy()

    def run(self, parameters: np.ndarray, task: Any, description: str) -> Outcome:
        """Visit every block once with `parameters`, (size,), and the visitor's `task`.

        Raises LostBlockError when a block stays missing after it was packed anew several times, and
        DiskSpaceError when an executor has no room for that.
        """
        self.cluster.checkpoint()
        began = time.perf_counter()
        size = parameters.nbytes
        with self.cluster.described(description), sent(self.cluster, parameters, size) as way:
            visited, total = self._visit(way, task, size)
        require_space(visited)
        slots = min(self.cluster.cores, len(self._checksums))
        compute = sum(v.seconds for v in visited) / slots
        for v in visited:
            self._look_at_checksum(v)
            if v.state is not None:
                self.states[v.partition] = v.state
        other = time.perf_counter() - began - compute
        return Outcome.of(visited, total, len(parameters), compute, other)

    def _visit(
        self, parameters: np.ndarray | Broadcast, task: Any, size: int
    ) -> tuple[list[_Visited], np.ndarray | None]:
        """Return every partition's answer and the sum of their vectors."""
        visit = _Visit(self._visitor, parameters, task, self.cluster.threads)
        # A quarter of the limit leaves room for states and float64 vectors of float32 parameters.
        if 2 * size * len(self._checksums) > self.cluster.result_limit / 4:
            return self._visit_in_slices(visit)
        partitions = list(range(len(self._checksums)))
        visited: dict[int, _Visited] = {}
        job = self._with_states().mapPartitionsWithIndex(visit)
        for attempt in range(ATTEMPTS):
            answers = self.cluster.context.runJob(job, list, partitions)
            visited.update((answer.partition, answer) for answer in answers)
            partitions = [p for p in partitions if visited[p].weight is None]
            if not partitions:
                break
            self._pack_again(partitions, attempt)
        in_order = [visited[partition] for partition in sorted(visited)]
        total = added(in_order)
        return [v._replace(vector=None) for v in in_order], total

    def _with_states(self) -> RDD:
        """Return the descriptors, each paired with its own partition's state or None.

        An element of `parallelize` is sent with the task of its partition and with no other.
        """
        if not self.states:
            return self.blocks.rdd.map(_stateless)
        count = len(self._checksums)
        states = [self.states.get(partition) for partition in range(count)]
        return self.blocks.rdd.zip(self.cluster.context.parallelize(states, count))

    def _visit_in_slices(self, visit: _Visit) -> tuple[list[_Visited], np.ndarray | None]:
        """Add the vectors up on the executors, each reducer a slice, for the driver to join."""
        slices = max(2, self.cluster.cores)
        paired = self._with_states()
        pieces = paired.mapPartitionsWithIndex(visit).mapPartitions(_Cut(slices))
        for attempt in range(ATTEMPTS):
            sums = pieces.partitionBy(slices, int).mapPartitions(_sum_slice).collect()
            visited = sums[0][1]
            missing = [v.partition for v in visited if v.weight is None]
            if not missing:
                break
            # The sums lack these partitions' share, so the whole round is run again.
            self._pack_again(missing, attempt)
            pieces = paired.mapPartitionsWithIndex(visit).mapPartitions(_Cut(slices))
        parts = [part for part, _ in sums if part is not None]
        return visited, np.concatenate(parts) if parts else None

    def _pack_again(self, partitions: list[int], attempt: int) -> None:
        """Drop descriptors whose files are missing, so that Spark packs those blocks anew."""
        if attempt + 1 == ATTEMPTS:
            raise LostBlockError(
                f"the blocks of partitions {partitions} are missing again after {ATTEMPTS} "
                "attempts: is something deleting files under spark.local.dir?"
            )
        logger.warning("packing the blocks of partitions %s again: files missing", partitions)
        # What blocks were made from may be missing, too, which only a second miss shows.
        self.blocks.evict(partitions, sources=attempt > 0)
        # After the eviction, so that whoever deletes files has the time to finish doing so.
        time.sleep(0.2 * attempt)

    def _look_at_checksum(self, visited: _Visited) -> None:
        known = self._checksums[visited.partition]
        if visited.checksum == known:
            return
        message = (
            f"partition {visited.partition} was packed again and its rows came out different: the "
            "input's own steps are not deterministic (an unordered shuffle, a random column), so "
            "this fit cannot be repeated bit for bit; cache or save the input before training"
        )
        if self.deterministic:
            raise LostBlockError(message)
        logger.warning(message)
        self._checksums[visited.partition] = visited.checksum


class _Visit:
    """The task of a round."""

    def __init__(
        self,
        visitor: Broadcast,
        parameters: np.ndarray | Broadcast,
        task: Any,
        threads: int,
    ):
        self.visitor, self.parameters, self.task = visitor, parameters, task
        self.threads = threads

    def __call__(self, partition: int, paired: Iterator[tuple[Packed, Any]]) -> Iterator[_Visited]:
        hurry()
        # The iterator is read to its end: a worker that leaves some is thrown away by Spark.
        for item, state in list(paired):
            if item.problem:
                yield _Visited(partition, 0.0, problem=item.problem)
                return
            rows = item.block.open()
            if rows is None:
                yield _Visited(partition)
                return
            if not item.block.rows:
                break
            parameters = received(self.parameters)
            visitor = _serializer.loads(self.visitor.value)
            began = time.perf_counter()
            with blas_threads(self.threads):
                answer = visitor(parameters, self.task, partition, rows, state)
            seconds = time.perf_counter() - began
            tidy()
            yield _Visited(
                partition, **answer._asdict(), seconds=seconds, checksum=item.block.checksum
            )
            return
        yield _Visited(partition, 0.0)


@contextmanager
def sent(cluster: Cluster, value: Any, size: int) -> Iterator[Any]:
    """Give what `received` makes the value of in a task.

    A few bytes go with the task, where they are sooner there, and many once to each host.
    """
    if size < BROADCAST_BYTES:
        yield value
        return
    broadcast = cluster.context.broadcast(value)
    try:
        yield broadcast
    finally:
        with unless_stopped("a broadcast"):
            broadcast.destroy()


def received(way: Any) -> Any:
    """Return the value that was `sent`."""
    return way.value if isinstance(way, Broadcast) else way


def _stateless(packed: Packed) -> tuple[Packed, None]:
    return packed, None


def added(answers: Iterable[Answer | _Visited]) -> np.ndarray | None:
    """Add up vectors, each times its weight, in float64 and in their order; None where no one's."""
    total = None
    for answer in answers:
        if not answer.weight or answer.vector is None:
            continue
        part = answer.vector.astype(np.float64)
        part *= answer.weight
        if total is None:
            total = part
        else:
            total += part
    return total


class _Cut:
    """Cuts the vectors of a round into slices, keyed by their number."""

    def __init__(self, slices: int):
        self.slices = slices

    def __call__(self, answers: Iterator[_Visited]) -> Iterator[tuple[int, _Visited]]:
        for visited in answers:
            vector = visited.vector
            parts = [] if vector is None else np.array_split(vector, self.slices)
            for number in range(self.slices):
                part = parts[number] if parts else None
                state = visited.state if number == 0 else None
                yield number, visited._replace(vector=part, state=state)


def _sum_slice(
    keyed: Iterator[tuple[int, _Visited]],
) -> Iterator[tuple[np.ndarray | None, list[_Visited]]]:
    """Add up one slice in the order of the partitions; pass on what came with it."""
    in_order = sorted((visited for _, visited in keyed), key=lambda visited: visited.partition)
    yield added(in_order), [visited._replace(vector=None) for visited in in_order]
