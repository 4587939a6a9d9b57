"""The core for the pyspark shell: a network, an RDD, one call."""

from __future__ import annotations

import copy

import numpy as np
from pyspark import RDD
from pyspark.sql import SparkSession

from sparknn.blocks import pack
from sparknn.cluster import Cluster
from sparknn.network import Network
from sparknn.optimizers import SGD, Optimizer
from sparknn.packing import Source
from sparknn.rows import Layout
from sparknn.training import Fitted, Minibatch, fit_minibatch

__all__ = ["train"]


def train(
    network: Network,
    data: RDD,
    optimizer: Optimizer | None = None,
    epochs: int = 10,
    batch: int = 128,
    steps_per_round: int = 0,
    partitions: int | None = None,
    seed: int = 1,
    start: np.ndarray | None = None,
    penalty: float = 0.0,
) -> Fitted:
    """Train a network on an RDD: the core, without DataFrames and params.

    Parameters
    ----------
    network : Network
    data : RDD of (label, features) pairs or LabeledPoints
        A label is a class 0..K-1, or, for the losses "sigmoid" and "squared" with several units,
        a sequence of that many numbers.
    optimizer : Optimizer, optional
        By default SGD with step size 0.03.
    epochs, batch, steps_per_round, seed
        See `Minibatch`.
    partitions : int, optional
        By default one per core, or fewer where there are few rows.
    start : array of (size,), optional
        Initial parameters; by default drawn with `seed`.
    penalty : float, default 0
        Strength of the L2 penalty on the weights.

    Returns
    -------
    Fitted
        `fitted.theta` goes into `network.outputs(theta, features)`.

    Raises
    ------
    ValueError
        If `epochs`, `batch` or `steps_per_round` is out of range.
    InvalidDataError
        If rows do not fit the network, are not finite, or there are none.
    DivergenceError
        If the loss is not finite after an epoch.
    """
    if epochs < 0 or batch < 1 or steps_per_round < 0:
        raise ValueError(
            "epochs and steps_per_round must be at least 0 and batch at least 1, got "
            f"{epochs}, {steps_per_round} and {batch}"
        )
    units = network.layers[-1]
    labelled = network.loss.name == "softmax" or (network.loss.classifies and units == 1)
    layout = Layout(
        targets=("label",) if labelled else tuple(f"label[{unit}]" for unit in range(units)),
        classes=max(units, 2) if labelled else None,
        width=network.layers[0],
    )
    cluster = Cluster(SparkSession.builder.getOrCreate())

    def fit() -> Fitted:
        source = Source(layout, compare=True, seed=seed)
        with pack(cluster, data, source, partitions) as blocks:
            return fit_minibatch(
                blocks,
                network,
                network.penalty(penalty),
                copy.copy(optimizer) if optimizer else SGD(0.03),
                network.initial(seed) if start is None else start,
                Minibatch(epochs, batch, steps_per_round, seed),
                "network",
            )

    return cluster.run(fit)
