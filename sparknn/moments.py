"""What the blocks' columns hold, found in a round or two over them.

Mean and deviation of targets, and of sparse columns: these may be a million, so that each
partition's would weigh more than its descriptor by far, and travel with it in every round. And
ranges, for models that have a say in their input's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce, wraps
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.sparse import issparse

from sparknn.blocks import Blocks
from sparknn.objective import Rows
from sparknn.products import TransposedProduct
from sparknn.rounds import Answer, Rounds
from sparknn.sparse import csr

__all__ = ["Ranges", "column_moments", "column_ranges", "target_moments"]

CHUNK = 2048
"""Rows to a chunk at the least."""

DENSE = 2**21
"""Values that are looked at together."""


Found = TypeVar("Found")


def _once(find: Callable[[Blocks], Found]) -> Callable[[Blocks], Found]:
    """Keep what is found out about blocks with them."""

    @wraps(find)
    def found(blocks: Blocks) -> Found:
        if find.__name__ not in blocks.found:
            blocks.found[find.__name__] = find(blocks)
        return blocks.found[find.__name__]

    return found


@_once
def column_moments(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Return each column's weighted mean and deviation, (features,) float64, as MLlib's.

    The deviation is that of a sample, with weightSum - sum(weight^2) / weightSum below. Those of
    sparse blocks take a round or two.
    """
    return _of_sparse(blocks) if blocks.sparse else _of_dense(blocks)


