"""Losses and their derivatives against the textbook's formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, huber, log_expit, logsumexp, softmax

from sparknn.losses import LOSSES, loss, one_hot

SCORES = np.random.default_rng(0).normal(0, 3, (40, 4))
LABELS = np.random.default_rng(1).integers(0, 4, (40, 1)).astype(np.float64)
PER_UNIT = ["sigmoid", "squared", "absolute", "huber", "sigmoid-squared"]
VALUES = np.random.default_rng(2).uniform(0, 1, (40, 4))


def expected(name, scores, targets):
    """Return losses, deltas and outputs, written for clarity; targets as (rows, units)."""
    outputs = expit(scores)
    if name == "softmax":
        losses = logsumexp(scores, axis=1) - (scores * targets).sum(axis=1)
        return losses, softmax(scores, axis=1) - targets, softmax(scores, axis=1)
    if name == "sigmoid":
        losses = -targets * log_expit(scores) - (1 - targets) * log_expit(-scores)
        return losses.sum(axis=1), outputs - targets, outputs
    if name == "squared":
        return 0.5 * ((scores - targets) ** 2).sum(axis=1), scores - targets, scores
    off = scores - targets
    if name == "absolute":
        return np.abs(off).sum(axis=1), np.sign(off), scores
    if name == "huber":
        # SciPy's is for one edge, as is ours: inside half the square, outside a line.
        return huber(1.35, off).sum(axis=1), np.clip(off, -1.35, 1.35), scores
    delta = (outputs - targets) * outputs * (1 - outputs)
    return 0.5 * ((outputs - targets) ** 2).sum(axis=1), delta, outputs


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_deltas_and_outputs_are_the_formulas_for_class_labels(name):
    losses, delta, outputs = expected(name, SCORES, np.eye(4)[LABELS[:, 0].astype(int)])
    seen_delta, seen_outputs = SCORES.copy(), SCORES.copy()
    seen = loss(name).value_and_delta(seen_delta, LABELS)
    loss(name).outputs(seen_outputs)
    assert seen.shape == (40,)
    np.testing.assert_allclose(seen, losses, rtol=1e-12)
    np.testing.assert_allclose(seen_delta, delta, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(seen_outputs, outputs, rtol=1e-12)


@pytest.mark.parametrize("name", PER_UNIT)
def test_losses_and_deltas_are_the_formulas_for_a_value_per_unit(name):
    losses, delta, _ = expected(name, SCORES, VALUES)
    seen_delta = SCORES.copy()
    np.testing.assert_allclose(loss(name).value_and_delta(seen_delta, VALUES), losses, rtol=1e-12)
    np.testing.assert_allclose(seen_delta, delta, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", PER_UNIT)
def test_one_column_against_one_unit_is_a_value_not_a_label(name):
    scores, values = SCORES[:, :1], VALUES[:, :1]
    losses, delta, _ = expected(name, scores, values)
    seen_delta = scores.copy()
    np.testing.assert_allclose(loss(name).value_and_delta(seen_delta, values), losses, rtol=1e-12)
    np.testing.assert_allclose(seen_delta, delta, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", list(LOSSES))
def test_targets_are_left_as_they_are(name):
    labels = LABELS.copy()
    loss(name).value_and_delta(SCORES.copy(), labels)
    np.testing.assert_array_equal(labels, LABELS)
    if name != "softmax":
        values = VALUES.copy()
        loss(name).value_and_delta(SCORES.copy(), values)
        np.testing.assert_array_equal(values, VALUES)


@pytest.mark.parametrize("name", list(LOSSES))
def test_float32_scores_stay_float32_and_close(name):
    losses, delta, _ = expected(name, SCORES, np.eye(4)[LABELS[:, 0].astype(int)])
    scores = SCORES.astype(np.float32)
    seen = loss(name).value_and_delta(scores, LABELS.astype(np.float32))
    assert seen.dtype == scores.dtype == np.float32
    np.testing.assert_allclose(seen, losses, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, delta, rtol=1e-3, atol=1e-5)


def test_one_hot_makes_indicator_rows_of_class_labels():
    encoded = one_hot(np.array([[2], [0], [1]], np.float32), 3)
    np.testing.assert_array_equal(encoded, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert encoded.dtype == np.float32


@pytest.mark.parametrize("units", [1, 3])
def test_one_hot_leaves_targets_with_a_column_per_unit(units):
    targets = np.ones((5, units))
    assert one_hot(targets, units) is targets


def test_each_loss_says_whether_it_is_for_classes_and_knows_its_name():
    assert {name: each.classifies for name, each in LOSSES.items()} == {
        "softmax": True,
        "sigmoid": True,
        "squared": False,
        "absolute": False,
        "huber": False,
        "sigmoid-squared": True,
    }
    assert all(each.name == name for name, each in LOSSES.items())


def test_an_unknown_loss_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"'hinge'.*sigmoid.*softmax.*squared"):
        loss("hinge")
