"""Linear models on the data as it is, optimised in other coordinates.

Linear and logistic regression converge in few iterations only when columns are centred and
scaled, but centring would destroy sparsity and scaling would copy the data. So both are virtual:
a column x enters as (x - centre) / scale, and what changes is the parameters, not the rows.
"""

from __future__ import annotations

import numpy as np

from sparknn.losses import Loss
from sparknn.losses import loss as loss_named
from sparknn.objective import L2, Rows
from sparknn.products import Computation, Product, TransposedProduct, run
from sparknn.sparse import cast

__all__ = ["LinearObjective"]

SETTLED, SETTLED_UNCENTRED = 1e-7, 1e-5
"""Relative decrease of an iteration below which float32 products no longer serve.

Measured on five data sets: down to 1e-7 they cost no iteration, and at 1e-8 line searches fail for
their rounding. Columns that are not centred make for a flat optimum, of which they can miss some.
"""


class LinearObjective:
    """The mean loss of a linear model in virtually centred and scaled columns.

    The flat parameters are the weights, (features, units) in C order, then, with an intercept,
    the units' intercepts: a network of one layer. Sums are float64, and so are the products of
    the rows, cast chunk by chunk in cache, while `precise`; float32 products, about twice as
    fast, serve as long as a solver is far from the optimum.

    Parameters
    ----------
    centre : array of (features,)
        Subtracted from each column. Zeros where there is no intercept to make up for it.
    scale : array of (features,)
        Divides each column; a column of scale zero takes no part, and its weights stay zero.
    units : int
        One for two classes (the log-odds of class 1), else one per class, or per target.
    intercept : bool
    loss : Loss, optional
        By default cross-entropy, of a sigmoid unit or of a softmax over several.
    """

    dtype = np.float64

    def __init__(
        self,
        centre: np.ndarray,
        scale: np.ndarray,
        units: int,
        intercept: bool,
        loss: Loss | None = None,
    ):
        self.centre = np.asarray(centre, np.float64)
        scale = np.asarray(scale, np.float64)
        self.inverse_scale = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
        self.features, self.units, self.intercept = len(scale), units, intercept
        self.size = (self.features + intercept) * units
        self.loss = loss or loss_named("softmax" if units > 1 else "sigmoid")
        self.precise = True
        self.settled = SETTLED if self.centre.any() else SETTLED_UNCENTRED
        # Four megabytes of float64 at the most: larger ones leave the cache (measured at 784
        # features), and smaller ones pay more for what is done once a chunk.
        self.chunk = max(64, 2**19 // max(self.features, 1))

    def raw(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights, (features, units), and intercepts, (units,), for columns as they are."""
        weights, intercepts = self._centred(theta)
        return weights, intercepts - _combined(self.centre, weights)

    def theta(self, weights: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
        """Return the flat parameters of given raw weights and intercepts: the inverse of `raw`."""
        flat = [(weights * self._scale()).ravel()]
        if self.intercept:
            flat.append(intercepts + _combined(self.centre, weights))
        return np.concatenate(flat)

    def penalty(self, strength: float, deviation: np.ndarray, standardization: bool) -> L2:
        """Return MLlib's L2 penalty: on the weights of standardised columns, or on the raw ones."""
        raw = self.inverse_scale**2
        factor = raw * np.asarray(deviation, np.float64) ** 2 if standardization else raw
        weights = slice(0, self.features * self.units)
        return L2(strength, [(weights, np.repeat(factor, self.units))])

    def l1(self, strength: float, deviation: np.ndarray, standardization: bool) -> np.ndarray:
        """Return MLlib's L1 penalty as a strength for each flat parameter, (size,), for `OWLQN`.

        It is on the weights of standardised columns, or on the raw ones; intercepts have none.
        """
        factor = self.inverse_scale
        if standardization:
            factor = factor * np.asarray(deviation, np.float64)
        intercepts = np.zeros(self.units if self.intercept else 0)
        return np.concatenate([np.repeat(strength * factor, self.units), intercepts])

    def bounds(self, weights: np.ndarray, intercepts: np.ndarray) -> np.ndarray:
        """Return bounds on raw weights, (features, units), and intercepts as flat ones, (size,).

        Raises
        ------
        ValueError
            If an intercept's bound is finite though columns are centred: the raw intercept is
            then no flat parameter.
        """
        if self.intercept and self.centre.any() and np.isfinite(intercepts).any():
            raise ValueError("intercepts can be bounded only if no column is centred")
        scale = self._scale()
        flat = np.multiply(weights, scale, out=np.zeros(np.shape(weights)), where=scale != 0)
        return np.concatenate([flat.ravel(), intercepts] if self.intercept else [flat.ravel()])

    def _scale(self) -> np.ndarray:
        """Return what divides each column, (features, 1), zero where it takes no part."""
        inverse = self.inverse_scale[:, np.newaxis]
        return np.divide(1.0, inverse, out=np.zeros_like(inverse), where=inverse != 0)

    def _centred(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        split = self.features * self.units
        weights = theta[:split].reshape(self.features, self.units)
        weights = weights * self.inverse_scale[:, np.newaxis]
        return weights, theta[split:] if self.intercept else np.zeros(self.units)

    def gradient(
        self,
        theta: np.ndarray,
        rows: Rows,
        out: np.ndarray,
        random: np.random.Generator | None = None,
    ) -> tuple[float, float]:
        """Write the gradient of the weighted mean loss at `theta` into `out`.

        Returns the mean loss and the total weight, both without any penalty.
        """
        return run(self.computation(theta, rows, out))

    def computation(self, theta: np.ndarray, rows: Rows, out: np.ndarray) -> Computation:
        """Do what `gradient` does; the products with the rows are whoever runs it's."""
        total = float(rows.length if rows.weights is None else rows.weights.sum(dtype=np.float64))
        if total == 0:
            out[:] = 0
            return 0.0, 0.0
        weights, intercepts = self._centred(theta)
        shift = self.centre if rows.offset is None else self.centre - rows.offset
        features = cast(rows.features, np.float64 if self.precise else np.float32)
        delta: np.ndarray = np.empty((rows.length, self.units))
        yield Product(features, weights.astype(features.dtype, copy=False), delta)
        delta += intercepts - shift @ weights
        losses = self.loss.value_and_delta(delta, rows.targets)
        if rows.weights is not None:
            row_weights = rows.weights.astype(np.float64)
            losses = losses * row_weights
            delta *= row_weights[:, np.newaxis]
        delta /= total
        sums = delta.sum(axis=0)
        split = self.features * self.units
        gradient = out[:split].reshape(self.features, self.units)
        yield TransposedProduct(features, delta.astype(features.dtype, copy=False), gradient)
        gradient -= shift[:, np.newaxis] * sums
        gradient *= self.inverse_scale[:, np.newaxis]
        if self.intercept:
            out[split:] = sums
        return float(losses.sum()) / total, total


def _combined(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return values @ weights, in an order that no number of threads can change."""
    return np.einsum("i,ij->j", values, weights)