def _of_dense(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Add up what was found while packing."""
    parts = [(item.block, s) for item in blocks.packed for s in item.summaries if s.weight > 0]
    weight = blocks.weight
    # Blocks have offsets of their own; sums are moved to the first one's before they add up.
    offsets = [np.zeros(blocks.features) if b.offset is None else b.offset for b, _ in parts]
    origin = offsets[0]
    shifts = [offset - origin for offset in offsets]
    means = [shift + s.sums / s.weight for shift, (_, s) in zip(shifts, parts, strict=True)]
    mean = sum(m * s.weight for m, (_, s) in zip(means, parts, strict=True)) / weight
    squares = sum(
        s.squares - s.sums**2 / s.weight + s.weight * (m - mean) ** 2
        for m, (_, s) in zip(means, parts, strict=True)
    )
    free = weight - sum(s.weight_squares for _, s in parts) / weight
    variance = np.maximum(squares, 0) / free if free > 0 else np.zeros_like(squares)
    return origin + mean, np.sqrt(variance)


def _of_sparse(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Take sums of squares about an origin: zero, unless a column is set in every row.

    Then it is the mean to the precision of the rows, so that a constant has a deviation of zero
    exactly.
    """
    origin = np.zeros(blocks.features)
    with Rounds(blocks, _Sums()) as rounds:
        sums, squares = _summed(rounds, origin)
        full = reduce(np.intersect1d, rounds.states.values())
        if len(full):
            origin[full] = (sums[full] / blocks.weight).astype(np.float32)
            sums, squares = _summed(rounds, origin)
    return _moments(blocks, origin, sums, squares)


@_once
def target_moments(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Return each target's weighted mean and deviation, (targets,) float64, in two rounds.

    Sums of squares are taken about the mean, to the precision of the rows; so a constant has a
    deviation of zero exactly.
    """
    with Rounds(blocks, _TargetSums()) as rounds:
        sums, _ = _summed(rounds, np.zeros(blocks.targets))
        origin = (sums / blocks.weight).astype(np.float32).astype(np.float64)
        sums, squares = _summed(rounds, origin)
    return _moments(blocks, origin, sums, squares)


def _moments(
    blocks: Blocks, origin: np.ndarray, sums: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and sample deviations from weighted sums, and of squares, about `origin`."""
    summaries = [summary for item in blocks.packed for summary in item.summaries]
    weight_squares = sum(summary.weight_squares for summary in summaries)
    free = blocks.weight - weight_squares / blocks.weight
    squares = squares - sums**2 / blocks.weight
    deviation = np.sqrt(np.maximum(squares, 0) / free) if free > 0 else np.zeros_like(squares)
    return origin + sums / blocks.weight, deviation


def _summed(rounds: Rounds, origin: np.ndarray) -> np.ndarray:
    """Return sums and sums of squares about `origin`, (2, columns)."""
    outcome = rounds.run(origin, None, "sparknn: means and deviations of the columns")
    return outcome.vector.reshape(2, -1)


class _TargetSums:
    """Visits a block for its targets' weighted sums and squares less `origin`."""

    def __call__(
        self, origin: np.ndarray, task: None, partition: int, rows: Rows, state: None
    ) -> Answer:
        totals = np.zeros((2, len(origin)))
        for chunk in rows.chunks(CHUNK):
            values = chunk.targets - origin
            weights = np.ones(chunk.length) if chunk.weights is None else chunk.weights
            weights = weights.astype(np.float64)[:, np.newaxis]
            totals += (weights * values).sum(axis=0), (weights * values**2).sum(axis=0)
        return Answer(1.0, totals.ravel())


class _Sums:
    """Visits a block for its columns' weighted sums and squares less `origin`.

    The origin is zero for a column that some row does not set. What is kept of a block is the
    numbers of the columns that all its rows set: few, or it would not be sparse.
    """

    def __call__(
        self, origin: np.ndarray, task: None, partition: int, rows: Rows, state: Any
    ) -> Answer:
        totals = np.zeros((2, len(origin)))
        part = np.empty(len(origin))
        shifted = origin.any()
        set_in = np.zeros(len(origin), np.int64)
        for chunk in rows.chunks(CHUNK):
            features = chunk.features
            set_in += np.bincount(features.indices, minlength=len(origin))
            values = features.data.astype(np.float64)
            if shifted:
                values -= origin[features.indices]
            weights = np.ones(chunk.length)
            if chunk.weights is not None:
                weights = chunk.weights.astype(np.float64)
            for total, stored in zip(totals, (values, values**2), strict=True):
                powers = csr(stored, features.indices, features.indptr, len(origin))
                TransposedProduct(powers, weights, part).make()
                total += part
        return Answer(1.0, totals.ravel(), state=np.flatnonzero(set_in == rows.length))


class Ranges(NamedTuple):
    """What columns hold.

    mean, deviation, lowest, highest: (features,) float64. outside: rows with a value that is not
    in [0, 1].
    """

    mean: np.ndarray
    deviation: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    outside: int


@_once
def column_ranges(blocks: Blocks) -> Ranges:
    """Return the ranges of the columns of unweighted blocks without an offset, in one round."""
    with Rounds(blocks, _Extent()) as rounds:
        outcome = rounds.run(np.zeros(blocks.features), None, "sparknn: ranges of the columns")
        sums, squares = outcome.vector.reshape(2, -1)
        extents = [rounds.states[partition] for partition in sorted(rounds.states)]
    mean = sums / blocks.rows
    deviation = np.sqrt(np.maximum(squares / blocks.rows - mean**2, 0))
    lowest = np.min([extent[0] for extent in extents], axis=0)
    highest = np.max([extent[1] for extent in extents], axis=0)
    deviation[lowest == highest] = 0
    return Ranges(mean, deviation, lowest, highest, round(outcome.loss * blocks.rows))


class _Extent:
    """Visits a block for its columns' sums, sums of squares, lowest and highest values.

    The loss is the share of rows with a value outside [0, 1], the weight the rows.
    """

    def __call__(
        self, origin: np.ndarray, task: None, partition: int, rows: Rows, state: None
    ) -> Answer:
        width = len(origin)
        totals, extent = np.zeros((2, width)), np.empty((2, width))
        extent[0], extent[1] = np.inf, -np.inf
        outside = 0
        step = max(1, DENSE // width)
        for start in range(0, rows.length, step):
            values = rows.between(start, min(start + step, rows.length)).features
            values = values.toarray() if issparse(values) else values
            totals[0] += values.sum(axis=0, dtype=np.float64)
            totals[1] += np.einsum("ij,ij->j", values, values, dtype=np.float64)
            low, high = values.min(axis=0), values.max(axis=0)
            np.minimum(extent[0], low, out=extent[0])
            np.maximum(extent[1], high, out=extent[1])
            if low.min() < 0 or high.max() > 1:
                outside += np.count_nonzero(((values < 0) | (values > 1)).any(axis=1))
        # Sums are multiplied by the weight as they are added up.
        return Answer(
            float(rows.length), totals.ravel() / rows.length, outside / rows.length, extent
        )
