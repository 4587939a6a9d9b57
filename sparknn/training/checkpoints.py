"""Fits that survive their driver: state saved every few iterations, on any Hadoop file system.

A checkpoint is one immutable object, numbered, with a checksum at its end. Object stores have no
rename, and a driver may be killed in mid-write: an object that is cut short does not match its
checksum, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from py4j.protocol import Py4JJavaError

from sparknn.blocks import Blocks
from sparknn.cluster import Cluster
from sparknn.errors import CheckpointError
from sparknn.training.fit import Arrays, Facts, Fit
from sparknn.training.held_out import HeldOut

__all__ = ["Checkpoints", "description_of"]

logger = logging.getLogger("sparknn")

KEPT = 2
NAME = re.compile(r"^checkpoint-(\d{9})\.npz$")
PIECE = 2**22
"""Bytes that go through the gateway to the JVM at a time."""

LONGEST = 200
"""Characters of a setting that are kept; initial weights may be millions of numbers."""


def description_of(blocks: Blocks) -> dict[str, Any]:
    """Return what must be the same for a fit to go on with the same bits: the rows as packed."""
    checksums = [packed.block.checksum for packed in blocks.packed]
    return {
        "rows": blocks.rows,
        "features": blocks.features,
        "partitions": len(checksums),
        "the rows' checksum": hashlib.sha256(json.dumps(checksums).encode()).hexdigest()[:16],
    }


class Checkpoints:
    """The checkpoints of a fit, in a directory of their own.

    Parameters
    ----------
    cluster : Cluster
    directory : str
        On any Hadoop file system; made if need be.
    interval : int
        Iterations or epochs between two checkpoints, at least 1.
    settings : dict
        JSON values, by the names that a message is to call them: what must be unchanged for a
        fit to go on.
    stage : bool, default False
        The fit is a stage of a longer one: when it is complete its last state stays, so that the
        longer one can go on from there.
    """

    def __init__(
        self,
        cluster: Cluster,
        directory: str,
        interval: int,
        settings: dict[str, Any],
        stage: bool = False,
    ):
        self.interval, self.stage = interval, stage
        values = json.loads(json.dumps(settings))
        self.settings = {name: _told(value) for name, value in values.items()}
        self.store = _Store(cluster, directory)
        self.saved = -1

    def resume(self, fits: Sequence[Fit], held_out: HeldOut | None) -> None:
        """Bring the fits to the state of the newest valid checkpoint, if there is one.

        Raises CheckpointError where it is of other settings, or cannot be read.
        """
        for number in sorted(self.store.numbers(), reverse=True):
            found = self.store.read(number)
            if found is None:
                logger.warning("checkpoint %d was cut short: going on from the one before", number)
                # Its number may be higher than those of the checkpoints to come.
                self.store.remove(number)
                continue
            arrays, facts = found
            self._require_same(facts["settings"])
            for part, fit in _parts(fits, held_out).items():
                fit.restore(_under(arrays, part), facts["parts"][part])
            self.saved = number
            logger.warning("going on from checkpoint %d in %s", number, self.store.directory)
            return

    def save(self, fits: Sequence[Fit], held_out: HeldOut | None) -> None:
        """Save the fits' state if enough iterations have gone by since the last time."""
        number = sum(fit.count for fit in fits)
        active = sum(fit.active for fit in fits)
        if number - max(self.saved, 0) >= self.interval * max(active, 1):
            self._write(number, fits, held_out)

    def complete(self, fits: Sequence[Fit], held_out: HeldOut | None) -> None:
        """Remove all checkpoints, as the fit is complete; of a stage, keep the last state."""
        number = sum(fit.count for fit in fits)
        if not self.stage:
            self.clear()
        elif number != self.saved:
            self._write(number, fits, held_out)

    def clear(self) -> None:
        """Remove all checkpoints."""
        for number in self.store.numbers():
            self.store.remove(number)

    def _write(self, number: int, fits: Sequence[Fit], held_out: HeldOut | None) -> None:
        arrays: Arrays = {}
        facts: Facts = {"settings": self.settings, "parts": {}}
        for part, fit in _parts(fits, held_out).items():
            own, facts["parts"][part] = fit.state()
            arrays |= {f"{part}/{name}": array for name, array in own.items()}
        self.store.write(number, arrays, facts)
        self.saved = number

    def _require_same(self, found: dict[str, Any]) -> None:
        names = sorted({*found, *self.settings})
        differ = [
            f"{name} was {found.get(name)} and is {self.settings.get(name)}"
            for name in names
            if found.get(name) != self.settings.get(name)
        ]
        if differ:
            raise CheckpointError(
                f"{self.store.directory} holds checkpoints of another fit: {'; '.join(differ)}. "
                "Fit with the same settings and rows to go on, or choose another checkpointDir "
                "(--checkpoint-dir of a job), or delete this one to begin anew"
            )


