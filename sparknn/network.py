"""A feed-forward network whose parameters are one flat vector.

The layout is MLlib's: layer by layer the weights, (inputs, units) in C order, then the biases.
Because it is one vector, averaging, broadcasting, momentum and L-BFGS need not know the layers,
and weights move both ways between MLlib and sparknn.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.sparse import issparse

from sparknn.activations import activation as activation_named
from sparknn.bits import LEVELS, random_bits
from sparknn.losses import Loss
from sparknn.losses import loss as loss_named
from sparknn.objective import L2, Rows
from sparknn.products import Computation, Product, TransposedProduct, run
from sparknn.sparse import cast, csr
from sparknn.xorshift import XorShift

__all__ = ["Network"]


class Network:
    """A multilayer perceptron with its loss.

    Parameters
    ----------
    layers : sequence of int
        Sizes from the input to the output layer, two or more.
    activation : str or sequence of str, default "sigmoid"
        "sigmoid", "tanh", "relu" or "linear", for all hidden layers or one for each.
    loss : str or Loss, optional
        Output units and their error: "softmax" (cross-entropy), "sigmoid" (cross-entropy of
        independent units), "squared" (linear units) or "sigmoid-squared". By default "softmax",
        and "sigmoid" where the last layer has one unit.
    dropout : float or sequence of float, default 0
        Probability in [0, 1) that a unit is left out in a training step (Srivastava et al.,
        2014; what stays is scaled up, so that prediction needs no change). A number is for
        every hidden layer; a sequence gives the inputs' rate, then one for each hidden layer.
    dtype : type, default numpy.float32
        In what the network computes. float64 is for checking gradients.

    Raises
    ------
    ValueError
        If a size, a name or a rate is out of range, or counts do not match.
    """

    chunk = 2048

    def __init__(
        self,
        layers: Sequence[int],
        activation: str | Sequence[str] = "sigmoid",
        loss: str | Loss | None = None,
        dropout: float | Sequence[float] = 0.0,
        dtype: type = np.float32,
    ):
        self.layers = [int(size) for size in layers]
        if len(self.layers) < 2 or min(self.layers) < 1:
            raise ValueError(f"layers needs two or more sizes of at least 1, got {list(layers)}")
        hidden = len(self.layers) - 2
        self.activations = [
            activation_named(name)
            for name in _one_each(activation, hidden, "activation", "hidden layers")
        ]
        if not isinstance(loss, Loss):
            loss = loss_named(loss or ("softmax" if self.layers[-1] > 1 else "sigmoid"))
        self.loss = loss
        if self.loss.name == "softmax" and self.layers[-1] == 1:
            raise ValueError("softmax needs two output units or more; use loss='sigmoid' for one")
        rates = [0.0] + [dropout] * hidden if isinstance(dropout, (int, float)) else dropout
        self.dropout = _one_each(rates, hidden + 1, "dropout", "inputs and hidden layers")
        if not all(0 <= rate < 1 for rate in self.dropout):
            raise ValueError(f"dropout rates must be in [0, 1), got {self.dropout}")
        self.stochastic = any(self.dropout)
        self.dtype = dtype
        self._slices = self._layout()
        self.size = self._slices[-1][1].stop
        self._workspace: _Workspace | None = None

    def _layout(self) -> list[tuple[slice, slice]]:
        """Return where each layer's weights and biases stand in the flat vector."""
        slices, start = [], 0
        for inputs, units in pairwise(self.layers):
            middle = start + inputs * units
            slices.append((slice(start, middle), slice(middle, middle + units)))
            start = middle + units
        return slices

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_workspace": None}

    def views(self, theta: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return each layer's weights, (inputs, units), and biases, (units,), as views."""
        shapes = pairwise(self.layers)
        return [
            (theta[weights].reshape(shape), theta[biases])
            for (weights, biases), shape in zip(self._slices, shapes, strict=True)
        ]

    def initial(self, seed: int) -> np.ndarray:
        """Draw initial parameters, (size,) float64, each layer's by the activation above it.

        The output layer is drawn as the last hidden layer is; without one, as for sigmoid units.
        A network of sigmoid units alone gets the very weights that MLlib draws for the seed.
        """
        kinds = [*self.activations, *(self.activations[-1:] or [activation_named("sigmoid")])]
        random: np.random.Generator | XorShift
        if all(kind.name == "sigmoid" for kind in kinds):
            random = XorShift(seed)
        else:
            random = np.random.Generator(np.random.PCG64(int(seed) % 2**64))
        return np.concatenate(
            [
                kind.initial(inputs, units, random)
                for kind, inputs, units in zip(kinds, self.layers, self.layers[1:], strict=False)
            ]
        )

    def penalty(self, strength: float) -> L2:
        """Return an L2 penalty of `strength` on the weights, not on the biases."""
        return L2(strength, [(weights, 1.0) for weights, _ in self._slices])

    def hidden(self, theta: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return what enters the last layer, (rows, its inputs)."""
        theta = np.asarray(theta, self.dtype)
        z = cast(features, self.dtype)
        for activation, (weights, biases) in zip(self.activations, self.views(theta), strict=False):
            z = z @ weights
            z += biases
            activation.apply(z)
        return z

    def scores(self, theta: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return the last layer's pre-activations, (rows, units)."""
        theta = np.asarray(theta, self.dtype)
        weights, biases = self.views(theta)[-1]
        z = self.hidden(theta, features) @ weights
        z += biases
        return z

    def outputs(self, theta: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Return the output units, (rows, units): probabilities, or predicted values."""
        scores = self.scores(theta, features)
        self.loss.outputs(scores)
        return scores

    def gradient(
        self,
        theta: np.ndarray,
        rows: Rows,
        out: np.ndarray,
        random: np.random.Generator | None = None,
    ) -> tuple[float, float]:
        """Write the gradient of the weighted mean loss at `theta` into `out` (backpropagation).

        `theta` and `out` are (size,) of the network's dtype. With `random`, units are dropped.
        Returns the mean loss and the total weight, both without any penalty.
        """
        return run(self.computation(theta, rows, out, random))

    def computation(
        self,
        theta: np.ndarray,
        rows: Rows,
        out: np.ndarray,
        random: np.random.Generator | None = None,
    ) -> Computation:
        """Do what `gradient` does; the products with the rows are whoever runs it's."""
        total = float(rows.length if rows.weights is None else rows.weights.sum())
        if total == 0:
            out[:] = 0
            return 0.0, 0.0
        if self._workspace is None or self._workspace.rows < rows.length:
            self._workspace = _Workspace(self, rows.length)
        work = self._workspace.first(rows.length)
        layers, gradients = self.views(theta), self.views(out)
        features = self._drop(0, cast(rows.features, self.dtype), work, random)
        yield Product(features, layers[0][0], work.z[0])
        self._forward(layers, work, random)
        delta = work.z[-1]
        losses = self.loss.value_and_delta(delta, rows.targets)
        if rows.weights is None:
            loss = losses.sum(dtype=np.float64)
            delta /= total
        else:
            loss = np.dot(losses.astype(np.float64), rows.weights)
            delta *= (rows.weights / total).astype(self.dtype)[:, np.newaxis]
        delta = self._backward(layers, gradients, work)
        yield TransposedProduct(features, delta, gradients[0][0])
        np.sum(delta, axis=0, out=gradients[0][1])
        return float(loss) / total, total

    def _forward(self, layers, work: _Workspace, random) -> None:
        """Go on from the first layer's products: fill `work` with what enters each later layer.

        The last entry of `work.z` becomes the scores.
        """
        z = work.z[0]
        z += layers[0][1]
        for layer in range(1, len(layers)):
            self.activations[layer - 1].apply(z)
            work.inputs[layer] = self._drop(layer, z, work, random)
            weights, biases = layers[layer]
            z = work.z[layer]
            np.dot(work.inputs[layer], weights, out=z)
            z += biases

    def _drop(self, layer: int, a, work: _Workspace, random):
        """Return `a` with units left out at random and the others scaled up."""
        rate = self.dropout[layer]
        if not rate or random is None:
            work.masks[layer] = None
            return a
        if issparse(a):
            # What is not stored is zero, dropped or not.
            mask = self._mask(rate, a.data.shape, random)
            return csr(a.data * mask, a.indices, a.indptr, a.shape[1])
        work.masks[layer] = mask = self._mask(rate, a.shape, random)
        return a * mask

    def _mask(self, rate: float, shape: tuple[int, ...], random) -> np.ndarray:
        """Draw what units are multiplied with: 0, or what makes up for the others.

        Sixteen random bits decide, so the rate is a multiple of 2^-16.
        """
        dropped = min(round(rate * LEVELS), LEVELS - 1)
        kept = random_bits(random, shape) >= dropped
        return kept * self.dtype(LEVELS / (LEVELS - dropped))

    def _backward(self, layers, gradients, work: _Workspace) -> np.ndarray:
        """Write the later layers' gradients; return the first layer's delta, (rows, units).

        The last entry of `work.z` holds the output's delta.
        """
        delta = work.z[-1]
        for layer in reversed(range(1, len(layers))):
            weights_gradient, biases_gradient = gradients[layer]
            TransposedProduct(work.inputs[layer], delta, weights_gradient).make()
            np.sum(delta, axis=0, out=biases_gradient)
            below = work.deltas[layer - 1]
            np.dot(delta, layers[layer][0].T, out=below)
            mask = work.masks[layer]
            if mask is not None:
                below *= mask
            self.activations[layer - 1].backward(below, work.z[layer - 1])
            delta = below
        return delta


class _Workspace:
    """Arrays that one training step after another writes into, instead of allocating anew."""

    def __init__(self, network: Network, rows: int):
        self.rows = rows
        self.z: list[np.ndarray] = [
            np.empty((rows, units), network.dtype) for units in network.layers[1:]
        ]
        self.deltas = [np.empty_like(z) for z in self.z[:-1]]
        self.inputs: list[np.ndarray] = [*self.z]
        self.masks: list[np.ndarray | None] = [None] * len(self.z)

    def first(self, rows: int) -> _Workspace:
        """Return the workspace for the first `rows` rows: views of this one's arrays."""
        if rows == self.rows:
            return self
        part = object.__new__(_Workspace)
        part.rows = rows
        part.z = [z[:rows] for z in self.z]
        part.deltas = [delta[:rows] for delta in self.deltas]
        part.inputs = list(self.inputs)
        part.masks = list(self.masks)
        return part


def _one_each(value, count: int, option: str, places: str) -> list:
    """Return `value` as a list of `count`: a single string stands for all."""
    values = [value] * count if isinstance(value, str) else list(value)
    if len(values) != count:
        raise ValueError(f"{option} names {len(values)} values for {count} {places}")
    return values
