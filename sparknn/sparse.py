"""Rows that are mostly zeros: only what is set is stored, in compressed sparse rows (CSR).

Such rows stay as they are from the file to the products of a model. What is done here copies no
stored values unless it must.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, issparse

__all__ = [
    "SparseRows",
    "between",
    "cast",
    "column_means",
    "csr",
]

MOST_POINTED = np.iinfo(np.int32).max


def csr(values: np.ndarray, indices: np.ndarray, pointers: np.ndarray, width: int) -> csr_array:
    """Return rows of `width` columns over these very arrays of values and column indices.

    pointers: (rows + 1,) where each row begins, counted from any origin.
    """
    pointers = pointers - pointers[0]
    if pointers[-1] <= MOST_POINTED:
        pointers = pointers.astype(np.int32, copy=False)
    rows = csr_array((len(pointers) - 1, width), dtype=values.dtype)
    # Set, because the constructor would read all indices, and might copy them as 64-bit ones.
    rows.data, rows.indices, rows.indptr = values, indices, pointers
    return rows


def between(features, start: int, stop: int):
    """Return some rows of a dense or CSR array, (rows, features), as views of it."""
    if not issparse(features):
        return features[start:stop]
    start, stop, _ = slice(start, stop).indices(features.shape[0])
    pointers = features.indptr[start : max(start, stop) + 1]
    stored = slice(pointers[0], pointers[-1])
    return csr(features.data[stored], features.indices[stored], pointers, features.shape[1])


def cast(features, dtype: type):
    """Return a dense or CSR array with values of `dtype`; only values are copied, if they must."""
    if not issparse(features):
        return np.asarray(features, dtype)
    values = features.data.astype(dtype, copy=False)
    return csr(values, features.indices, features.indptr, features.shape[1])


def column_means(features: csr_array, step: int) -> np.ndarray:
    """Return every `step`th column's mean and mean square, (2, columns) float64."""
    chosen = features.indices % step == 0
    places = features.indices[chosen] // step
    values = features.data[chosen].astype(np.float64)
    columns = -(-features.shape[1] // step)
    sums = [np.bincount(places, numbers, columns) for numbers in (values, values**2)]
    return np.array(sums) / features.shape[0]


@dataclass(frozen=True)
class SparseRows:
    """Some rows on their way to a block, or out of it.

    features: (rows, features) CSR array of float32. rest: (rows, targets and weight) float32.
    """

    features: csr_array
    rest: np.ndarray

    def __len__(self) -> int:
        return len(self.rest)

    def __getitem__(self, chosen: np.ndarray) -> SparseRows:
        """Return the rows that a mask, or an array of their numbers, chooses."""
        return SparseRows(self.features[chosen], self.rest[chosen])

    def encoded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows as 32-bit words, one after another, and the words of each, (rows,).

        A row is its stored values, their column indices, then targets and weight.
        """
        stored = np.diff(self.features.indptr).astype(np.int64)
        lengths = 2 * stored + self.rest.shape[1]
        words = np.empty(int(lengths.sum()), np.int32)
        values, indices, rest = _places(stored, lengths)
        words[values] = np.ascontiguousarray(self.features.data, np.float32).view(np.int32)
        words[indices] = self.features.indices
        words[rest] = np.ascontiguousarray(self.rest, np.float32).view(np.int32).ravel()
        return words, lengths

    @classmethod
    def decoded(cls, words: np.ndarray, lengths: np.ndarray, width: int, others: int) -> SparseRows:
        """Return the rows that `encoded` made words of; `others` are targets and weight."""
        stored = (lengths.astype(np.int64) - others) // 2
        values, indices, rest = _places(stored, lengths.astype(np.int64))
        pointers = np.concatenate([[0], np.cumsum(stored)])
        features = csr(words[values].view(np.float32), words[indices], pointers, width)
        return cls(features, words[rest].view(np.float32).reshape(len(lengths), others))


def _places(stored: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the values, the indices and the other words of encoded rows stand."""
    starts = np.cumsum(lengths) - lengths
    values = _runs(starts, stored)
    return (
        values,
        values + np.repeat(stored, stored),
        _runs(starts + 2 * stored, lengths - 2 * stored),
    )


def _runs(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return `counts` successive numbers from each of `starts`, joined."""
    before = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) + np.repeat(starts - before, counts)
