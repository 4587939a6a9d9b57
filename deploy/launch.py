"""Launch: from a plan to machines that are ready.

Everything is made before a machine is started, the machines are started by two calls however many
they are, and then they come up by themselves, all at once.
"""

from __future__ import annotations

import fcntl
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.aws import group, identity, instances, network, secret, template
from deploy.aws.session import Aws
from deploy.boot import closure
from deploy.boot.userdata import NodeSettings, render
from deploy.destroy import destroy, leftovers
from deploy.errors import CapacityError, DeployError, LeftoverError, RemoteError
from deploy.interrupts import undisturbed
from deploy.node import layout
from deploy.plan import Plan
from deploy.s3 import Folder, file_digest, upload_all

__all__ = ["Say", "launch", "ready_machines", "record_of", "wait_until_ready"]

Say = Callable[[str], Any]
Build = Callable[[str, str, Sequence[str], Path], Mapping[str, str]]

POLL_SECONDS = 3.0


def launch(
    aws: Aws,
    plan: Plan,
    say: Say,
    build: Build | None = None,
    directory: Path | None = None,
    wait: bool = True,
) -> int:
    """Make everything that a plan lists, and wait for the machines.

    A launch that fails, or is interrupted, removes what it has made.

    Parameters
    ----------
    say : is told of progress.
    build : gathers the boot files; by default `deploy.boot.closure.build`.
    directory : where it keeps them; by default one that is gone afterwards.
    wait : until the machines are ready.

    Returns
    -------
    int : how many workers are ready; without waiting, how many were asked for.

    Raises
    ------
    NameInUseError
        If another launch has the name.
    LeftoverError
        If it failed and something could not be removed.
    """
    with tempfile.TemporaryDirectory(prefix="sparknn-boot-") as spare:
        place = (directory or Path(spare)) / f"{plan.image.architecture}-{plan.image.python}"
        place.mkdir(parents=True, exist_ok=True)
        say("gathering the boot files")
        try:
            with _alone_in(place):
                digests = (build or closure.build)(
                    plan.image.architecture, plan.image.python, plan.settings.requirements, place
                )
                scripts = _make_boot_files(aws, plan, say, digests, place)
            master = _make_machines(aws, plan, say, scripts)
            return wait_until_ready(aws, plan, master, say) if wait else plan.settings.workers
        except BaseException as error:
            with undisturbed():
                _clean_up(aws, plan, say, error)
            raise


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep launches that begin at once from changing each other's boot files."""
    with (directory.parent / f"{directory.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def node_settings(plan: Plan, role: str, files: Mapping[str, str]) -> NodeSettings:
    """Return what a machine is told in its user data."""
    settings = plan.settings
    return NodeSettings(
        role=role,
        cluster=plan.names.cluster,
        launch_id=plan.launch_id,
        region=plan.names.region,
        bucket=settings.bucket,
        prefix=settings.prefix,
        secret_parameter=plan.names.secret,
        files=files,
        account=plan.account,
        group=plan.names.base,
        spark_conf=settings.conf,
        idle_seconds=settings.idle,
        deadline=plan.deadline,
        endpoints=settings.endpoints,
        python_version=plan.image.python,
    )


def record_of(plan: Plan) -> dict[str, Any]:
    """Return what later commands want to know of a launch; machines can read, not change it."""
    settings = plan.settings
    return {
        "cluster": plan.names.cluster,
        "launch": plan.launch_id,
        "bucket": settings.bucket,
        "prefix": settings.prefix,
        "read": list(settings.grants.read),
        "write": list(settings.grants.write),
        # With a profile of the user's own nobody knows here what it covers.
        "checked": settings.instance_profile is None,
        "deadline": plan.deadline,
        "idle": settings.idle,
        "volume_gb": plan.root_gb + settings.volumes * settings.volume_gb,
        "created": int(time.time()),
    }


def _make_boot_files(
    aws: Aws, plan: Plan, say: Say, digests: Mapping[str, str], directory: Path
) -> dict[str, str]:
    """Take the name, and upload the boot files; returns the user data by role."""
    settings = plan.settings
    files, paths = dict(digests), {name: directory / name for name in digests}
    if settings.bootstrap is not None:
        files["bootstrap"] = file_digest(settings.bootstrap)
        paths["bootstrap"] = settings.bootstrap
    # Before anything is made, because it may be too long.
    scripts = {role: render(node_settings(plan, role, files)) for role in ("master", "worker")}
    secret.create(aws, plan.names, plan.secret_tags)
    folder = Folder(aws, settings.bucket, settings.prefix)
    say(f"uploading {len(paths)} boot files to s3://{settings.bucket}/{settings.prefix}/boot/")
    folder.put("boot/cluster.json", json.dumps(record_of(plan)).encode())
    upload_all(Folder(aws, settings.bucket, layout.boot_key(settings.prefix, "")), paths)
    return scripts


def _make_machines(aws: Aws, plan: Plan, say: Say, scripts: dict[str, str]) -> str:
    """Make everything else, the machines last; returns the master's id."""
    settings, names = plan.settings, plan.names
    say("making the security group, the role and the launch template")
    members = network.create_group(aws, names, plan.place.vpc, settings.ssh_from, plan.own_tags)
    if not settings.instance_profile:
        identity.create(aws, names, plan.policy, plan.own_tags)
    machine = plan.machine((members,), scripts["worker"])
    made = template.create(aws, names, machine)
    say(f"starting a master and {settings.workers} workers in {plan.place.zone}")
    master = instances.run_master(
        aws, made, machine, plan.place.subnet, settings.master_type, scripts["master"]
    )
    group.create(
        aws,
        names,
        made,
        plan.place.subnet,
        settings.workers,
        settings.spot,
        settings.spot_price,
        plan.own_tags,
    )
    if plan.deadline is not None:
        group.end_at(aws, names, plan.deadline)
    if not settings.instance_profile and settings.idle is not None:
        identity.put_policy(aws, names, "idle", plan.idle_policy(master))
    return master


def wait_until_ready(
    aws: Aws, plan: Plan, master: str, say: Say, pause: float = POLL_SECONDS
) -> int:
    """Wait for the machines' word on S3; returns how many workers gave it.

    One listing a time tells of all machines, however many they are. master : its instance id.

    Raises
    ------
    RemoteError
        If a machine says that it failed.
    CapacityError
        If the master, or the least number of workers, did not come up in time.
    """
    settings = plan.settings
    folder = Folder(aws, settings.bucket, settings.prefix)
    end = time.monotonic() + settings.timeout
    said = -1
    while True:
        ready = ready_machines(folder, plan.launch_id)
        workers = len(ready - {master})
        if len(ready) != said:
            said = len(ready)
            say(f"{said} of {settings.workers + 1} machines are ready")
        up = master in ready
        if up and workers >= settings.workers:
            return workers
        late = time.monotonic() > end
        reasons = group.complaints(aws, plan.names)
        if up and workers >= settings.least and (reasons or late):
            say(f"going on with {workers} workers: {reasons[0] if reasons else 'time is up'}")
            return workers
        if late:
            raise CapacityError(
                f"{'the master and ' if up else ''}{workers} workers came up in "
                f"{settings.timeout} s, and {settings.least} workers and a master are needed: "
                + (reasons[0] if reasons else "see a machine's console output in EC2")
                + "; try another --zone or --instance-type, or --min-workers"
            )
        time.sleep(pause)


def ready_machines(folder: Folder, launch_id: str) -> set[str]:
    """Return the ids of the machines that are ready.

    Raises
    ------
    RemoteError
        With the word of one that failed; nobody waits then, because the machine that takes its
        place would fail alike.
    """
    ready_start = layout.ready_prefix(folder.prefix, launch_id)
    failed_start = layout.failed_prefix(folder.prefix, launch_id)
    ready = set()
    for found in folder.find(f"run/{launch_id}/"):
        if found.key.startswith(failed_start):
            word = json.loads(folder.get(found.key[len(folder.prefix) + 1 :]) or b"{}")
            raise RemoteError(
                f"{word.get('role', 'a machine')} {word.get('instance', '')} could not be set up: "
                f"{word.get('error', 'see its console output in EC2')}"
            )
        if found.key.startswith(ready_start):
            ready.add(found.key[len(ready_start) :].removesuffix(".json"))
    return ready


def _clean_up(aws: Aws, plan: Plan, say: Say, reason: BaseException) -> None:
    """Remove what a launch has made, and nothing of another launch that holds the name."""
    name = plan.names.cluster
    try:
        held = leftovers(aws, plan.names, launch=plan.launch_id)
        if held:
            say("the launch failed; removing what it has made")
            destroy(aws, plan.names, say, launch=plan.launch_id)
    except DeployError as error:
        raise LeftoverError(
            f"{reason or type(reason).__name__} -- and what was made could not all be removed "
            f"({error}): run `python -m deploy destroy {name} --region {plan.names.region}`, "
            "again until it says that nothing is left"
        ) from reason
