"""Targets in units of their own deviation, so that step sizes and penalties suit any target.

A network learns (target - mean) / deviation. Its last layer, which is linear, takes the scaling
back afterwards: what is left is a plain network that predicts targets as they were given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparknn.losses import Loss

__all__ = ["ScaledLoss", "Scaling"]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Where targets have their mean, and how far they spread.

    mean, deviation: (targets,) float64; a deviation of zero, of a constant, counts as one.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def __post_init__(self) -> None:
        spread = np.where(self.deviation > 0, self.deviation, 1.0)
        object.__setattr__(self, "deviation", spread)

    def raw(self, weights: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a last layer that predicts targets, from one that predicts scaled ones.

        weights: (inputs, targets). biases: (targets,).
        """
        return weights * self.deviation, biases * self.deviation + self.mean

    def scaled(self, weights: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a last layer that predicts scaled targets: the inverse of `raw`."""
        return weights / self.deviation, (biases - self.mean) / self.deviation


class ScaledLoss(Loss):
    """Another loss, of linear units, on scaled targets; targets are given as they are."""

    classifies = False

    def __init__(self, loss: Loss, scaling: Scaling):
        self.name, self.loss, self.scaling = loss.name, loss, scaling

    def value_and_delta(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        # In float64: a float32 difference of large targets would be scaled up with its error.
        scaled = (targets - self.scaling.mean) / self.scaling.deviation
        return self.loss.value_and_delta(scores, scaled)

    def outputs(self, scores: np.ndarray) -> None:
        self.loss.outputs(scores)
