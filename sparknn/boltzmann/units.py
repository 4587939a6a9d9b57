"""Kinds of units: their mean, their noise, and their terms in the energy.

With z the input from the other layer, without the bias, a unit x has the energy
`energy(x, bias)` - x z. To add a kind, write a class here and name it in `UNITS`.
"""

from __future__ import annotations

import numpy as np

from sparknn.activations import activation
from sparknn.boltzmann.sampling import bernoulli, tossed

__all__ = ["UNITS", "Units", "units"]

LOG_ROOT_2_PI = 0.5 * np.log(2 * np.pi)


class Units:
    """A layer's units, in arrays of (rows, units).

    activation: the name of their mean as a function of input plus bias, in
        `sparknn.activations`.
    """

    name: str
    activation: str

    def mean(self, z: np.ndarray) -> None:
        """Replace input plus bias by the mean of the units."""
        activation(self.activation).apply(z)

    def sample(self, mean: np.ndarray, random: np.random.Generator, out: np.ndarray) -> None:
        """Draw units of this mean into `out`, which may be `mean` itself."""
        raise NotImplementedError

    def draw(self, z: np.ndarray, random: np.random.Generator) -> None:
        """Replace input plus bias by units drawn from their mean."""
        self.mean(z)
        self.sample(z, random, z)

    def energy(self, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Return the energy of units without the other layer, (rows,)."""
        raise NotImplementedError

    def log_sum(self, z: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Return log of the sum, or integral, of exp(-energy) over all units' values, (rows,)."""
        raise NotImplementedError

    def start(self, means: np.ndarray) -> np.ndarray:
        """Return the biases with which units without weights have these means, (units,)."""
        raise NotImplementedError


class Binary(Units):
    """Units of 0 or 1: P(x = 1) = 1 / (1 + exp(-(z + bias))), of energy -bias x."""

    name = "binary"
    activation = "sigmoid"

    def mean(self, z: np.ndarray) -> None:
        # (1 + tanh(z / 2)) / 2, the same function in two thirds of the time: NumPy's tanh is one
        # pass of vector instructions. What is lost are probabilities below 2^-25.
        z *= 0.5
        np.tanh(z, out=z)
        z *= 0.5
        z += 0.5

    def sample(self, mean: np.ndarray, random: np.random.Generator, out: np.ndarray) -> None:
        bernoulli(mean, random, out)

    def draw(self, z: np.ndarray, random: np.random.Generator) -> None:
        tossed(z, random)

    def energy(self, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return -(x @ bias)

    def log_sum(self, z: np.ndarray, bias: np.ndarray) -> np.ndarray:
        z = z + bias
        # log(1 + exp(z)) without overflow; in place, as there may be many.
        rest = np.exp(-np.abs(z))
        np.log1p(rest, out=rest)
        rest += np.maximum(z, 0, out=z)
        return rest.sum(axis=1)

    def start(self, means: np.ndarray) -> np.ndarray:
        """Return log-odds; means are kept off 0 and 1 (Hinton 2012, section 8, with a limit)."""
        means = np.clip(means, RAREST, 1 - RAREST)
        return np.log(means / (1 - means))


RAREST = 1e-3
"""The mean from which on a bias starts at that of a rarer unit: learning can go on from there."""


class Gaussian(Units):
    """Real units with unit variance: mean z + bias, of energy (x - bias)^2 / 2."""

    name = "gaussian"
    activation = "linear"

    def sample(self, mean: np.ndarray, random: np.random.Generator, out: np.ndarray) -> None:
        np.add(mean, random.standard_normal(mean.shape, out.dtype), out=out)

    def energy(self, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return 0.5 * np.square(x - bias).sum(axis=1)

    def log_sum(self, z: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return (z * (0.5 * z + bias)).sum(axis=1) + z.shape[1] * LOG_ROOT_2_PI

    def start(self, means: np.ndarray) -> np.ndarray:
        return np.array(means, np.float64)


UNITS: dict[str, Units] = {kind.name: kind() for kind in (Binary, Gaussian)}


def units(name: str) -> Units:
    """Return the kind of units called `name`; raise ValueError with the known names otherwise."""
    try:
        return UNITS[name]
    except KeyError:
        known = ", ".join(sorted(UNITS))
        raise ValueError(f"unknown units {name!r}; choose one of {known}") from None
