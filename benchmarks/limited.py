"""A limit on all memory of some processes and their page cache: a control group of Linux's."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

V1 = {
    "limit": "memory.limit_in_bytes",
    "peak": "memory.max_usage_in_bytes",
    "events": "memory.oom_control",
}
V2 = {"limit": "memory.max", "peak": "memory.peak", "events": "memory.events"}
"""The files of a group in the two versions of control groups."""


class NoLimit(Exception):
    """This machine lets nobody limit memory here; the message says why."""


class Group:
    """A control group with a limit, of version 1 or 2; its processes are those that enter."""

    def __init__(self, path: Path, files: dict[str, str], limit: int):
        self.path, self.files = path, files
        path.mkdir()
        (path / files["limit"]).write_text(str(limit))

    def enter(self) -> None:
        """Move the calling process here; what it starts will be here, too."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def told(self) -> dict[str, float]:
        """What the group saw: the most memory in use, and processes killed for want of it."""
        # Older kernels tell no peak in version 2.
        peak = self.path / self.files["peak"]
        events = (self.path / self.files["events"]).read_text()
        killed = re.search(r"oom_kill (\d+)", events)
        told = {"killed_for_memory": int(killed[1]) if killed else 0}
        if peak.exists():
            told["peak_GB"] = round(int(peak.read_text()) / 1e9, 2)
        if self.files is V1:
            # Each time, pages had to be given up before others could be had.
            told["limit_reached"] = int((self.path / "memory.failcnt").read_text())
        return told

    def remove(self) -> None:
        """Remove the group once its processes have gone."""
        for _ in range(100):
            if not (self.path / "cgroup.procs").read_text().strip():
                break
            time.sleep(0.1)
        self.path.rmdir()


@contextmanager
def limited(size: int) -> Iterator[Group]:
    """Make a group of at most `size` bytes, page cache included, for the time of the context.

    Raises NoLimit where that cannot be.
    """
    root, files = _controller()
    try:
        group = Group(root / f"sparknn-{os.getpid()}", files, size)
    except OSError as error:
        raise NoLimit(f"no control group can be made under {root}: {error}") from error
    try:
        yield group
    finally:
        group.remove()


def _controller() -> tuple[Path, dict[str, str]]:
    """Return where groups of the memory controller are made, and its files' names."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, place, kind, options, *_ in mounts:
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(place), V1
    for _, place, kind, *_ in mounts:
        root = Path(place)
        if kind == "cgroup2" and "memory" in (root / "cgroup.controllers").read_text().split():
            try:
                (root / "cgroup.subtree_control").write_text("+memory")
            except OSError as error:
                raise NoLimit(f"{root} does not hand its memory controller on: {error}") from error
            return root, V2
    raise NoLimit("this machine has no memory controller of control groups")
