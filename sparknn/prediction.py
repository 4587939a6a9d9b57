"""From features to predictions: what a fitted model computes, on arrays alone.

The predictors are what `transform` sends to the executors (but for vectors through a logistic
regression), what `sparknn.load_numpy` runs without Spark, and what is exported as ONNX; so all of
them say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from sparknn.losses import Loss
from sparknn.losses import loss as loss_named
from sparknn.network import Network

__all__ = [
    "LARGEST_MARGIN",
    "Estimate",
    "LinearPredictor",
    "NetworkPredictor",
    "Prediction",
    "Predictor",
    "ValuePredictor",
    "fault_of_thresholds",
    "limit_of_margins",
    "perceptron",
    "regression_perceptron",
    "threshold_of",
]

LARGEST_MARGIN = 1e300
"""Stands for the infinite intercept of a single class, which softmax could not divide."""


class Prediction(NamedTuple):
    """What a classifier says of some rows.

    raw, probability: (rows, classes) float64. label: (rows,) float64.
    """

    raw: np.ndarray
    probability: np.ndarray
    label: np.ndarray


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """The predictions of a logistic regression.

    Parameters
    ----------
    coefficients : array of (1, features) for binomial, else (classes, features)
    intercepts : array of (1,) or (classes,)
    multinomial : bool
    threshold : float, default 0.5
        A binomial model predicts class 1 where its probability is above.
    thresholds : list of float, optional
        Of a multinomial model, one for each class: the largest of probability over threshold wins.
    column : str, default "raw"
        What decides between two classes, see `labels_of_margins`.
    """

    coefficients: np.ndarray
    intercepts: np.ndarray
    multinomial: bool
    threshold: float = 0.5
    thresholds: list[float] | None = None
    column: str = "raw"

    def __call__(self, features: Any) -> Prediction:
        """Predict (rows, features), an array or a sparse one, in float64."""
        if self.multinomial:
            return self._multinomial(features)
        # Not by BLAS, in which a row's place decides how its sum is rounded: rows that are alike
        # must tie, or curves over thresholds have points that are none.
        if issparse(features):
            margins = features @ self.coefficients[0]
        else:
            margins = np.einsum("ij,j->i", features, self.coefficients[0])
        margins = margins + self.intercepts[0]
        zero = odds(margins)
        positive = labels_of_margins(self.threshold, self.column)
        return Prediction(
            np.column_stack([-margins, margins]),
            np.column_stack([zero, 1 - zero]),
            positive(margins).astype(float),
        )

    def _multinomial(self, features: Any) -> Prediction:
        margins = features @ self.coefficients.T + self.intercepts
        finite = np.nan_to_num(margins, nan=np.nan, posinf=LARGEST_MARGIN)
        probability = _output_units("softmax", finite)
        labels = _labels(margins, probability, self.thresholds)
        return Prediction(margins, probability, labels)


@dataclass(frozen=True, eq=False)
class NetworkPredictor:
    """The predictions of a perceptron, whose layers compute in the network's dtype.

    Parameters
    ----------
    network : Network
    theta : array of (network.size,)
    thresholds : list of float, optional
        One for each class: the largest of probability over threshold wins.
    """

    network: Network
    theta: np.ndarray
    thresholds: list[float] | None = None

    def __call__(self, features: np.ndarray) -> Prediction:
        """Predict (rows, features)."""
        scores = self.network.scores(self.theta, features).astype(np.float64)
        probability = _output_units(self.network.loss.name, scores)
        if scores.shape[1] == 1:
            scores = np.hstack([-scores, scores])
            probability = np.hstack([1 - probability, probability])
        probability /= probability.sum(axis=1, keepdims=True)
        return Prediction(scores, probability, _labels(scores, probability, self.thresholds))


class Estimate(NamedTuple):
    """What a regression says of some rows.

    value: (rows,) float64, (rows, targets) where there are several.
    """

    value: np.ndarray


@dataclass(frozen=True, eq=False)
class ValuePredictor:
    """The predictions of a perceptron for regression.

    Hidden layers compute in float32; the last layer in float64, in which targets in the millions
    keep their digits, and so does a network that has no other.

    Parameters
    ----------
    network : Network
    theta : array of (network.size,) float64
    """

    network: Network
    theta: np.ndarray

    def __call__(self, features: Any) -> Estimate:
        """Predict (rows, features), an array or a sparse one."""
        weights, biases = self.network.views(self.theta)[-1]
        # The inputs themselves, where there is no hidden layer: Network would round them.
        hidden = features
        if self.network.activations:
            hidden = self.network.hidden(self.theta, features).astype(np.float64)
        values = hidden @ weights + biases
        return Estimate(values[:, 0] if values.shape[1] == 1 else values)


Predictor = LinearPredictor | NetworkPredictor
"""Of a classifier."""


def perceptron(
    layers: list[int],
    activation: str | list[str],
    loss: str,
    dropout: float | list[float] = 0.0,
) -> Network:
    """Return the network of a perceptron whose params these are."""
    return Network(layers, activation, "sigmoid-squared" if loss == "squared" else None, dropout)


def regression_perceptron(
    layers: list[int],
    activation: str | list[str],
    dropout: float | list[float] = 0.0,
    loss: str | Loss = "squared",
) -> Network:
    """Return the network of a perceptron for regression; its predictions know no loss."""
    return Network(layers, activation, loss, dropout)


def _output_units(units: str, scores: np.ndarray) -> np.ndarray:
    """Return the outputs of a loss's units, in an array of their own."""
    outputs = scores.copy()
    loss_named(units).outputs(outputs)
    return outputs


