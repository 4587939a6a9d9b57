"""A job's output on this terminal, as it comes."""

from __future__ import annotations

import sys

from deploy import jobs
from deploy.aws import instances
from deploy.cli.common import Call
from deploy.cluster import Cluster
from deploy.s3 import Folder

__all__ = ["follow", "write"]


def write(stream: str, piece: bytes) -> None:
    """Write a piece of a job's output where it belongs."""
    out = (sys.stdout if stream == "stdout" else sys.stderr).buffer
    out.write(piece)
    out.flush()


def follow(call: Call, cluster: Cluster, job: str) -> int:
    """Print a job's output until it ends; returns its exit status."""
    folder = Folder(call.aws, cluster.bucket, cluster.prefix)

    def alive() -> bool:
        found = instances.find(call.aws, cluster.names)
        return any(one.role == "master" and one.state == "running" for one in found)

    return jobs.exit_status(jobs.follow(folder, job, write, alive))
