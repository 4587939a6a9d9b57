"""One block of sparse rows: compressed sparse rows in four files that a task maps into memory.

`values` and `indices` hold what is stored, row after row, as float32 and int32; `pointers`, int64,
where each row of them begins, and the last one ends; `rest`, float32 in C order, each row's
targets and weight. Zeros that are not stored cannot be shifted, so there is no offset: of a column
that is set in every row and whose mean is large against its deviation, float32 keeps 24 bits.
"""

from __future__ import annotations

import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparknn.blockfiles import Block, BlockWriter, check_space
from sparknn.objective import Rows
from sparknn.sparse import SparseRows, csr

__all__ = ["SparseBlock", "SparseWriter"]

PARTS = {"values": np.float32, "indices": np.int32, "pointers": np.int64, "rest": np.float32}


@dataclass(frozen=True)
class SparseBlock(Block):
    """Where a partition's sparse rows are: `path` is a directory of files.

    stored: values of the features that are stored, of all rows together.
    """

    stored: int = 0

    @property
    def sparse(self) -> bool:
        return True

    @property
    def bytes(self) -> int:
        return sum(4 * count for count in self._counts().values()) + 4 * (self.rows + 1)

    def _counts(self) -> dict[str, int]:
        """Return how many numbers each file holds."""
        rest = self.rows * (self.targets + self.weighted)
        return {
            "values": self.stored,
            "indices": self.stored,
            "pointers": self.rows + 1,
            "rest": rest,
        }

    def open(self) -> Rows | None:
        """Return the rows, mapped into memory; None where a file is gone or of another size."""
        parts = {}
        for part, count in self._counts().items():
            mapped = _mapped(os.path.join(self.path, part), PARTS[part], count)
            if mapped is None:
                return None
            parts[part] = mapped
        features = csr(parts["values"], parts["indices"], parts["pointers"], self.features)
        rest = parts["rest"].reshape(self.rows, self.targets + self.weighted)
        targets = rest[:, : self.targets] if self.targets else features
        return Rows(features, targets, rest[:, -1] if self.weighted else None)


def _mapped(path: str, dtype: type, count: int) -> np.ndarray | None:
    """Return a file of `count` numbers mapped into memory; None where it is no such file."""
    try:
        if os.path.getsize(path) != count * np.dtype(dtype).itemsize:
            return None
        # No system maps nothing.
        return np.memmap(path, dtype, "r").view(np.ndarray) if count else np.empty(0, dtype)
    except FileNotFoundError:
        return None


class SparseWriter(BlockWriter):
    """Writes windows of sparse rows to a block that takes its final name when it is complete.

    The parameters are `BlockWriter`'s; there are neither offsets nor moments (see `moments`).
    """

    def _open(self) -> None:
        self.stored = 0
        self.checksums = dict.fromkeys(PARTS, 0)
        Path(self.path + ".part").mkdir()
        self.files = {
            part: open(os.path.join(self.path + ".part", part), "wb")  # noqa: SIM115
            for part in PARTS
        }
        self._write({"pointers": np.zeros(1, np.int64)})

    def _close(self) -> None:
        for file in self.files.values():
            file.close()

    def _remove(self) -> None:
        shutil.rmtree(self.path + ".part", ignore_errors=True)

    def add(self, rows: SparseRows) -> None:
        """Append a window of rows; raise DiskFull where the disk has no room."""
        features, rest = rows.features, rows.rest
        self.features = features.shape[1]
        self._weigh(rest[:, -1].astype(np.float64) if self.weighted else np.ones(len(rows)))
        self._write(
            {
                "values": np.ascontiguousarray(features.data, np.float32),
                "indices": np.ascontiguousarray(features.indices, np.int32),
                "pointers": features.indptr[1:].astype(np.int64) + self.stored,
                "rest": np.ascontiguousarray(rest, np.float32),
            }
        )
        self.stored += features.nnz
        self._remember(rest)
        self.rows += len(rows)

    def _write(self, parts: dict[str, np.ndarray]) -> None:
        check_space(self.path, sum(part.nbytes for part in parts.values()))
        for name, part in parts.items():
            self.files[name].write(part.data)
            self.checksums[name] = zlib.crc32(part.data, self.checksums[name])

    def _block(self) -> Block:
        if not self.rows:
            return Block(self.path, 0, 0, self.targets, self.weighted, None, 0)
        checksum = zlib.crc32(np.array(list(self.checksums.values())).tobytes())
        return SparseBlock(
            self.path,
            self.rows,
            self.features,
            self.targets,
            self.weighted,
            None,
            checksum,
            self.stored,
        )
