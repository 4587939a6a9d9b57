"""What training needs to know of a model: an objective over rows, and a penalty.

The cluster's floor trains anything that is an `Objective`; it never learns which model that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.sparse import issparse

from sparknn.sparse import between

__all__ = ["L2", "ElasticNet", "Objective", "Rows"]


STORED = 2**17
"""Stored values to a chunk of sparse rows at the least: about what a core's cache holds."""


class Rows(NamedTuple):
    """Some training rows, as views of a block.

    features: (rows, features) float array, dense, each column less its `offset`; or a CSR array
    of SciPy's, which never has an offset.
    targets: (rows, targets) float array.
    weights: (rows,) float array, or None where all rows weigh the same.
    offset: (features,) float64 array, or None where nothing was subtracted.
    announce: begins to bring rows from `start` up to `stop` into memory, for who will visit parts
        in no order; None where that is nothing to think of.
    """

    features: Any
    targets: Any
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None
    announce: Callable[[int, int], None] | None = None

    @property
    def length(self) -> int:
        """The number of rows."""
        return self.features.shape[0]

    def between(self, start: int, stop: int) -> Rows:
        """Return the rows from `start` up to, without, `stop`, as views."""
        weights = None if self.weights is None else self.weights[start:stop]
        features = between(self.features, start, stop)
        if self.targets is self.features:
            return Rows(features, features, weights, self.offset)
        return Rows(features, self.targets[start:stop], weights, self.offset)

    def chunks(self, size: int) -> Iterator[Rows]:
        """Yield all rows in chunks of `size`; sparse ones in larger chunks, by what they store.

        Each chunk costs additions as wide as the features, which products with a few stored
        values could not outweigh.
        """
        if issparse(self.features):
            stored = max(STORED, 4 * self.features.shape[1])
            size = max(size, stored * self.length // max(self.features.nnz, 1))
        for start in range(0, self.length, size):
            yield self.between(start, start + size)


class Objective(Protocol):
    """A mean loss over rows as a function of one flat parameter vector."""

    @property
    def size(self) -> int:
        """The number of parameters."""
        ...

    @property
    def dtype(self) -> type:
        """In what the parameters are sent and the gradient is computed."""
        ...

    @property
    def chunk(self) -> int:
        """Rows that a full-batch pass hands to `gradient` at a time: what suits the cache."""
        ...

    def gradient(
        self,
        theta: np.ndarray,
        rows: Rows,
        out: np.ndarray,
        random: np.random.Generator | None = None,
    ) -> tuple[float, float]:
        """Write the gradient of the weighted mean loss of `rows` at `theta` into `out`.

        `random` draws what the objective leaves to chance (dropout); without it nothing is.
        Returns the mean loss and the weight that it is a mean over, zero where no row counts.

        An objective may have more: `computation` (with the same arguments: a generator that leaves
        the products with the rows to whoever runs it, see `products`), `stochastic` (whether it
        draws), `project(theta)` (done after each minibatch step, in place), `measure(theta, rows)`
        (loss and weight of held-out rows, without a gradient), `monitor(theta, rows)` (another
        mean to keep of them), and, where it is `persistent`, chains that go on from step to step,
        the last argument of `gradient`: `chains(state, count, theta, random)` makes them of what
        `state(chains)` returned, an array that the driver keeps for the partition, or of None. One
        that `accumulates` takes `scale`, too, and adds `scale` times the gradient to `out`.
        """
        ...


@dataclass(frozen=True)
class L2:
    """The penalty strength / 2 * sum(factor * theta^2) over some slices of the parameters.

    slices: (slice, factor) pairs; a factor is a number or an array as long as its slice.
    """

    strength: float = 0.0
    slices: list[tuple[slice, np.ndarray | float]] = field(default_factory=list)

    def value(self, theta: np.ndarray) -> float:
        """Return the penalty at `theta`."""
        if not self.strength:
            return 0.0
        squares = (np.sum(theta[part] ** 2 * factor) for part, factor in self.slices)
        return 0.5 * self.strength * float(sum(squares))

    def add_gradient(self, theta: np.ndarray, gradient: np.ndarray, scale: float = 1.0) -> None:
        """Add the penalty's gradient at `theta`, times `scale`, to `gradient`."""
        if self.strength:
            for part, factor in self.slices:
                gradient[part] += (scale * self.strength * factor) * theta[part]


@dataclass(frozen=True)
class ElasticNet(L2):
    """An L2 penalty and the sum of l1 * |theta|, l1 being (size,) and 0 for what is free.

    Its gradient at zero is taken as zero, which serves minibatch steps but leaves no exact zeros.
    A full-batch solver that finds those is given the L1 strengths itself.
    """

    l1: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def value(self, theta: np.ndarray) -> float:
        """Return the penalty at `theta`."""
        return super().value(theta) + float(np.sum(self.l1 * np.abs(theta)))

    def add_gradient(self, theta: np.ndarray, gradient: np.ndarray, scale: float = 1.0) -> None:
        """Add a subgradient of the penalty at `theta`, times `scale`, to `gradient`."""
        super().add_gradient(theta, gradient, scale)
        gradient += (scale * self.l1 * np.sign(theta)).astype(gradient.dtype)
