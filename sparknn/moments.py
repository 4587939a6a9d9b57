"""Mean and deviation of sparse columns, in a round or two over the blocks.

They may be a million, so that each partition's would weigh more than its descriptor by far, and
travel with it in every round.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from sparknn.objective import Rows
from sparknn.rounds import Answer, Rounds
from sparknn.sparse import csr, transposed_product

if TYPE_CHECKING:
    from sparknn.blocks import Blocks

__all__ = ["sparse_moments"]

CHUNK = 2048
"""Rows to a chunk at the least."""


def sparse_moments(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """Return each column's weighted mean and deviation, (features,) float64, as `Blocks.moments`.

    Sums of squares are taken about an origin: zero, unless a column is set in every row. Then it
    is the mean to the precision of the rows, so that a constant has a deviation of zero exactly.
    """
    summaries = [summary for item in blocks.packed for summary in item.summaries]
    squared_weights = sum(summary.weight_squares for summary in summaries)
    origin = np.zeros(blocks.features)
    with Rounds(blocks, _Sums()) as rounds:
        sums, squares = _summed(rounds, origin)
        full = reduce(np.intersect1d, rounds.states.values())
        if len(full):
            origin[full] = (sums[full] / blocks.weight).astype(np.float32)
            sums, squares = _summed(rounds, origin)
    free = blocks.weight - squared_weights / blocks.weight
    squares -= sums**2 / blocks.weight
    deviation = np.sqrt(np.maximum(squares, 0) / free) if free > 0 else np.zeros_like(squares)
    return origin + sums / blocks.weight, deviation


def _summed(rounds: Rounds, origin: np.ndarray) -> np.ndarray:
    """Return sums and sums of squares about `origin`, (2, features)."""
    outcome = rounds.run(origin, None, "sparknn: means and deviations of the columns")
    return outcome.vector.reshape(2, -1)


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
                transposed_product(powers, weights, part)
                total += part
        return Answer(1.0, totals.ravel(), state=np.flatnonzero(set_in == rows.length))
