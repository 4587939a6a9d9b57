"""Rows dealt out at random, reproducibly.

A row's key is a hash of its place, (partition, position), and of the seed. Its key decides which
block a row goes to and where it stands there, so the outcome depends neither on the order in
which rows arrive nor on who handles them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sparknn.blockfiles import check_space
from sparknn.sparse import SparseRows

__all__ = ["SparseSpool", "Spool", "alike", "fingerprint", "row_keys"]

BUCKET_BITS = 6

WINDOW_BYTES = 2**24
"""Rows that wait in memory to be written together: a run of one bucket is a 64th of it."""


def row_keys(seed: int, partition: int, positions: np.ndarray) -> np.ndarray:
    """Return distinct pseudo-random keys, (rows,) uint64, for positions in a partition.

    The finaliser of SplitMix64 (Steele, Lea and Flood, 2014) is a bijection, so rows that differ
    in partition or position never share a key.
    """
    with np.errstate(over="ignore"):
        z = positions.astype(np.uint64) + (np.uint64(partition) << np.uint64(40))
        # The seed is mixed by itself first: added as it is, it would only move the keys by rows.
        return _mixed(z + _mixed(np.array(int(seed) % 2**64, np.uint64)))


def _mixed(z: np.ndarray) -> np.ndarray:
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def fingerprint(rows: np.ndarray | SparseRows) -> int:
    """Return a number that adds up, modulo 2^64, over any way of cutting the same rows in two.

    rows: (rows, columns) of floats, or sparse ones. Where a task of an input without a fixed
    order is run again, rows may come out twice and others not at all, under keys that are in
    order; sums before and after the shuffle tell.
    """
    if isinstance(rows, SparseRows):
        features = rows.features
        values = np.ascontiguousarray(features.data, np.float32).view(np.uint32)
        with np.errstate(over="ignore"):
            # One more, so that a zero which is stored leaves a trace.
            terms = (values + np.uint64(1)) * _factors(features.indices.astype(np.uint64))
            return int(terms.sum(dtype=np.uint64)) + fingerprint(rows.rest)
    bits = np.ascontiguousarray(rows).view(np.uint32).sum(axis=0, dtype=np.uint64)
    with np.errstate(over="ignore"):
        factors = _factors(np.arange(len(bits), dtype=np.uint64))
        return int((bits * factors).sum(dtype=np.uint64))


def _factors(columns: np.ndarray) -> np.ndarray:
    return _mixed(columns) | np.uint64(1)


class Spool:
    """Takes keyed rows in any order and gives them back in the order of their keys.

    The rows wait in a file, in runs of one bucket, by the first bits of their key, to a window;
    one bucket at a time is read and sorted, so that memory holds a small part of a block and disks
    are read in runs of a quarter of a megabyte.
    """

    def __init__(self, path: str, dtype: type):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path, self.dtype = path, dtype
        self.file = open(path, "w+b")  # noqa: SIM115 - closed by __exit__
        self.columns = self.rows = self.fingerprint = 0
        self.waiting: list[tuple[np.ndarray, Any]] = []
        self.waiting_bytes = 0
        self.runs: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(2**BUCKET_BITS)]

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.file.close()
        Path(self.path).unlink(missing_ok=True)

    def add(self, keys: np.ndarray, rows: Any) -> None:
        """Append (rows, columns) with their keys, (rows,) uint64."""
        rows = np.ascontiguousarray(rows, self.dtype)
        self.fingerprint += fingerprint(rows)
        self.waiting.append((keys, rows))
        self.waiting_bytes += rows.nbytes
        if self.waiting_bytes >= WINDOW_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Write the rows that wait."""
        if self.waiting:
            keys, rows = map(np.concatenate, zip(*self.waiting, strict=True))
            self.waiting, self.waiting_bytes = [], 0
            self._store(keys, rows)

    def _store(self, keys: np.ndarray, rows: Any) -> None:
        """Write rows, bucket by bucket."""
        order = np.argsort(keys)
        keys = keys[order]
        self._write_rows(rows[order])
        buckets = (keys >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
        bounds = np.searchsorted(buckets, np.arange(2**BUCKET_BITS + 1))
        for bucket, (start, stop) in enumerate(pairwise(bounds)):
            if start < stop:
                self.runs[bucket].append((self.rows + int(start), keys[start:stop]))
        self.rows += len(keys)

    def decoded(self, data: np.ndarray, lengths: np.ndarray) -> Any:
        """Return rows of the bytes that they were sent as; `lengths`: bytes of each, (rows,)."""
        return data.view(self.dtype).reshape(len(lengths), -1)

    def _write_rows(self, rows: Any) -> None:
        self._write(rows)
        self.columns = rows.shape[1]

    def _write(self, data: np.ndarray) -> None:
        check_space(self.path, data.nbytes)
        self.file.write(data.data)

    def windows(self) -> Iterator:
        """Yield all rows, (rows, columns), by ascending key, a bucket at a time."""
        self._flush()
        if not self.rows:
            return
        self.file.flush()
        read = self._reader()
        for runs in self.runs:
            if runs:
                rows = read([(first, len(keys)) for first, keys in runs])
                yield rows[np.argsort(np.concatenate([keys for _, keys in runs]))]

    def _reader(self) -> Callable[[list[tuple[int, int]]], Any]:
        """Return the function that reads runs of rows: of each the first row, and how many."""
        row_bytes = self.columns * np.dtype(self.dtype).itemsize

        # Not mapped: a page that is missing would bring in the megabytes round it.
        def read(runs: list[tuple[int, int]]) -> np.ndarray:
            shape = (sum(rows for _, rows in runs), self.columns)
            out: np.ndarray = np.empty(shape, self.dtype)
            into, at = out.data.cast("B"), 0
            for first, rows in runs:
                self.file.seek(first * row_bytes)
                at += self.file.readinto(into[at : at + rows * row_bytes])
            if at != out.nbytes:
                raise OSError(f"{self.path} ends too soon")
            return out

        return read


class SparseSpool(Spool):
    """A spool of `SparseRows`.

    width: their features; others: their targets and weight.
    """

    def __init__(self, path: str, width: int, others: int):
        super().__init__(path, np.int32)
        self.width, self.others = width, others
        self.lengths: list[np.ndarray] = []

    def add(self, keys: np.ndarray, rows: SparseRows) -> None:
        """Append rows with their keys, (rows,) uint64; none of them wait."""
        self.fingerprint += fingerprint(rows)
        self._store(keys, rows)

    def decoded(self, data: np.ndarray, lengths: np.ndarray) -> SparseRows:
        return SparseRows.decoded(data.view(np.int32), lengths // 4, self.width, self.others)

    def _write_rows(self, rows: SparseRows) -> None:
        words, lengths = rows.encoded()
        self._write(words)
        self.lengths.append(lengths)

    def _reader(self) -> Callable[[list[tuple[int, int]]], SparseRows]:
        lengths = np.concatenate(self.lengths)
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        # A row without values, targets and weight is a row all the same, of no words.
        words = np.memmap(self.path, np.int32, "r") if bounds[-1] else np.empty(0, np.int32)

        def read(runs: list[tuple[int, int]]) -> SparseRows:
            return SparseRows.decoded(
                np.concatenate(
                    [words[bounds[first] : bounds[first + rows]] for first, rows in runs]
                ),
                np.concatenate([lengths[first : first + rows] for first, rows in runs]),
                self.width,
                self.others,
            )

        return read


def alike(segments: list[np.ndarray]) -> bool:
    """Return whether pieces of the data look like draws from one distribution.

    segments: arrays of (pieces, 1 + 2 * columns), as `blockfiles.Summary.segments`.

    Pieces are unlike when one piece's mean of a column is off the whole's by a tenth of the
    column's deviation more than six standard errors, or when all pieces together explain one
    per cent of a column's variance more than chance would.
    """
    columns = max((piece.shape[1] // 2 for piece in segments), default=0)
    pieces = np.vstack([_widened(piece, columns) for piece in segments]) if segments else None
    if pieces is None or len(pieces) < 2 or not columns:
        return True
    sizes, means, squares = pieces[:, :1], pieces[:, 1 : 1 + columns], pieces[:, 1 + columns :]
    total = sizes.sum()
    centre = (sizes * means).sum(axis=0) / total
    variance = (sizes * squares).sum(axis=0) / total - centre**2
    varies = variance > 1e-12 * np.maximum(centre**2, 1e-30)
    off = np.abs(means - centre)[:, varies] / np.sqrt(variance[varies])
    # A piece that holds a rare class or a large value by chance varies more within itself.
    own = np.maximum((squares - means**2)[:, varies] / variance[varies], 1)
    if ((off > 0.1 + 6 * np.sqrt(own / sizes)) & (sizes >= 10)).any():
        return False
    freedom = len(pieces) - 1
    spread = (sizes * off**2).sum(axis=0)
    by_chance = freedom + 6 * np.sqrt(2 * freedom)
    return not ((spread > by_chance) & (spread - freedom > 0.01 * total)).any()


def _widened(piece: np.ndarray, columns: int) -> np.ndarray:
    """Return `piece` with zeros for the classes that only other blocks have met."""
    own = piece.shape[1] // 2
    wide = np.zeros((len(piece), 1 + 2 * columns))
    wide[:, 0] = piece[:, 0]
    wide[:, 1 : 1 + own] = piece[:, 1 : 1 + own]
    wide[:, 1 + columns : 1 + columns + own] = piece[:, 1 + own :]
    return wide
