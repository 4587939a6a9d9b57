"""Deep belief networks: restricted Boltzmann machines on top of each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sparknn.activations import activation
from sparknn.boltzmann.machine import Machine
from sparknn.network import Network

__all__ = ["Stack", "Up", "machines_of", "unrolled_network"]


def machines_of(
    layers: Sequence[int], visible_type: str = "binary", hidden_type: str = "binary"
) -> list[Machine]:
    """Return the machines between `layers`, the input and hidden sizes, from the bottom up.

    visible_type: of the input. hidden_type: of the last layer. All layers between are binary.
    Raises ValueError for fewer than two layers, a size below 1 or an unknown type.
    """
    if len(layers) < 2:
        raise ValueError(f"layers needs two or more sizes, input and hidden, got {list(layers)}")
    last = len(layers) - 2
    return [
        Machine(
            visible,
            hidden,
            visible_type if number == 0 else "binary",
            hidden_type if number == last else "binary",
        )
        for number, (visible, hidden) in enumerate(pairwise(layers))
    ]


class Up:
    """One machine's hidden means as a function of rows: what its next layer is trained on."""

    def __init__(self, machine: Machine, theta: np.ndarray):
        self.machine = machine
        self.theta: np.ndarray = np.asarray(theta, machine.dtype)

    def __call__(self, v: Any) -> np.ndarray:
        return self.machine.hidden(self.theta, v)


class Stack:
    """A deep belief network: an undirected machine on top, directed layers below.

    Parameters
    ----------
    machines : sequence of Machine
        From the bottom up; each one's hidden units are the next one's visible ones.
    thetas : sequence of array
        The parameters of each machine, (machine.size,).

    References
    ----------
    Hinton, Osindero and Teh (2006), A fast learning algorithm for deep belief nets; Hinton and
    Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.
    """

    def __init__(self, machines: Sequence[Machine], thetas: Sequence[np.ndarray]):
        self.machines = list(machines)
        self.thetas: list[np.ndarray] = [
            np.asarray(theta, machine.dtype)
            for machine, theta in zip(machines, thetas, strict=True)
        ]

    @property
    def layers(self) -> list[int]:
        """The sizes of all layers, the input first."""
        return [self.machines[0].visible_size, *(each.hidden_size for each in self.machines)]

    def up(self, v: Any, layer: int | None = None) -> np.ndarray:
        """Return the means of a layer's units, (rows, layers[layer]), given rows of the input.

        Each layer's means are the next one's input. layer: from 1; by default the last one.
        """
        for machine, theta in list(zip(self.machines, self.thetas, strict=True))[:layer]:
            v = machine.hidden(theta, v)
        return v

    def down(self, h: np.ndarray, layer: int | None = None) -> np.ndarray:
        """Return the means of the input, (rows, layers[0]), given those of a layer's units."""
        for machine, theta in reversed(list(zip(self.machines, self.thetas, strict=True))[:layer]):
            h = machine.visible(theta, h)
        return h

    def sample(
        self, rows: int, steps: int, seed: int, start: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw rows of the input, (rows, layers[0]), from the model.

        `steps` of Gibbs sampling in the top machine, then one pass down through the directed
        layers, each of whose units is sampled given the layer above (Hinton et al., 2006,
        section 2).

        start: (rows, layers[0]), from whose means in the top machine's visible layer the chains
        begin; by default they begin at units without any input.
        """
        random = np.random.Generator(np.random.SFC64(int(seed) % 2**64))
        top, theta = self.machines[-1], self.thetas[-1]
        if start is None:
            v = np.tile(top.views(theta)[2], (rows, 1))
            top.visible_units.mean(v)
        else:
            v = self.up(np.asarray(start, top.dtype), len(self.machines) - 1).copy()
        top.visible_units.sample(v, random, v)
        v = top.sample(theta, v, steps, random)
        below = zip(self.machines[:-1], self.thetas[:-1], strict=True)
        for machine, theta in reversed(list(below)):
            v = machine.visible(theta, v)
            machine.visible_units.sample(v, random, v)
        return v

    def initial_weights(self, outputs: int, seed: int) -> np.ndarray:
        """Return the parameters, float64, of a network that adds `outputs` units on top.

        The hidden layers are the machines', in `Network`'s layout; the output layer is drawn with
        `seed` as for linear units (Glorot's uniform weights, zero biases).
        """
        random = np.random.Generator(np.random.PCG64(int(seed) % 2**64))
        last = activation("linear").initial(self.layers[-1], outputs, random)
        return np.concatenate([*self._encoder(), last])

    def activations(self) -> list[str]:
        """Return the activation of each hidden layer, for a network that starts at the machines."""
        return [machine.hidden_units.activation for machine in self.machines]

    def unrolled(self, loss: str = "crossEntropy") -> tuple[Network, np.ndarray]:
        """Return the autoencoder that the stack unrolls to, and its parameters, float64.

        The machines' weights upwards, to the code, and the same transposed, with the visible
        biases, downwards (Hinton and Salakhutdinov, 2006, figure 1).

        loss: "crossEntropy" of each input unit, or "squared".

        Raises
        ------
        ValueError
            For the cross-entropy of Gaussian input units.
        """
        network = unrolled_network(
            self.layers,
            self.machines[0].visible_units.name,
            self.machines[-1].hidden_units.name,
            loss,
        )
        decoder = []
        for machine, theta in zip(reversed(self.machines), reversed(self.thetas), strict=True):
            weights, _, visible_bias = machine.views(theta)
            decoder += [weights.T.ravel(), visible_bias]
        return network, np.concatenate([*self._encoder(), *decoder]).astype(np.float64)

    def _encoder(self) -> list[np.ndarray]:
        """Return each machine's weights and hidden biases: the layers of a network."""
        return [
            theta[: machine.size - machine.visible_size].astype(np.float64)
            for machine, theta in zip(self.machines, self.thetas, strict=True)
        ]


def unrolled_network(
    layers: Sequence[int], visible_type: str, code_type: str, loss: str
) -> Network:
    """Return the autoencoder that goes up through `layers`, input to code, and down again.

    Its output units are what visible units of that type are: sigmoid or linear. Raises ValueError
    for the cross-entropy of Gaussian input units.
    """
    if loss == "crossEntropy" and visible_type == "gaussian":
        raise ValueError(
            "the cross-entropy is that of binary input units; for Gaussian ones use loss='squared'"
        )
    squared = "squared" if visible_type == "gaussian" else "sigmoid-squared"
    names = [
        machine.hidden_units.activation for machine in machines_of(layers, "binary", code_type)
    ]
    return Network(
        [*layers, *reversed(layers[:-1])],
        [*names, *reversed(names[:-1])],
        squared if loss == "squared" else "sigmoid",
    )
