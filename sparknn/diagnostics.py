"""What a fit tells of itself, whatever it fitted: where the time went, whether rows sufficed."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pyspark.ml.linalg import VectorUDT
from pyspark.ml.param import Params
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparknn.blas import blas_threads
from sparknn.cluster import Cluster
from sparknn.rows import LARGEST
from sparknn.schema import column_type, numeric_column, quoted
from sparknn.training import Fitted, Round

__all__ = [
    "Diagnostics",
    "Timing",
    "Training",
    "columns_of",
    "training_of",
    "valid_features",
    "warn_of_few_rows",
]

logger = logging.getLogger("sparknn")

ROWS_PER_PARAMETER = 10
"""Rule of thumb: with fewer rows a model tends to learn its training rows by heart."""


class Timing(NamedTuple):
    """Where a fit's seconds went.

    packing: reading the rows and writing blocks, and everything else outside the rounds.
    compute: work on the blocks, per core. overhead: the rest of the rounds: Spark's jobs, waiting
    for the slowest task, sums and steps on the driver.
    """

    packing: float
    compute: float
    overhead: float


@dataclass(frozen=True)
class Training:
    """What a fit leaves behind for its summary.

    dataset: the rows, a reference. iterations: as MLlib counts them. packing: seconds outside the
    rounds. cores: tasks that run at a time. columns: the names of columns at the time. operations:
    floating-point work per row and pass: 6 per weight, 4 in the first layer, whose input needs no
    gradient.
    """

    dataset: DataFrame
    fitted: Fitted
    iterations: int
    packing: float
    cores: int
    columns: dict[str, Any]
    operations: int

    @cached_property
    def passes(self) -> int:
        """Times that the rows were gone through."""
        return len({each.epoch for each in self.fitted.rounds})


class Diagnostics:
    """What the summary of a training tells beside MLlib's numbers."""

    _training: Training

    @property
    def totalIterations(self) -> int:
        """Iterations of a full-batch solver, as MLlib counts them; epochs of a minibatch one."""
        return self._training.iterations

    @property
    def reason(self) -> str:
        """Why the training ended."""
        return self._training.fitted.reason

    @property
    def history(self) -> list[Round]:
        """One entry a round: epoch, loss, seconds, rows to each step."""
        return self._training.fitted.rounds

    @property
    def timing(self) -> Timing:
        """Seconds of packing, compute and job overhead."""
        fitted = self._training.fitted
        compute = sum(each.compute for each in fitted.rounds)
        return Timing(self._training.packing, compute, max(0.0, fitted.seconds - compute))

    @property
    def rowsPerSecond(self) -> float:
        """Rows gone through per second of training, packing not counted; 0 without any round."""
        fitted = self._training.fitted
        return fitted.rows * self._training.passes / fitted.seconds if fitted.seconds else 0.0

    @property
    def gflops(self) -> float:
        """Floating-point operations a second, in 1e9, over all cores, packing not counted.

        6 per weight, row and pass, 4 in the first layer; steps and activations are not counted.
        """
        return self.rowsPerSecond * self._training.operations / 1e9

    @cached_property
    def sgemmGflops(self) -> float:
        """What all cores would do in float32 matrix products, operations a second in 1e9.

        Measured when first asked for, in a tenth of a second on the driver alone, with as many
        threads as a task of the fit had; then multiplied by the tasks that run at a time. So it
        is right where the executors' processors are the driver's.
        """
        return self._training.cores * _sgemm_rate(self._training.fitted.threads) / 1e9

    @property
    def sgemmShare(self) -> float:
        """`gflops` as a share of `sgemmGflops`."""
        return self.gflops / self.sgemmGflops


def training_of(
    model: Any, dataset: DataFrame, cluster: Cluster, packing: float, minibatch: bool
) -> Training:
    """Return what a fit leaves behind; `dataset` are the rows that it trained on."""
    fitted = model.training
    # A history of l-bfgs begins with the value at the start; MLlib counts what follows.
    steps = max(0, len(fitted.objective_history) - (not minibatch))
    columns, (_, operations) = columns_of(model), model._size()
    return Training(dataset, fitted, steps, packing, cluster.cores, columns, operations)


def valid_features(dataset: DataFrame, model: Any, weight: str | None) -> Column:
    """Return whether a row's features and weight are such as a fit trains on."""
    features = model.getFeaturesCol()
    values = F.col(quoted(features))
    width = F.size(values)
    if isinstance(column_type(dataset, features), VectorUDT):
        vector = F.unwrap_udt(values)
        values = vector["values"]
        width = F.coalesce(vector["size"], F.size(values))
    valid = width == model.numFeatures
    valid &= F.forall(values, lambda value: F.abs(value) <= LARGEST)
    if weight:
        valid &= numeric_column(dataset, weight).between(0, LARGEST)
    return valid


def columns_of(model: Params) -> dict[str, Any]:
    """Return the params that name columns, as they are."""
    return {
        param.name: model.getOrDefault(param)
        for param in model.params
        if param.name.endswith(("Col", "Cols")) and model.isDefined(param)
    }


def warn_of_few_rows(instance: Params, rows: int, parameters: int) -> None:
    """Log a warning where there are fewer than ten rows per parameter."""
    if rows < ROWS_PER_PARAMETER * parameters:
        logger.warning(
            "%s: %d rows for %d parameters, and the rule of thumb asks for %d rows per parameter: "
            "compare the accuracy on held-out rows; more rows, a smaller model or regParam help",
            type(instance).__name__,
            rows,
            parameters,
            ROWS_PER_PARAMETER,
        )


def _sgemm_rate(threads: int) -> float:
    """Return a float32 matrix product's operations a second on this machine: the best of five."""
    size = 1024
    a = np.ones((size, size), np.float32)
    out = np.empty_like(a)
    seconds = []
    with blas_threads(threads):
        for _ in range(5):
            began = time.perf_counter()
            np.dot(a, a, out=out)
            seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)
