"""One block: a partition's rows in a float32 file that a task maps into memory.

The file is the rows alone, in C order, each row its features, then its targets, then its weight;
everything else stands in the block's descriptor. Nothing here knows Spark.
"""

from __future__ import annotations

import mmap
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sparknn.objective import Rows
from sparknn.rows import Faults
from sparknn.sparse import column_means

__all__ = ["Block", "BlockWriter", "DiskFull", "Packed", "Summary", "check_space"]

SEGMENTS = 16
"""Pieces of a block whose contents are compared, to see whether its rows stand in an order."""

MOST_COMPARED = 512
"""Columns compared at the most, spread over all of them."""

RESERVE_BYTES = 256 * 2**20
"""Free disk that packing leaves to everybody else."""


def _nothing() -> np.ndarray:
    return np.zeros(0)


class DiskFull(Exception):
    """A block does not fit the executor's disk; the driver turns this into a DiskSpaceError."""


@dataclass(frozen=True)
class Block:
    """Where a partition's rows are, and how to read them.

    path: of its file. rows, features, targets: its sizes; `weighted` adds a column of weights.
    offset: (features,) float64 that was subtracted from the features, or None.
    checksum: CRC-32 of the file, to notice a block that was packed again from other rows.
    """

    path: str
    rows: int
    features: int
    targets: int
    weighted: bool
    offset: np.ndarray | None
    checksum: int

    @property
    def columns(self) -> int:
        return self.features + self.targets + self.weighted

    @property
    def sparse(self) -> bool:
        return False

    @property
    def bytes(self) -> int:
        """The size of what is stored."""
        return 4 * self.rows * self.columns

    def open(self) -> Rows | None:
        """Return the rows, mapped into memory; None where the file is gone or of another size.

        A block without targets is its own target, as for an autoencoder: no second copy.
        """
        if not self.rows:
            empty = np.empty((0, self.columns), np.float32)
            return self._rows(empty)
        try:
            if os.path.getsize(self.path) != self.rows * self.columns * 4:
                return None
            with open(self.path, "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        data = np.frombuffer(mapped, np.float32).reshape(self.rows, self.columns)
        return self._rows(data)._replace(announce=_Announced(mapped, 4 * self.columns))

    def _rows(self, data: np.ndarray) -> Rows:
        features = data[:, : self.features]
        targets = data[:, self.features : self.features + self.targets]
        weights = data[:, -1] if self.weighted else None
        return Rows(features, targets if self.targets else features, weights, self.offset)


class _Announced:
    """Has the system read rows of a mapped file, `row_bytes` each, before they are visited.

    A page that is not in memory would bring in the megabytes round it. Of those an order that is
    shuffled uses little before a block larger than memory has driven them out.
    """

    def __init__(self, mapped: mmap.mmap, row_bytes: int):
        self.mapped, self.row_bytes = mapped, row_bytes
        self.began = False

    def __call__(self, start: int, stop: int) -> None:
        if start == stop or not hasattr(mmap, "MADV_WILLNEED"):  # Windows has none
            return
        if not self.began:
            self.mapped.madvise(mmap.MADV_RANDOM)
            self.began = True
        first = start * self.row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
        self.mapped.madvise(mmap.MADV_WILLNEED, first, stop * self.row_bytes - first)


@dataclass(frozen=True)
class Summary:
    """What a partition's rows amount to; the driver adds these up.

    partition: of the source. seen: rows met. faults: rows that were invalid, and why.
    width: the features of its valid rows, None where there are none.
    weight, weight_squares: sums over rows of the weight and of its square.
    sums, squares: (features,) weighted sums of the features less their offset, and of its square;
        empty where not asked for.
    fingerprint: of the rows that were sent to be dealt, or, negative, of those that arrived.
    histogram: (classes,) the weight of each class; None without classes.
    segments: (pieces, 1 + 2 * columns) rows, then means, then mean squares of what is compared.
    notes: what those that read the rows have to say of them.
    """

    partition: int
    seen: int
    faults: Faults
    width: int | None = None
    weight: float = 0.0
    weight_squares: float = 0.0
    sums: np.ndarray = field(default_factory=_nothing)
    squares: np.ndarray = field(default_factory=_nothing)
    fingerprint: int = 0
    histogram: np.ndarray | None = None
    segments: np.ndarray | None = None
    notes: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Packed:
    """The result of packing a partition: its block, its summary, and what else went wrong."""

    block: Block
    summaries: list[Summary]
    problem: str | None = None


class BlockWriter:
    """Writes windows of rows to a block file that takes its final name when it is complete.

    Parameters
    ----------
    directory : str
        Made if need be. It is the fit's own: once the fit has ended and removed it, a straggling
        writer has nowhere to leave a file.
    name : str
        Unique to the attempt that writes.
    targets : int
        Target columns after the features.
    weighted : bool
        Whether a column of weights follows.
    shift : bool
        Subtract an offset from columns whose mean is large against their deviation, so that
        float32 keeps the deviation. The first window decides: a column that changes its level
        later has by that very change a deviation that float32 resolves.
    moments : bool
        Add up the features and their squares.
    """

    def __init__(
        self,
        directory: str,
        name: str,
        targets: int,
        weighted: bool,
        shift: bool = False,
        moments: bool = False,
    ):
        Path(directory).mkdir(parents=True, exist_ok=True)
        self.path = os.path.join(directory, name)
        self.targets, self.weighted = targets, weighted
        self.shift, self.moments = shift, moments
        self.offset: np.ndarray | None = None
        self.features = self.rows = self.checksum = 0
        self.weight = self.weight_squares = 0.0
        self.sums, self.squares = _nothing(), _nothing()
        # Labels and weights: read back from the file they would bring all of its pages along.
        self.labelled: list[np.ndarray] = []
        self._open()

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._close()
        self._remove()

    def _open(self) -> None:
        self.file = open(self.path + ".part", "wb")  # noqa: SIM115 - closed by finish or on exit

    def _close(self) -> None:
        self.file.close()

    def _remove(self) -> None:
        """Remove what has not taken its final name."""
        Path(self.path + ".part").unlink(missing_ok=True)

    def add(self, rows: Any) -> None:
        """Append a window of (rows, columns) floats; raise DiskFull where the disk has no room."""
        if not self.rows:
            self._begin(rows)
        features = rows[:, : self.features]
        if self.offset is not None:
            features -= self.offset
        weights = rows[:, -1].astype(np.float64) if self.weighted else np.ones(len(rows))
        self._weigh(weights)
        if self.moments:
            self.sums += weights @ features
            self.squares += weights @ np.square(features, dtype=np.float64)
        data = np.ascontiguousarray(rows, np.float32)
        check_space(self.path, data.nbytes)
        self.file.write(data.data)
        self.checksum = zlib.crc32(data.data, self.checksum)
        self._remember(data[:, self.features :])
        self.rows += len(rows)

    def _remember(self, rest: np.ndarray) -> None:
        """Keep the label and the weight of rows whose only target may be a label."""
        if self.targets == 1:
            self.labelled.append(rest.astype(np.float32))

    def _weigh(self, weights: np.ndarray) -> None:
        self.weight += float(weights.sum())
        self.weight_squares += float(weights @ weights)

    def _begin(self, rows: np.ndarray) -> None:
        self.features = rows.shape[1] - self.targets - self.weighted
        features = rows[:, : self.features]
        if self.shift:
            mean, deviation = features.mean(axis=0), features.std(axis=0)
            # Exactly, so that nothing is left of a constant column, not even its rounding.
            constant = features.min(axis=0) == features.max(axis=0)
            mean = np.where(constant, features[0], mean)
            self.offset = np.where(np.abs(mean) > 8 * deviation, mean, 0.0)
        if self.moments:
            self.sums, self.squares = np.zeros(self.features), np.zeros(self.features)

    def finish(self, report: Summary, classes: bool, compare: bool) -> Packed:
        """Give the file its name and return the block with its summary, `report` completed.

        classes: the first target holds class labels. compare: describe the block's segments.
        """
        self._close()
        os.replace(self.path + ".part", self.path)
        block = self._block()
        histogram = segments = None
        if self.rows and classes:
            rest = np.concatenate(self.labelled)
            labels = rest[:, 0].astype(np.intp)
            weights = rest[:, -1] if self.weighted else None
            histogram = np.bincount(labels, weights).astype(np.float64)
            segments = _class_segments(labels) if compare else None
        elif self.rows and compare:
            rows = block.open()
            segments = None if rows is None else _segments(rows)
        summary = replace(
            report,
            weight=self.weight,
            weight_squares=self.weight_squares,
            sums=self.sums,
            squares=self.squares,
            histogram=histogram,
            segments=segments,
        )
        return Packed(block, [summary])

    def _block(self) -> Block:
        return Block(
            self.path,
            self.rows,
            self.features,
            self.targets,
            self.weighted,
            self.offset,
            self.checksum,
        )


def check_space(path: str, needed: int) -> None:
    """Raise DiskFull unless the disk under `path` has `needed` bytes and the reserve free."""
    free = shutil.disk_usage(os.path.dirname(path)).free
    if free < needed + RESERVE_BYTES:
        raise DiskFull(
            f"{os.path.dirname(os.path.dirname(path))} has {free / 2**20:,.0f} MB free, and a "
            f"block there needs {(needed + RESERVE_BYTES) / 2**20:,.0f} MB more"
        )


def _spans(rows: int) -> Iterator[tuple[int, int]]:
    """Yield where each segment of so many rows begins and ends; none is empty."""
    bounds = np.linspace(0, rows, SEGMENTS + 1).astype(np.int64)
    return ((start, stop) for start, stop in pairwise(bounds.tolist()) if start < stop)


def _class_segments(labels: np.ndarray) -> np.ndarray:
    """Describe each segment by its rows and the classes' shares: means of 0 and 1, and squares."""
    most = int(labels.max()) + 1
    described = []
    for start, stop in _spans(len(labels)):
        shares = np.bincount(labels[start:stop], minlength=most) / (stop - start)
        described.append(np.concatenate([[stop - start], shares, shares]))
    return np.array(described)


def _segments(rows: Rows) -> np.ndarray:
    """Describe each segment by its rows, means and mean squares, as `Summary.segments` has them."""
    described = []
    # Each block has an offset of its own; what is compared is the features as they were.
    offset = rows.offset if rows.offset is not None and rows.offset.any() else None
    for start, stop in _spans(rows.length):
        part = rows.between(start, stop)
        compared = [part.features if offset is None else part.features + offset]
        if part.targets is not part.features:
            compared.append(part.targets)
        means, squares = np.hstack([_means(values) for values in compared])
        described.append(np.concatenate([[stop - start], means, squares]))
    return np.array(described)


def _means(values) -> np.ndarray:
    """Return means and mean squares, (2, compared), of columns spread over all of `values`."""
    step = 1 + (values.shape[1] - 1) // MOST_COMPARED
    if issparse(values):
        return column_means(values, step)
    values = values[:, ::step]
    squares = np.einsum("ij,ij->j", values, values, dtype=np.float64) / len(values)
    return np.array([values.mean(axis=0, dtype=np.float64), squares])
