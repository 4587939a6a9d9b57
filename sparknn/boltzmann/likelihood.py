"""How well a machine describes rows: log-likelihood, pseudo-likelihood, reconstruction error."""

from __future__ import annotations

import numpy as np
from scipy.special import log_expit

from sparknn.boltzmann.machine import Machine

__all__ = ["log_likelihood", "pseudo_likelihood", "reconstruction_error"]


def log_likelihood(
    machine: Machine, theta: np.ndarray, v: np.ndarray, log_partition: float
) -> np.ndarray:
    """Return log P(v) = -F(v) - log Z of each row, (rows,), in nats; grey levels as given."""
    return -machine.free_energy(theta, v) - log_partition


def pseudo_likelihood(machine: Machine, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the sum over visible units of log P(v_i | all others), (rows,), in nats.

    All units count (not one drawn for each row). A grey level x stands for x times the term of 1
    and 1 - x times that of 0, given the others as they are.

    Raises ValueError for Gaussian visible units, whose conditional densities have no closed form.

    References
    ----------
    Besag (1975), Statistical analysis of non-lattice data.
    """
    if machine.visible_units.name != "binary":
        raise ValueError(
            f"the pseudo-likelihood is that of binary visible units; these are "
            f"{machine.visible_units.name}. See freeEnergy or the reconstruction error"
        )
    weights, hidden_bias, visible_bias = machine.views(theta)
    inputs = v @ weights
    total = np.zeros(len(v))
    for unit, (outward, bias) in enumerate(zip(weights, visible_bias, strict=True)):
        values = v[:, unit]
        without = inputs - np.multiply.outer(values, outward)
        off = machine.hidden_units.log_sum(without, hidden_bias)
        without += outward
        odds = bias + machine.hidden_units.log_sum(without, hidden_bias) - off
        total += values * log_expit(odds) + (1 - values) * log_expit(-odds)
    return total


def reconstruction_error(machine: Machine, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the mean over visible units of the squared error of `Machine.reconstruct`, (rows,)."""
    return np.square(machine.reconstruct(theta, v) - v).mean(axis=1)
