"""Losses: the output units of a network together with the error measured on them.

A loss is one object with value and gradient. It works on the scores, the last layer's
pre-activations, so that each pair of output units and error can use its own numerically
stable formula. To add one, write a class here and name it in `LOSSES`.

Targets are float arrays of (rows, columns). One column against several output units holds
class labels 0..K-1; any other shape must equal that of the scores.
"""

from __future__ import annotations

import numpy as np

from sparknn.activations import ACTIVATIONS

__all__ = ["LOSSES", "Loss", "loss", "one_hot"]

_sigmoid = ACTIVATIONS["sigmoid"]


def one_hot(targets: np.ndarray, units: int) -> np.ndarray:
    """Return `targets` as (rows, units): class labels, one column, become indicator rows."""
    if targets.shape[1] == units:
        return targets
    encoded = np.zeros((len(targets), units), targets.dtype)
    encoded[np.arange(len(targets)), targets[:, 0].astype(np.intp)] = 1
    return encoded


class Loss:
    """Output units and the error on them, per row the sum over the units.

    onnx: the name of ONNX's operator that computes the units' outputs.
    """

    name: str
    onnx = "Identity"
    classifies = True

    def value_and_delta(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return each row's loss, (rows,), and replace `scores` by its derivative in them."""
        raise NotImplementedError

    def outputs(self, scores: np.ndarray) -> None:
        """Replace `scores` by the outputs of the units."""
        raise NotImplementedError


class SoftmaxCrossEntropy(Loss):
    """Softmax units with cross-entropy, -log p(label); targets are class labels."""

    name = "softmax"
    onnx = "Softmax"

    def value_and_delta(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        rows = np.arange(len(scores))
        labels = targets[:, 0].astype(np.intp)
        # A class at a time: along the few classes of a row NumPy takes half as long again.
        classes = np.ascontiguousarray(scores.T)
        classes -= classes.max(axis=0)
        label_scores = classes[labels, rows]
        np.exp(classes, out=classes)
        totals = classes.sum(axis=0)
        classes /= totals
        classes[labels, rows] -= 1
        scores[:] = classes.T
        return np.log(totals) - label_scores

    def outputs(self, scores: np.ndarray) -> None:
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)


class SigmoidCrossEntropy(Loss):
    """Independent sigmoid units with cross-entropy, -t log o - (1 - t) log(1 - o)."""

    name = "sigmoid"
    onnx = "Sigmoid"

    def value_and_delta(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        targets = one_hot(targets, scores.shape[1])
        # log(1 + exp(z)) - t z, written so that no exponent is positive.
        losses = np.log1p(np.exp(-np.abs(scores)))
        losses += np.maximum(scores, 0)
        losses -= targets * scores
        _sigmoid.apply(scores)
        scores -= targets
        return losses.sum(axis=1)

    def outputs(self, scores: np.ndarray) -> None:
        _sigmoid.apply(scores)


class SquaredError(Loss):
    """Linear units with half the squared error, for regression."""

    name = "squared"
    classifies = False

    def value_and_delta(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        scores -= one_hot(targets, scores.shape[1])
        return 0.5 * np.einsum("ij,ij->i", scores, scores)

    def outputs(self, scores: np.ndarray) -> None:
        """Leave the scores: linear units output them."""


class AbsoluteError(Loss):
    """Linear units with the absolute error: the conditional median."""

    name = "absolute"
    classifies = False

    def value_and_delta(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        scores -= one_hot(targets, scores.shape[1])
        losses = np.abs(scores).sum(axis=1)
        np.sign(scores, out=scores)
        return losses

    def outputs(self, scores: np.ndarray) -> None:
        """Leave the scores: linear units output them."""


class HuberError(Loss):
    """Linear units with Huber's error: half the square up to `EDGE`, beyond it linear.

    Huber (1964), Robust estimation of a location parameter. The edge is the usual one: 95 % as
    efficient as the squared error on normal residuals of deviation one.
    """

    name = "huber"
    classifies = False
    EDGE = 1.35

    def value_and_delta(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        scores -= one_hot(targets, scores.shape[1])
        inner = np.clip(scores, -self.EDGE, self.EDGE)
        losses = (inner * (scores - 0.5 * inner)).sum(axis=1)
        scores[:] = inner
        return losses

    def outputs(self, scores: np.ndarray) -> None:
        """Leave the scores: linear units output them."""


class SigmoidSquaredError(Loss):
    """Sigmoid units with half the squared error: the neuron of the delta rule."""

    name = "sigmoid-squared"
    onnx = "Sigmoid"

    def value_and_delta(self, scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        _sigmoid.apply(scores)
        slope = scores * (1 - scores)
        scores -= one_hot(targets, scores.shape[1])
        losses = 0.5 * np.einsum("ij,ij->i", scores, scores)
        scores *= slope
        return losses

    def outputs(self, scores: np.ndarray) -> None:
        _sigmoid.apply(scores)


LOSSES = {
    kind.name: kind()
    for kind in (
        SoftmaxCrossEntropy,
        SigmoidCrossEntropy,
        SquaredError,
        AbsoluteError,
        HuberError,
        SigmoidSquaredError,
    )
}


def loss(name: str) -> Loss:
    """Return the loss called `name`; raise ValueError with the known names otherwise."""
    try:
        return LOSSES[name]
    except KeyError:
        known = ", ".join(sorted(LOSSES))
        raise ValueError(f"unknown loss {name!r}; choose one of {known}") from None
