"""Greedy training of a deep belief network, layer by layer, on blocks that grow on each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame

from sparknn.blocks import Blocks
from sparknn.boltzmann import Machine, Stack, Up
from sparknn.cluster import Cluster
from sparknn.feature.rbm import RBMModel
from sparknn.mapping import mapped
from sparknn.training import Checkpoints, Fit, Fitted, HeldOut, description_of, train_fits

__all__ = ["Stages", "pretrained", "stack_of"]


class Stages:
    """A fit in several stages: each one's state is saved in a directory of its own.

    A stage that is complete leaves its last state until all of them are, so that a fit that was
    killed goes on in the stage where it was.
    """

    def __init__(self, cluster: Cluster, estimator: Any):
        self.cluster, self.estimator = cluster, estimator
        self._begun: list[Checkpoints] = []

    def train(self, blocks: Blocks, fit: Fit, name: str, stage: str, held: Blocks | None) -> Fitted:
        """Train one stage; `held` are held-out rows that tell when to stop, or None."""
        estimator = self.estimator
        watched = None if held is None else HeldOut(held, estimator.getPatience(), blocks)
        deterministic = estimator.getDeterministic()
        checkpoints = self._checkpoints(blocks, stage)
        return train_fits(blocks, [fit], name, deterministic, watched, checkpoints)[0]

    def complete(self) -> None:
        """Remove what the stages have left."""
        for checkpoints in self._begun:
            checkpoints.clear()

    def _checkpoints(self, blocks: Blocks, stage: str) -> Checkpoints | None:
        estimator = self.estimator
        if not estimator.isDefined("checkpointDir") or estimator.getCheckpointInterval() < 1:
            return None
        self._begun.append(
            Checkpoints(
                self.cluster,
                f"{estimator.getCheckpointDir().rstrip('/')}/{stage}",
                estimator.getCheckpointInterval(),
                {**estimator._settings(), **description_of(blocks)},
                stage=True,
            )
        )
        return self._begun[-1]


class _Level(NamedTuple):
    """The rows that a layer is trained on, and those held out, if any."""

    rows: Blocks
    held: Blocks | None

    def mapped(self, stack: ExitStack, function: Callable, name: str) -> _Level:
        """Return the rows of the next layer; they are closed with `stack`."""
        held = None if self.held is None else mapped(self.held, function, name)
        if held is not None:
            stack.enter_context(held)
        return _Level(stack.enter_context(mapped(self.rows, function, name)), held)


def pretrained(
    estimator: Any, stages: Stages, blocks: Blocks, held: Blocks | None, dataset: DataFrame
) -> list[RBMModel]:
    """Train one machine after the other, each on the hidden means of the one below.

    Parameters
    ----------
    estimator : HasLayerTraining
    stages : Stages
    blocks, held : Blocks
        The rows that train, and those held out, if any.
    dataset : DataFrame
        What they were packed from.

    Returns
    -------
    list of RBMModel
        From the bottom up, each with the outcome of its training.
    """
    rbms, models = estimator._rbms(), []
    level = _Level(blocks, held)
    with ExitStack() as stack:
        for number, rbm in enumerate(rbms):
            name = f"{estimator.NAME}, layer {number + 1} of {len(rbms)}"
            beginning = rbm._begin(level.rows, dataset)
            assert beginning.fit is not None
            fitted = stages.train(
                level.rows, beginning.fit, name, f"layer-{number + 1}", level.held
            )
            model = rbm._copyValues(beginning.finish(fitted))
            rbm._finished(model, dataset, stages.cluster, 0.0)
            models.append(model)
            if number + 1 == len(rbms):
                break
            below, level = level, level.mapped(stack, Up(model.machine, model.parameters), name)
            if number:
                for each in filter(None, below):
                    each.release()
    return models


def stack_of(models: list[RBMModel]) -> Stack:
    """Return the machines of some RBMs, as numbers."""
    machines: list[Machine] = [model.machine for model in models]
    thetas: list[np.ndarray] = [model.parameters for model in models]
    return Stack(machines, thetas)