def _labels(
    scores: np.ndarray, probability: np.ndarray, thresholds: list[float] | None
) -> np.ndarray:
    """Return each row's class, (rows,): of the largest score, or of probability over threshold.

    scores, probability: (rows, classes). A class of threshold 0 always wins.
    """
    if thresholds is None:
        return scores.argmax(axis=1).astype(float)
    scale = np.asarray(thresholds, np.float64)
    scaled = np.full(probability.shape, np.inf)
    np.divide(probability, scale, out=scaled, where=scale != 0)
    return scaled.argmax(axis=1).astype(float)


def labels_of_margins(threshold: float, column: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return MLlib's rule from two classes' margins, (rows,), to whether they are class 1.

    MLlib compares what it has computed already: margins where the raw column is wanted ("raw"),
    else the column of probabilities ("probability"), else class 1's probability on its own
    ("label"). They differ only where rounding, or a threshold of 0 or 1, decides.
    """
    if column == "raw":
        limit = limit_of_margins(threshold)
        return lambda margins: margins > limit
    if column == "probability":
        return lambda margins: 1 - odds(margins) > threshold
    return lambda margins: odds(-margins) > threshold


def limit_of_margins(threshold: float) -> float:
    """Return the margin at which the probability of class 1 is `threshold`; 0 and 1 have none."""
    with np.errstate(divide="ignore"):
        return float(np.log(np.float64(threshold) / np.float64(1 - threshold)))


def odds(margins: np.ndarray) -> np.ndarray:
    """Return the probability of class 0 for margins of class 1."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(margins))


def fault_of_thresholds(thresholds: list[float], classes: int | None) -> str | None:
    """Return what is wrong with thresholds, if anything: values, or not one for each class."""
    if min(thresholds, default=-1) < 0 or list(thresholds).count(0) > 1:
        return f"thresholds must be greater than 0, but for at most one 0, got {thresholds}"
    if classes is not None and len(thresholds) != classes:
        return (
            f"thresholds must be one for each class: there are {classes} classes and "
            f"{len(thresholds)} thresholds"
        )
    return None


def threshold_of(thresholds: list[float]) -> float:
    """Return the probability of class 1 above which it wins by two classes' `thresholds`."""
    zero, one = thresholds
    return 0.0 if one == 0 else 1 / (1 + zero / one)
