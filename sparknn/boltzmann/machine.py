"""A restricted Boltzmann machine whose parameters are one flat vector.

W, (visible, hidden) in C order, then the hidden biases b, then the visible biases a: all but the
last are a layer of `sparknn.network.Network`, so a trained machine becomes one by a slice.
"""

from __future__ import annotations

import numpy as np

from sparknn.boltzmann.units import units

__all__ = ["Machine"]

SPREAD = 0.01
"""Standard deviation of initial weights (Hinton 2012, section 8)."""


class Machine:
    """Two layers of units, each of which sees only the other one.

    P(v, h) = exp(-E(v, h)) / Z, where for binary units E(v, h) = -a v - b h - v W h, and for
    Gaussian ones (v - a)^2 / 2 stands in place of -a v, and (h - b)^2 / 2 in place of -b h.

    Parameters
    ----------
    visible, hidden : int
        Units of each layer, at least 1.
    visible_type, hidden_type : str, default "binary"
        Or "gaussian": real, with unit variance.
    dtype : type, default numpy.float32
        In what the machine computes. float64 is for checking gradients.

    Raises
    ------
    ValueError
        If a size is below 1 or a kind of units unknown.

    References
    ----------
    Hinton (2012), A practical guide to training restricted Boltzmann machines; Welling,
    Rosen-Zvi and Hinton (2004), Exponential family harmoniums (Gaussian units).
    """

    def __init__(
        self,
        visible: int,
        hidden: int,
        visible_type: str = "binary",
        hidden_type: str = "binary",
        dtype: type = np.float32,
    ):
        if min(visible, hidden) < 1:
            raise ValueError(f"a layer needs at least 1 unit, got {visible} and {hidden}")
        self.visible_size, self.hidden_size = int(visible), int(hidden)
        self.visible_units, self.hidden_units = units(visible_type), units(hidden_type)
        self.dtype = dtype

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.visible_size * self.hidden_size + self.hidden_size + self.visible_size

    @property
    def weights_slice(self) -> slice:
        """Where the weights stand in the flat vector."""
        return slice(0, self.visible_size * self.hidden_size)

    def views(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return weights, (visible, hidden), hidden and visible biases, as views of `theta`."""
        middle = self.visible_size * self.hidden_size
        end = middle + self.hidden_size
        weights = theta[:middle].reshape(self.visible_size, self.hidden_size)
        return weights, theta[middle:end], theta[end:]

    def initial(self, seed: int, means: np.ndarray) -> np.ndarray:
        """Draw initial parameters, (size,) float64.

        Normal weights of deviation 0.01, hidden biases of zero, and the visible biases with which
        visible units have the training rows' `means`, (visible,).
        """
        random = np.random.Generator(np.random.PCG64(int(seed) % 2**64))
        theta = np.zeros(self.size)
        weights, _, visible_bias = self.views(theta)
        weights[:] = SPREAD * random.standard_normal(weights.shape)
        visible_bias[:] = self.visible_units.start(np.asarray(means, np.float64))
        return theta

    def energy(self, theta: np.ndarray, v: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Return E(v, h), (rows,), for visible and hidden states, (rows, units) each."""
        weights, hidden_bias, visible_bias = self.views(theta)
        own = self.visible_units.energy(v, visible_bias) + self.hidden_units.energy(h, hidden_bias)
        return own - np.einsum("ij,ij->i", v @ weights, h)

    def free_energy(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return F(v) = -log of the sum over h of exp(-E(v, h)), (rows,), of rows as they are."""
        weights, hidden_bias, visible_bias = self.views(theta)
        own = self.visible_units.energy(v, visible_bias)
        return own - self.hidden_units.log_sum(v @ weights, hidden_bias)

    def hidden(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the hidden units' means given the visible ones, (rows, hidden).

        Of binary units these are the probabilities P(h = 1 | v).
        """
        weights, hidden_bias, _ = self.views(theta)
        mean = v @ weights
        mean += hidden_bias
        self.hidden_units.mean(mean)
        return mean

    def visible(self, theta: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Return the visible units' means given the hidden ones, (rows, visible)."""
        weights, _, visible_bias = self.views(theta)
        mean = h @ weights.T
        mean += visible_bias
        self.visible_units.mean(mean)
        return mean

    def reconstruct(self, theta: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the visible means given the hidden means given `v`, (rows, visible)."""
        return self.visible(theta, self.hidden(theta, v))

    def sample(
        self,
        theta: np.ndarray,
        start: np.ndarray,
        steps: int,
        random: np.random.Generator,
        clamped: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return visible states, (rows, visible), after `steps` of Gibbs sampling from `start`.

        clamped: (visible,) bool, the units that keep the value that they start with.
        """
        v: np.ndarray = np.array(start, self.dtype)
        theta = np.asarray(theta, self.dtype)
        for _ in range(steps):
            h = self.hidden(theta, v)
            self.hidden_units.sample(h, random, h)
            fresh = self.visible(theta, h)
            self.visible_units.sample(fresh, random, fresh)
            if clamped is not None:
                fresh[:, clamped] = v[:, clamped]
            v = fresh
        return v
