"""Where the objects of one cluster lie in the bucket: the caller and the machines agree here.

Below the cluster's prefix there are three folders. `boot/` is written by the caller and read by
the machines. `run/` holds what one launch says about itself. `logs/` holds what jobs printed and
their Spark event logs, and outlives the cluster.
"""

from __future__ import annotations

# Output is copied in pieces of this many bytes, so that a growing file is never sent whole again.
PART_BYTES = 1 << 20


def _join(prefix: str, *parts: str) -> str:
    return "/".join(part.strip("/") for part in (prefix, *parts) if part.strip("/"))


def boot_key(prefix: str, name: str) -> str:
    """The key of a boot file."""
    return _join(prefix, "boot", name)


def master_key(prefix: str, launch_id: str) -> str:
    """The key under which a launch's master publishes its address."""
    return _join(prefix, "run", launch_id, "master.json")


def ready_prefix(prefix: str, launch_id: str) -> str:
    """What the keys of a launch's ready objects begin with."""
    return _join(prefix, "run", launch_id, "ready") + "/"


def ready_key(prefix: str, launch_id: str, instance: str) -> str:
    """The key of the object that says that a machine is ready.

    Its JSON has `role`, `instance`, `address`, `state` ("ready" or "failed"), `error` and `time`
    (seconds since the epoch).
    """
    return ready_prefix(prefix, launch_id) + instance + ".json"


def failed_prefix(prefix: str, launch_id: str) -> str:
    """What the keys of machines begin with that could not be set up; their JSON says why.

    Apart from the ready ones, so that one listing tells of all machines and nothing need be read.
    """
    return _join(prefix, "run", launch_id, "failed") + "/"


def upload_key(prefix: str, launch_id: str, job: str, name: str) -> str:
    """The key of a file that the caller hands to a job: its script, or another that it needs."""
    return _join(prefix, "run", launch_id, "jobs", job, name)


def logs_prefix(prefix: str, job: str = "") -> str:
    """What the keys of a job's logs begin with; without a job, those of all jobs."""
    return _join(prefix, "logs", job) + "/"


def status_key(prefix: str, job: str) -> str:
    """The key of a job's status: see `deploy.node.jobs.status`."""
    return logs_prefix(prefix, job) + "status.json"


def part_key(prefix: str, job: str, stream: str, part: int) -> str:
    """The key of one piece of `stdout` or `stderr`; in the order of keys they make the file."""
    return f"{logs_prefix(prefix, job)}{stream}/{part:06d}"


def events_prefix(prefix: str, job: str) -> str:
    """What the keys of a job's Spark event logs begin with."""
    return logs_prefix(prefix, job) + "events/"
