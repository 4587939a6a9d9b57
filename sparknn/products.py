"""Products of rows with parameters: the two in which a model's gradient meets the data.

A model says which product it wants and goes on once it has it. So several models that ask for
products with the same rows can have them made together, in one call of BLAS: for few units that
takes a third of the time, since the rows are arranged for the processor's kernels only once. It is
done where it gives each model the bits of a product of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sparknn.sparse import csr

__all__ = ["Computation", "Product", "TransposedProduct", "in_step", "run"]

NARROW = 8
"""Features to a unit from which a product is computed the other way round."""

STRIDE = 4
"""Units by which OpenBLAS's float32 kernels go: ten take half as long again as twelve do."""

JOINED, FEW = 8, 64
"""How many products are made together at the most, and of how many units each: with more units a
product of its own is about as fast."""

TRIED = 2**23
"""Values of the rows up to which it is tried whether that keeps the bits."""


@dataclass(frozen=True, eq=False)
class Product:
    """The wish for features @ values, written into `out`.

    features: a dense or CSR array, (rows, features). values: weights, (features, units) of the
    same dtype. out: (rows, units), to which the product is cast.
    """

    features: Any
    values: np.ndarray
    out: np.ndarray

    def make(self) -> None:
        """Write the product into `out`."""
        if issparse(self.features):
            self.out[:] = self.features @ self.values
        elif self.out.dtype == self.features.dtype:
            np.dot(self.features, self.values, out=self.out)
        else:
            # Cast in a pass of its own anyway, which leaves the columns of zeros out.
            self.out[:] = (self.features @ _in_strides(self.values))[:, : self.values.shape[1]]

    @staticmethod
    def whole(features: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the product with many units' values, (rows, units)."""
        return features @ values


@dataclass(frozen=True, eq=False)
class TransposedProduct:
    """The wish for features.T @ values, written into `out`.

    features: a dense or CSR array, (rows, features). values: (rows, units), or (rows,), of the same
    dtype. out: (features, units), or (features,), to which the product is cast.
    """

    features: Any
    values: np.ndarray
    out: np.ndarray

    def make(self) -> None:
        """Write the product into `out`."""
        if issparse(self.features):
            self._make_sparse()
        elif self.values.ndim == 2 and NARROW * self.values.shape[1] <= self.features.shape[1]:
            # Along the rows as they are stored: twice as fast for few units.
            units = self.values.shape[1]
            self.out[:] = (_in_strides(self.values).T @ self.features)[:units].T
        elif self.out.dtype == self.features.dtype:
            np.dot(self.features.T, self.values, out=self.out)
        else:
            self.out[:] = self.features.T @ self.values

    def _make_sparse(self) -> None:
        features, out = self.features, self.out
        if features.nnz >= features.shape[1]:
            out[:] = features.T @ self.values
            return
        # Few of the columns are met: the others cost no more than their zeros.
        columns, places = np.unique(features.indices, return_inverse=True)
        places = places.astype(np.int32, copy=False)
        met = csr(features.data, places, features.indptr, len(columns))
        out[:] = 0
        out[columns] = met.T @ self.values

    @staticmethod
    def whole(features: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the product with many units' values, (features, units)."""
        return (values.T @ features).T


Computation = Generator[Product | TransposedProduct, None, Any]
"""Yields the products that it wants, goes on when each is made, and returns its result."""


def run(computation: Computation) -> Any:
    """Run a computation by itself; return its result."""
    while True:
        try:
            wish = next(computation)
        except StopIteration as end:
            return end.value
        wish.make()


def in_step(computations: Sequence[Computation]) -> list[Any]:
    """Run computations side by side; return their results.

    Those that want products with the same array of rows at the same time share them.
    """
    results: list[Any] = [None] * len(computations)
    active = dict(enumerate(computations))
    while active:
        wishes = []
        for number, computation in list(active.items()):
            try:
                wishes.append(next(computation))
            except StopIteration as end:
                results[number] = end.value
                del active[number]
        _make(wishes)
    return results


def _make(wishes: list[Product | TransposedProduct]) -> None:
    """Make all products, those with the same rows together where that changes no bits."""
    groups: dict[tuple[type, int], list[Any]] = {}
    for wish in wishes:
        if issparse(wish.features) or wish.values.shape[1] > FEW:
            wish.make()
        else:
            groups.setdefault((type(wish), id(wish.features)), []).append(wish)
    for group in groups.values():
        for some in _parts(group):
            if len(some) > 1 and _same_bits(*_shape(some)):
                _make_joined(some)
            else:
                for wish in some:
                    wish.make()


def _parts(group: list[Any]) -> Iterator[list[Any]]:
    """Yield parts of about the same size, none of more than may be made together."""
    parts = -(-len(group) // JOINED)
    bounds = [len(group) * number // parts for number in range(parts + 1)]
    return (group[start:stop] for start, stop in pairwise(bounds))


def _make_joined(group: list[Any]) -> None:
    """Make the products of dense rows in one."""
    values = [_in_strides(wish.values) for wish in group]
    whole = group[0].whole(group[0].features, np.concatenate(values, axis=1))
    start = 0
    for wish, wide in zip(group, values, strict=True):
        wish.out[:] = whole[:, start : start + wish.values.shape[1]]
        start += wide.shape[1]


def _shape(group: list[Any]) -> tuple[type, tuple[int, int], int, np.dtype, tuple[int, ...]]:
    """Return all that BLAS can go by: the rows' shape and distance, the dtype, all units."""
    features = group[0].features
    distance = features.strides[0] // features.itemsize
    units = tuple(wish.values.shape[1] for wish in group)
    return type(group[0]), features.shape, distance, features.dtype, units


@lru_cache(maxsize=1024)
def _same_bits(
    kind: type, shape: tuple[int, int], distance: int, dtype: np.dtype, units: tuple[int, ...]
) -> bool:
    """Return whether joined products of this shape have the bits of separate ones: try it.

    BLAS adds up each number of a product in an order that goes by the shapes alone. Where the
    joined product's is another, as with the kernels for small ones, noise shows it.
    """
    if shape[0] * distance > TRIED:
        return False
    random = np.random.Generator(np.random.SFC64(0))
    features = _noise(random, shape[0], distance, dtype)[:, : shape[1]]
    inner, outer = (shape[1], shape[0]) if kind is Product else shape
    group = [
        kind(features, _noise(random, inner, count, dtype), np.empty((outer, count), dtype))
        for count in units
    ]
    for wish in group:
        wish.make()
    separate = [wish.out.copy() for wish in group]
    _make_joined(group)
    return all(np.array_equal(one, wish.out) for one, wish in zip(separate, group, strict=True))


def _noise(random: np.random.Generator, rows: int, columns: int, dtype: np.dtype) -> np.ndarray:
    return (random.random((rows, columns), np.float32) - np.float32(0.5)).astype(dtype)


def _in_strides(values: np.ndarray) -> np.ndarray:
    """Return (n, units) with columns of zeros at its end, where a product is faster with them."""
    count, units = values.shape
    missing = -units % STRIDE
    if values.dtype != np.float32 or not missing or units < STRIDE - 1:
        return values
    wide = np.zeros((count, units + missing), values.dtype)
    wide[:, :units] = values
    return wide
