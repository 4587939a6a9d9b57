"""What a training will take, from its sizes alone: parameters, memory, seconds a round."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sparknn.blas import blas_threads
from sparknn.feature import RBM
from sparknn.feature.fine_tuning import FineTuned
from sparknn.network_fit import operations
from sparknn.training import Minibatch

__all__ = ["Shape", "Stage", "multiplication_rate", "round_seconds", "stages_of", "worker_bytes"]

FULL_BATCH_CHUNK = 2048
"""Rows that a full-batch solver goes through at a time."""

EFFICIENCY = 0.7
"""Share of a matrix product's rate that a whole training step reaches: measured, MNIST."""

ROUND_SECONDS = 0.04
"""What Spark takes for a round in which nothing is computed: measured, local mode."""

PARAMETER_SECONDS = 55e-9
"""What sending a parameter out and back adds to a round: measured, 12 million of them."""

WORKER_BYTES = 144 * 2**20
"""A Python worker with its libraries and the batch that it reads: measured while packing."""

MEASURED_SECONDS = 0.05


@dataclass(frozen=True)
class Stage:
    """A training loop of a job: the only one, or a layer's pre-training.

    sizes: of the layers, outermost first. operations: floating-point ones per row and pass.
    passes: at most, in epochs or iterations. minibatch: how rounds go; None where a round is a
    full-batch evaluation. double: computes in float64.
    """

    name: str
    sizes: list[int]
    operations: int
    passes: int
    minibatch: Minibatch | None
    double: bool = False

    @property
    def batch(self) -> int:
        """Rows that one task computes with at a time."""
        return self.minibatch.batch if self.minibatch else FULL_BATCH_CHUNK

    @property
    def parameters(self) -> int:
        """Weights and biases; a machine's visible units have biases, too."""
        inner = sum((inputs + 1) * units for inputs, units in pairwise(self.sizes))
        return inner + (self.sizes[0] if self.name.startswith("RBM") else 0)


@dataclass(frozen=True)
class Shape:
    """How the rows lie: in `partitions` blocks, of which `cores` are visited at a time."""

    rows: int
    partitions: int
    cores: int

    @property
    def block_rows(self) -> int:
        """The rows of a block."""
        return math.ceil(self.rows / self.partitions)

    def rounds(self, stage: Stage) -> float:
        """Return how many rounds a pass over all rows takes, on average where that changes."""
        if stage.minibatch is None:
            return 1.0
        steps = max(1, math.ceil(self.block_rows / stage.batch))
        lengths = [stage.minibatch.length(epoch, steps) for epoch in range(stage.passes)]
        return sum(math.ceil(steps / length) for length in lengths) / max(1, stage.passes)


def stages_of(
    estimator: Any, width: int, outputs: int, hidden: list[int], partitions: int
) -> list[Stage]:
    """Return what an estimator trains, one after the other.

    Parameters
    ----------
    estimator : Estimator
    width, outputs : int
        Features, and classes (for numbers to predict 1).
    hidden : list of int
        Sizes of the hidden layers.
    partitions : int
        Blocks that the rows are in.
    """
    if isinstance(estimator, RBM):
        return [_machine(estimator, width, partitions)]
    stages = []
    if isinstance(estimator, FineTuned):
        machines = zip(estimator._rbms(), [width, *hidden[:-1]], strict=True)
        stages = [_machine(rbm, visible, partitions) for rbm, visible in machines]
    linear = not hidden and not estimator.hasParam("layers")
    # Two classes share one margin in a logistic regression.
    sizes = [width, *hidden, 1 if linear and outputs == 2 else outputs]
    minibatch = estimator._minibatch() if estimator._is_minibatch else None
    name = "fine-tuning" if stages else "training"
    double = linear and minibatch is None
    passes = estimator.getMaxIter()
    return [*stages, Stage(name, sizes, operations(sizes), passes, minibatch, double)]


def _machine(rbm: RBM, visible: int, partitions: int) -> Stage:
    """Return the training of a restricted Boltzmann machine.

    Per weight and row: 2 for the hidden units, 4 for each step of Gibbs sampling, 4 for the two
    sums of products (Hinton, 2002).
    """
    sizes = [visible, rbm.getNumHidden()]
    count = (6 + 4 * rbm.getCdSteps()) * sizes[0] * sizes[1]
    name = f"RBM {sizes[0]}-{sizes[1]}"
    return Stage(name, sizes, count, rbm.getMaxIter(), rbm._rounds(partitions))


def worker_bytes(stage: Stage) -> int:
    """Return the memory of a Python worker in a round: parameters, gradient, units' values."""
    number = 8 if stage.double else 4
    vectors = 4 * 8 * stage.parameters
    return WORKER_BYTES + vectors + 3 * number * stage.batch * sum(stage.sizes)


def round_seconds(stage: Stage, shape: Shape, rate: float) -> float:
    """Return about how long a round takes; rate: operations per second of a core."""
    waves = math.ceil(shape.partitions / shape.cores)
    rows = shape.block_rows / shape.rounds(stage)
    work = rows * stage.operations * waves / (EFFICIENCY * rate)
    return ROUND_SECONDS + PARAMETER_SECONDS * stage.parameters + work


def multiplication_rate(stage: Stage, threads: int) -> float:
    """Measure the operations per second of a stage's largest matrix product, on this machine."""
    inputs, units = max(pairwise(stage.sizes), key=lambda pair: pair[0] * pair[1])
    # Enough to tell the rate, even of a layer with millions of weights.
    inputs, units = min(inputs, 4096), min(units, 4096)
    kind = np.float64 if stage.double else np.float32
    rows, weights = np.ones((stage.batch, inputs), kind), np.ones((inputs, units), kind)
    out = np.empty((stage.batch, units), kind)
    with blas_threads(threads):
        np.matmul(rows, weights, out=out)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < MEASURED_SECONDS:
            np.matmul(rows, weights, out=out)
            count += 1
        seconds = time.perf_counter() - began
    return 2 * count * stage.batch * inputs * units / seconds
