"""The log-partition function: exact for small machines, annealed importance sampling for others."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.special import logsumexp

from sparknn.boltzmann.machine import Machine

__all__ = ["LARGEST_ENUMERATED", "annealed_log_partition", "exact_log_partition"]

LARGEST_ENUMERATED = 20
"""Binary units whose states are all gone through."""

CHUNK_BITS = 12


def exact_log_partition(machine: Machine, theta: np.ndarray) -> float:
    """Return log Z by going through all states of one layer, of at most 20 binary units.

    Raises
    ------
    ValueError
        If neither layer is binary and so small.
    """
    weights, hidden_bias, visible_bias = machine.views(np.asarray(theta, np.float64))
    layers = [
        (machine.hidden_units, hidden_bias, machine.visible_units, visible_bias, weights.T),
        (machine.visible_units, visible_bias, machine.hidden_units, hidden_bias, weights),
    ]
    layers = [
        layer
        for layer in layers
        if layer[0].name == "binary" and len(layer[1]) <= LARGEST_ENUMERATED
    ]
    if not layers:
        raise ValueError(
            f"log Z by enumeration needs a layer of at most {LARGEST_ENUMERATED} binary units, and "
            f"these are {machine.visible_size} {machine.visible_units.name} visible and "
            f"{machine.hidden_size} {machine.hidden_units.name} hidden ones; use annealed "
            "importance sampling"
        )
    own, bias, other, other_bias, outward = min(layers, key=lambda layer: len(layer[1]))
    sums = [
        logsumexp(other.log_sum(states @ outward, other_bias) - own.energy(states, bias))
        for states in _states(len(bias))
    ]
    return float(logsumexp(sums))


def _states(units: int):
    """Yield all states of binary units, in chunks of (rows, units) float64."""
    step = 2 ** min(units, CHUNK_BITS)
    places = np.arange(units, dtype=np.uint32)
    for start in range(0, 2**units, step):
        numbers = np.arange(start, start + step, dtype=np.uint32)
        yield ((numbers[:, np.newaxis] >> places) & 1).astype(np.float64)


def annealed_log_partition(
    machine: Machine,
    theta: np.ndarray,
    means: np.ndarray,
    chains: int,
    temperatures: int,
    seed: int,
) -> tuple[float, float]:
    """Estimate log Z by annealed importance sampling (Salakhutdinov and Murray, 2008, section 4.1).

    Between a machine without weights, whose visible units have the training rows' means, and this
    one lie machines with the weights times beta and visible biases in proportion; chains walk
    through them as beta rises from 0 to 1.

    Parameters
    ----------
    theta : array of (size,)
    means : array of (visible,)
        Of the training rows: the base rates.
    chains : int
        Independent runs, at least 2; their spread gives the standard error.
    temperatures : int
        Values of beta above 0. As in the paper's experiments they lie closer towards 1: a 30th of
        them up to 0.5, two thirds beyond 0.9.
    seed : int

    Returns
    -------
    (float, float)
        The estimate of log Z, and its standard error (of the mean weight, over that mean).

    Raises
    ------
    ValueError
        If Z is infinite: both layers Gaussian, and a singular value of the weights 1 or above.
    """
    _require_finite(machine, theta)
    random = np.random.Generator(np.random.SFC64(int(seed) % 2**64))
    path = _Path(machine, np.asarray(theta, machine.dtype), means)
    v = path.base_rows(chains, random)
    log_weights = np.zeros(chains)
    for beta, following in pairwise(_betas(temperatures)):
        inputs = v @ path.weights
        log_weights += path.log_density(v, inputs, following) - path.log_density(v, inputs, beta)
        path.move(v, inputs, following, random)
    estimate = logsumexp(log_weights) - np.log(chains)
    relative = np.exp(log_weights - estimate)
    error = float(relative.std(ddof=1) / np.sqrt(chains)) if chains > 1 else float("nan")
    return path.base_log_partition() + float(estimate), error


def _require_finite(machine: Machine, theta: np.ndarray) -> None:
    if machine.visible_units.name == machine.hidden_units.name == "gaussian":
        largest = float(np.linalg.norm(machine.views(theta)[0], 2))
        if largest >= 1:
            raise ValueError(
                "the partition function is infinite: both layers are Gaussian, and the largest "
                f"singular value of the weights is {largest:.3g}, where it must be below 1"
            )


def _betas(count: int) -> np.ndarray:
    """Return 0 and `count` values up to 1, in the proportions of the paper."""
    return np.interp(np.arange(count + 1) / count, [0, 1 / 30, 1 / 3, 1], [0, 0.5, 0.9, 1])


class _Path:
    """The machines between the base and the target, one for each beta."""

    def __init__(self, machine: Machine, theta: np.ndarray, means: np.ndarray):
        self.machine = machine
        self.weights, self.hidden_bias, self.visible_bias = machine.views(theta)
        self.base_bias: np.ndarray = machine.visible_units.start(means).astype(machine.dtype)

    def bias(self, beta: float) -> np.ndarray:
        """Return the visible biases at `beta`, (visible,)."""
        beta = self.machine.dtype(beta)
        return (1 - beta) * self.base_bias + beta * self.visible_bias

    def base_rows(self, chains: int, random: np.random.Generator) -> np.ndarray:
        """Draw independent rows of the base machine, (chains, visible)."""
        v = np.tile(self.base_bias, (chains, 1))
        self.machine.visible_units.mean(v)
        self.machine.visible_units.sample(v, random, v)
        return v

    def base_log_partition(self) -> float:
        """Return log Z of the base machine."""
        visible, hidden = self.machine.visible_units, self.machine.hidden_units
        biases = [self.base_bias.astype(np.float64), self.hidden_bias.astype(np.float64)]
        parts = [
            kind.log_sum(np.zeros((1, len(bias))), bias)
            for kind, bias in zip([visible, hidden], biases, strict=True)
        ]
        return float(parts[0][0] + parts[1][0])

    def log_density(self, v: np.ndarray, inputs: np.ndarray, beta: float) -> np.ndarray:
        """Return -F(v) at `beta`, (rows,) float64; `inputs` are v W, (rows, hidden)."""
        z = self.machine.dtype(beta) * inputs
        own = self.machine.visible_units.energy(v, self.bias(beta))
        return self.machine.hidden_units.log_sum(z, self.hidden_bias).astype(np.float64) - own

    def move(
        self, v: np.ndarray, inputs: np.ndarray, beta: float, random: np.random.Generator
    ) -> None:
        """Take one step of Gibbs sampling at `beta`, in place; `inputs` is overwritten."""
        h = inputs
        h *= self.machine.dtype(beta)
        h += self.hidden_bias
        self.machine.hidden_units.mean(h)
        self.machine.hidden_units.sample(h, random, h)
        h *= self.machine.dtype(beta)
        np.dot(h, self.weights.T, out=v)
        v += self.bias(beta)
        self.machine.visible_units.mean(v)
        self.machine.visible_units.sample(v, random, v)
