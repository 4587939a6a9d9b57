"""A cluster that is there: finding it, telling of it, and changing its size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.aws import group, instances, prices, secret
from deploy.aws.group import Group
from deploy.aws.session import Aws, translated
from deploy.errors import CapacityError, NoSuchClusterError, RemoteError, StateError
from deploy.launch import POLL_SECONDS, ready_machines
from deploy.names import BUCKET, CLUSTER, LAUNCH, PREFIX, Names
from deploy.node.watch import LETTING_GO_SECONDS
from deploy.s3 import Folder
from deploy.ssm import on_machines

__all__ = [
    "Cluster",
    "add_workers",
    "describe",
    "find",
    "list_all",
    "reboot_workers",
    "record",
    "remove_workers",
    "start",
    "stop",
    "wait_for_workers",
]

Say = Callable[[str], object]


@dataclass(frozen=True)
class Cluster:
    """What was found of a cluster; a master or a group that is gone is None."""

    names: Names
    launch_id: str
    bucket: str
    prefix: str
    master: instances.Instance | None
    workers: tuple[instances.Instance, ...]
    group: Group | None

    @property
    def state(self) -> str:
        """One of launching, running, stopping, stopped, ended, broken."""
        if self.master is None or self.master.state == "shutting-down":
            return "broken" if self.workers else "ended"
        if self.master.state == "pending":
            return "launching"
        if self.group is None:
            return "broken"
        return self.master.state

    def running_master(self) -> instances.Instance:
        """Return the master.

        Raises
        ------
        StateError
            If it does not run.
        """
        if self.master is None or self.master.state != "running":
            state = self.master.state if self.master else "gone"
            raise StateError(
                f"the master of {self.names.cluster} is {state}: "
                + (
                    f"start it with `python -m deploy start {self.names.cluster}`"
                    if state in ("stopped", "stopping")
                    else "see `describe`"
                )
            )
        return self.master

    def running_workers(self) -> list[instances.Instance]:
        """Return the workers that run."""
        return [worker for worker in self.workers if worker.state == "running"]

    def require_group(self) -> Group:
        """Return the workers' group.

        Raises
        ------
        StateError
            If it is gone.
        """
        if self.group is None:
            raise StateError(
                f"the workers' group of {self.names.cluster} is gone: destroy the cluster and "
                "launch it anew"
            )
        return self.group


def find(aws: Aws, name: str) -> Cluster:
    """Return a cluster; four calls, however large it is.

    Raises
    ------
    NoSuchClusterError
        If there is none of this name.
    """
    names = Names(name, aws.region)
    held = secret.tags(aws, names)
    if held is None:
        raise NoSuchClusterError(
            f"no cluster {name!r} in {aws.region}: `python -m deploy list` names those there are"
        )
    machines = instances.find(aws, names)
    masters = [one for one in machines if one.role == "master"]
    return Cluster(
        names,
        held[LAUNCH],
        held[BUCKET],
        held[PREFIX],
        masters[0] if masters else None,
        tuple(one for one in machines if one.role != "master"),
        group.find(aws, names),
    )


def record(aws: Aws, cluster: Cluster) -> dict[str, Any]:
    """Return what launch noted of the cluster; empty if it was killed before."""
    body = Folder(aws, cluster.bucket, cluster.prefix).get("boot/cluster.json")
    return json.loads(body) if body else {}


def describe(aws: Aws, cluster: Cluster) -> dict[str, Any]:
    """Return all that is worth knowing of a cluster."""
    noted = record(aws, cluster)
    machines = [*([cluster.master] if cluster.master else []), *cluster.workers]
    running = [one.type for one in machines if one.state in ("pending", "running")]
    public = any(one.public for one in machines)
    spot = any(one.spot for one in machines)
    price = prices.estimate(running, noted.get("volume_gb", 0), public, spot)
    return {
        "name": cluster.names.cluster,
        "state": cluster.state,
        "region": cluster.names.region,
        "launch": cluster.launch_id,
        "bucket": cluster.bucket,
        "prefix": cluster.prefix,
        "master": _machine(cluster.master) if cluster.master else None,
        "workers": [_machine(worker) for worker in cluster.workers],
        "workers_wanted": cluster.group.desired if cluster.group else 0,
        "read": noted.get("read", []),
        "write": noted.get("write", []),
        "idle_seconds": noted.get("idle"),
        "deadline": noted.get("deadline"),
        "dollars_an_hour": round(price.dollars, 4),
        "price": str(price),
    }


def _machine(one: instances.Instance) -> dict[str, Any]:
    return {
        "id": one.id,
        "state": one.state,
        "type": one.type,
        "private": one.private,
        "public": one.public,
        "launched": one.launched,
        "spot": one.spot,
    }


def list_all(aws: Aws) -> list[dict[str, Any]]:
    """Return the clusters of a region, by name; three calls, however many there are."""
    found: dict[str, dict[str, Any]] = {}

    def row(name: str) -> dict[str, Any]:
        empty = {"name": name, "region": aws.region, "master": "gone", "workers": 0, "wanted": 0}
        return found.setdefault(name, empty)

    with translated("clusters' secrets"):
        wanted = [{"Key": "Name", "Option": "BeginsWith", "Values": ["/sparknn/"]}]
        for page in aws.pages("ssm", "describe_parameters", ParameterFilters=wanted):
            for parameter in page["Parameters"]:
                _, _, name, last = parameter["Name"].split("/", 3)
                if last == "secret":
                    row(name)
    for one in group.find_all(aws):
        row(one.tags[CLUSTER])["wanted"] = one.desired
    for machine in instances.find_all(aws):
        if machine.role == "master":
            row(machine.cluster)["master"] = machine.state
        elif machine.state in ("pending", "running"):
            row(machine.cluster)["workers"] += 1
    return [found[name] for name in sorted(found)]


def add_workers(aws: Aws, cluster: Cluster, count: int, say: Say, timeout: float | None) -> int:
    """Add workers; returns how many the group then has. timeout: to wait for them; None: do not."""
    workers = cluster.require_group()
    cluster.running_master()
    group.resize(aws, cluster.names, workers.desired + count)
    say(f"{cluster.names.cluster}: {workers.desired} workers, going to {workers.desired + count}")
    if timeout is not None:
        wait_for_workers(aws, cluster, workers.desired + count, say, timeout)
    return workers.desired + count


def wait_for_workers(
    aws: Aws, cluster: Cluster, count: int, say: Say, timeout: float, pause: float = POLL_SECONDS
) -> None:
    """Wait until so many of the group's present workers are ready.

    Raises
    ------
    CapacityError
        With Auto Scaling's reason, if they are not in time.
    """
    folder = Folder(aws, cluster.bucket, cluster.prefix)
    end = time.monotonic() + timeout
    said = -1
    while True:
        now = group.find(aws, cluster.names)
        ready = len(ready_machines(folder, cluster.launch_id) & set(now.workers if now else ()))
        if ready != said:
            say(f"{ready} of {count} workers are ready")
            said = ready
        if ready >= count:
            return
        if time.monotonic() > end:
            reasons = group.complaints(aws, cluster.names)
            raise CapacityError(
                f"{ready} of {count} workers are ready after {timeout:.0f} s; the group keeps "
                f"trying: {reasons[0] if reasons else 'see `describe`'}"
            )
        time.sleep(pause)


def remove_workers(aws: Aws, cluster: Cluster, count: int, say: Say, force: bool) -> int:
    """Take workers out, the youngest first, once Spark has let go of them.

    A worker that runs tasks still after four minutes goes all the same. force: also those that do
    not answer. Returns how many the group then has.

    Raises
    ------
    StateError
        If there are not so many.
    RemoteError
        If a worker could not be decommissioned; none is removed then.
    """
    workers = cluster.require_group()
    if count > workers.desired:
        raise StateError(
            f"{cluster.names.cluster} has {workers.desired} workers: remove that many at most, or "
            "`stop` or `destroy` it"
        )
    members = set(workers.workers)
    present = sorted(
        (one for one in cluster.workers if one.id in members),
        key=lambda one: (one.launched, one.id),
    )
    # Of those wanted, some may not have been started yet: these go first.
    going = present[len(present) - max(0, count - (workers.desired - len(present))) :]
    answering = [one.id for one in going if one.state == "running"]
    if answering:
        say(f"decommissioning {len(answering)} workers, for {LETTING_GO_SECONDS} s at most")
        for late in _decommission(aws, answering, force):
            say(late)
    left = workers.desired - count
    group.release(aws, cluster.names, [one.id for one in going], left)
    return left


def _decommission(aws: Aws, workers: Sequence[str], force: bool) -> list[str]:
    """Return a line for each worker that Spark has not let go of in time."""
    answers = on_machines(aws, workers, ["decommission"], seconds=LETTING_GO_SECONDS + 60)
    failed = [answer for answer in answers if answer.status != 0]
    if failed and not force:
        raise RemoteError(
            f"{failed[0].machine} could not be decommissioned ({failed[0].problem}): try again, "
            "or remove it with --force, which loses what it holds"
        )
    return [f"{one.machine} {one.output.strip()}" for one in answers if one.output.strip()]


def stop(aws: Aws, cluster: Cluster) -> None:
    """End the workers and stop the master, whose disk stays; `start` brings both back."""
    master = cluster.running_master()
    cluster.require_group()
    group.resize(aws, cluster.names, 0, remember=False)
    instances.stop(aws, master.id)


def start(aws: Aws, cluster: Cluster, say: Say, timeout: float | None) -> int:
    """Start the master, and as many workers as there were; returns how many."""
    workers = cluster.require_group()
    if cluster.master is None:
        raise StateError(
            f"the master of {cluster.names.cluster} is gone: destroy the cluster and launch it anew"
        )
    if cluster.master.state != "running":
        instances.start(aws, cluster.master.id)
    group.resize(aws, cluster.names, workers.before)
    say(f"{cluster.names.cluster}: starting the master and {workers.before} workers")
    if timeout is not None:
        wait_for_workers(aws, cluster, workers.before, say, timeout)
    return workers.before


def reboot_workers(aws: Aws, cluster: Cluster) -> int:
    """Restart the workers' systems; returns how many."""
    workers = [one.id for one in cluster.running_workers()]
    if workers:
        instances.reboot(aws, workers)
    return len(workers)
