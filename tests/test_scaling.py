"""Scaled targets: gradients, and the way back to plain parameters."""

from __future__ import annotations

import numpy as np
import pytest

from sparknn.linear import LinearObjective
from sparknn.losses import loss as loss_named
from sparknn.network import Network
from sparknn.objective import Rows
from sparknn.scaling import ScaledLoss, Scaling

SCALING = Scaling(np.array([5000.0, -3.0]), np.array([800.0, 0.01]))


def rows_of(count: int) -> Rows:
    random = np.random.default_rng(4)
    targets = SCALING.mean + 2 * SCALING.deviation * random.standard_normal((count, 2))
    return Rows(random.standard_normal((count, 3)), targets, random.random(count) + 0.5)


def objectives(loss: str) -> list:
    scaled = ScaledLoss(loss_named(loss), SCALING)
    linear = LinearObjective(np.array([1.0, 0, 2]), np.array([1.0, 2, 3]), 2, True, scaled)
    return [Network([3, 4, 2], "tanh", scaled, dtype=np.float64), linear]


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber"])
@pytest.mark.parametrize("kind", [0, 1], ids=["network", "linear"])
def test_the_gradient_is_that_of_the_loss_of_scaled_targets(loss: str, kind: int) -> None:
    objective, rows = objectives(loss)[kind], rows_of(40)
    theta = np.random.default_rng(5).normal(0, 0.5, objective.size)
    out, scratch = np.empty(objective.size), np.empty(objective.size)
    value, weight = objective.gradient(theta, rows, out)
    assert weight == pytest.approx(rows.weights.sum())
    step = 1e-6
    for place in range(objective.size):
        moved = [theta.copy(), theta.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (objective.gradient(each, rows, scratch)[0] for each in moved)
        assert out[place] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-7)
    given = rows._replace(targets=(rows.targets - SCALING.mean) / SCALING.deviation)
    objective.loss = loss_named(loss)
    assert objective.gradient(theta, given, scratch)[0] == pytest.approx(value, rel=1e-12)


def test_the_last_layer_takes_the_scaling_back() -> None:
    random = np.random.default_rng(6)
    inputs, weights, biases = (random.standard_normal(shape) for shape in [(7, 4), (4, 2), 2])
    raw = SCALING.raw(weights, biases)
    expected = (inputs @ weights + biases) * SCALING.deviation + SCALING.mean
    np.testing.assert_allclose(inputs @ raw[0] + raw[1], expected, rtol=1e-12)
    for found, given in zip(SCALING.scaled(*raw), (weights, biases), strict=True):
        np.testing.assert_allclose(found, given, rtol=1e-9)


def test_a_constant_target_is_only_shifted() -> None:
    scaling = Scaling(np.array([7.0]), np.array([0.0]))
    targets, scores = np.full((3, 1), 7.0), np.array([[0.0], [1.0], [-2.0]])
    losses = ScaledLoss(loss_named("squared"), scaling).value_and_delta(scores, targets)
    assert losses.tolist() == [0, 0.5, 2]


def test_float32_scores_are_told_apart_from_large_targets() -> None:
    """Targets a few of their last digits apart are scaled in float64, not rounded again."""
    targets = np.array([[2**23], [2**23 + 1.0]], np.float32)
    scaling = Scaling(np.array([2**23 + 0.5]), np.array([0.5]))
    scores = np.zeros((2, 1), np.float32)
    ScaledLoss(loss_named("squared"), scaling).value_and_delta(scores, targets)
    assert scores.ravel().tolist() == [1, -1]
