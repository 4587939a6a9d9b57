"""Copies what a job writes to the bucket while it grows."""

from __future__ import annotations

import os

from . import aws, layout

STREAMS = ("stdout", "stderr")


class Copier:
    """Copies one job's output and event logs; each call of `copy` sends what is new.

    Output goes in pieces of `layout.PART_BYTES`, because objects cannot be appended to: only the
    last piece is sent again as it grows. Spark rolls its event logs itself, into files of 10 MB.

    Parameters
    ----------
    services : where to.
    job : the job's id.
    folder : the job's directory on this machine.
    """

    def __init__(self, services: aws.Services, job: str, folder: str) -> None:
        self.services, self.job, self.folder = services, job, folder
        self.status_key = layout.status_key(services.settings["prefix"], job)
        self._sent = dict.fromkeys(STREAMS, 0)
        self._events: dict[str, int] = {}

    def copy(self) -> None:
        """Send what has come since the last call."""
        for stream in STREAMS:
            self._copy_stream(stream)
        self._copy_events()

    def _copy_stream(self, stream: str) -> None:
        prefix = self.services.settings["prefix"]
        with open(f"{self.folder}/{stream}", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            while self._sent[stream] < size:
                part = self._sent[stream] // layout.PART_BYTES
                file.seek(part * layout.PART_BYTES)
                piece = file.read(min(layout.PART_BYTES, size - part * layout.PART_BYTES))
                self.services.put(layout.part_key(prefix, self.job, stream, part), piece)
                self._sent[stream] = part * layout.PART_BYTES + len(piece)

    def _copy_events(self) -> None:
        root = f"{self.folder}/events"
        prefix = layout.events_prefix(self.services.settings["prefix"], self.job)
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                # Hadoop's checksums; and an empty marker which Spark will rename, and the
                # machine may not delete from the bucket.
                if name.endswith((".crc", ".inprogress")):
                    continue
                path = f"{folder}/{name}"
                try:
                    with open(path, "rb") as file:
                        body = file.read()
                except FileNotFoundError:  # removed since it was listed
                    continue
                if self._events.get(path) != len(body):
                    self.services.put(prefix + os.path.relpath(path, root), body)
                    self._events[path] = len(body)