def _told(value: Any) -> str:
    """Return a JSON value as text, which can tell of infinity; of a long one, a digest."""
    text = repr(value)
    if len(text) <= LONGEST:
        return text
    return f"{text[:20]}… (SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _parts(fits: Sequence[Fit], held_out: HeldOut | None) -> dict[str, Any]:
    """Return everything that has a state, by name."""
    watches = [] if held_out is None else held_out.watches
    return {
        **{f"fit {number}": fit for number, fit in enumerate(fits)},
        **{f"watch {number}": watch for number, watch in enumerate(watches)},
    }


def _under(arrays: Arrays, part: str) -> Arrays:
    own = f"{part}/"
    return {k.removeprefix(own): array for k, array in arrays.items() if k.startswith(own)}


class _Store:
    """Numbered objects in a directory of a Hadoop file system."""

    def __init__(self, cluster: Cluster, directory: str):
        self.directory = directory.rstrip("/")
        self.jvm: Any = cluster.context._jvm
        self.path = self.jvm.org.apache.hadoop.fs.Path(self.directory)
        self.system = self.path.getFileSystem(cluster.context._jsc.hadoopConfiguration())

    def numbers(self) -> list[int]:
        """Return the numbers of all checkpoints, valid or not."""
        if not self.system.exists(self.path):
            return []
        names = [status.getPath().getName() for status in self.system.listStatus(self.path)]
        return [int(match[1]) for name in names if (match := NAME.match(name))]

    def write(self, number: int, arrays: Arrays, facts: Facts) -> None:
        """Write a checkpoint, then remove all but the newest."""
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(facts, allow_nan=False).encode(), np.uint8)
        np.savez(buffer, allow_pickle=False, **cast(Any, {**arrays, "facts": text}))
        content = buffer.getvalue()
        content += hashlib.sha256(content).digest()
        stream = self.system.create(self._object(number), True)
        try:
            for start in range(0, len(content), PIECE):
                stream.write(bytearray(content[start : start + PIECE]))
        finally:
            stream.close()
        for old in sorted(self.numbers())[:-KEPT]:
            self.remove(old)

    def read(self, number: int) -> tuple[Arrays, Facts] | None:
        """Return a checkpoint's arrays and facts, or None where it is not whole."""
        try:
            content = self._content(number)
        except Py4JJavaError as error:
            # The file system's own checksum may notice first that it was cut short.
            if error.java_exception.getClass().getSimpleName() == "ChecksumException":
                return None
            raise CheckpointError(
                f"{self._object(number)} cannot be read: {error.java_exception}"
            ) from None
        content, digest = content[:-32], content[-32:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
        return arrays, json.loads(arrays.pop("facts").tobytes())

    def _content(self, number: int) -> bytes:
        stream = self.system.open(self._object(number))
        try:
            pieces = []
            while piece := stream.readNBytes(PIECE):
                pieces.append(bytes(piece))
        finally:
            stream.close()
        return b"".join(pieces)

    def remove(self, number: int) -> None:
        self.system.delete(self._object(number), False)

    def _object(self, number: int) -> Any:
        return self.jvm.org.apache.hadoop.fs.Path(self.path, f"checkpoint-{number:09d}.npz")
