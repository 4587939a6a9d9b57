"""Activations of hidden units.

An activation is one object: the function, its derivative, and the distribution of initial
weights that suits it. To add one, write a class here and name it in `ACTIVATIONS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Random = Any
"""A numpy.random.Generator, or for sigmoid units also Spark's (`xorshift`)."""

__all__ = ["ACTIVATIONS", "Activation", "activation"]


class Activation:
    """A function of a layer's pre-activations, applied in place to arrays of (rows, units).

    onnx: the name of ONNX's operator that computes the same.
    """

    name: str
    onnx: str

    def apply(self, z: np.ndarray) -> None:
        """Replace the pre-activations `z` by the activations."""
        raise NotImplementedError

    def backward(self, delta: np.ndarray, a: np.ndarray) -> None:
        """Multiply `delta` by the derivative, which is expressed in the activations `a`."""
        raise NotImplementedError

    def initial(self, fan_in: int, fan_out: int, random: Random) -> np.ndarray:
        """Draw a layer's initial parameters: `fan_in * fan_out` weights, then `fan_out` biases.

        By default Glorot and Bengio's uniform weights (2010, equation 16) and zero biases.
        """
        bound = np.sqrt(6.0 / (fan_in + fan_out))
        weights = random.uniform(-bound, bound, fan_in * fan_out)
        return np.concatenate([weights, np.zeros(fan_out)])


class Sigmoid(Activation):
    """The logistic function, 1 / (1 + exp(-z))."""

    name = "sigmoid"
    onnx = "Sigmoid"

    def apply(self, z: np.ndarray) -> None:
        # Overflow of exp(-z) to infinity gives the right limit, 0, so it is no error.
        with np.errstate(over="ignore"):
            np.negative(z, out=z)
            np.exp(z, out=z)
        z += 1
        np.reciprocal(z, out=z)

    def backward(self, delta: np.ndarray, a: np.ndarray) -> None:
        delta *= a
        delta *= 1 - a

    def initial(self, fan_in: int, fan_out: int, random: Random) -> np.ndarray:
        """Draw weights and biases as MLlib's perceptron does: uniform in ±2.4 / sqrt(fan_in)."""
        return random.uniform(-2.4, 2.4, fan_in * fan_out + fan_out) / np.sqrt(fan_in)


class Tanh(Activation):
    """The hyperbolic tangent."""

    name = "tanh"
    onnx = "Tanh"

    def apply(self, z: np.ndarray) -> None:
        np.tanh(z, out=z)

    def backward(self, delta: np.ndarray, a: np.ndarray) -> None:
        delta *= 1 - a * a


class Relu(Activation):
    """The rectifier, max(z, 0)."""

    name = "relu"
    onnx = "Relu"

    def apply(self, z: np.ndarray) -> None:
        np.maximum(z, 0, out=z)

    def backward(self, delta: np.ndarray, a: np.ndarray) -> None:
        delta *= a > 0

    def initial(self, fan_in: int, fan_out: int, random: Random) -> np.ndarray:
        """Draw normal weights of variance 2 / fan_in (He et al., 2015, equation 10)."""
        weights = random.standard_normal(fan_in * fan_out) * np.sqrt(2.0 / fan_in)
        return np.concatenate([weights, np.zeros(fan_out)])


class Linear(Activation):
    """The identity."""

    name = "linear"
    onnx = "Identity"

    def apply(self, z: np.ndarray) -> None:
        """Leave `z` as it is."""

    def backward(self, delta: np.ndarray, a: np.ndarray) -> None:
        """Leave `delta` as it is: the derivative is one."""


ACTIVATIONS = {kind.name: kind() for kind in (Sigmoid, Tanh, Relu, Linear)}


def activation(name: str) -> Activation:
    """Return the activation called `name`; raise ValueError with the known names otherwise."""
    try:
        return ACTIVATIONS[name]
    except KeyError:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"unknown activation {name!r}; choose one of {known}") from None
