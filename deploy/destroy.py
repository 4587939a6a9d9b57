"""Destroy: find what a cluster consists of, and remove it in an order that works.

Everything is found by its tag, so that it is found whoever made it and wherever that stopped. The
secret, which holds the name, goes last: nobody can launch under the name while something is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploy.aws import group, identity, instances, network, secret, template
from deploy.aws.session import Aws, until
from deploy.errors import DeployError, LeftoverError, PermissionsError
from deploy.names import BUCKET, LAUNCH, PREFIX, PROFILE, Names
from deploy.s3 import Folder, empty, is_empty

__all__ = ["Leftover", "destroy", "leftovers", "stays"]

PAUSE_SECONDS = 3.0
"""Between two looks at what is ending."""
END_SECONDS = 600.0


@dataclass(frozen=True)
class Leftover:
    """Something of a cluster that is there: its kind and its name or id."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


# What is under the cluster's prefix for as long as the cluster is there.
EMPTIED = ("boot", "run")

Where = tuple[str, str]
"""Bucket and prefix of a cluster."""


def leftovers(
    aws: Aws, names: Names, launch: str | None = None, where: Where | None = None
) -> list[Leftover]:
    """Return what there is of a cluster, in the order in which it can be removed.

    Parameters
    ----------
    launch : only of this launch.
    where : for when the secret, whose tags tell it, is gone.
    """

    def ours(tags: dict[str, str] | None) -> bool:
        return tags is not None and launch in (None, tags.get(LAUNCH))

    held = secret.tags(aws, names)
    found = []
    workers = group.find(aws, names)
    if workers is not None and ours(workers.tags):
        found.append(Leftover("auto scaling group", workers.name))
    for machine in instances.find(aws, names):
        if launch in (None, machine.launch):
            found.append(Leftover("instance", machine.id))
    for one, tags in template.find(aws, names).items():
        if ours(tags):
            found.append(Leftover("launch template", one))
    for kind, tags in _identity(aws, names, held).items():
        if ours(tags):
            found.append(Leftover(kind, names.role))
    for one, tags in network.find_group(aws, names).items():
        if ours(tags):
            found.append(Leftover("security group", one))
    if held is not None and ours(held):
        found += _objects(aws, (held[BUCKET], held[PREFIX]))
        found.append(Leftover("parameter", names.secret))
    elif launch is None and where is not None:
        found += _objects(aws, where)
    return found


def _identity(aws: Aws, names: Names, held: dict[str, str] | None) -> dict[str, dict[str, str]]:
    """Return role and profile; a caller without rights to IAM, who gave a profile, made none."""
    if held is not None and held.get(PROFILE) == "given":
        return {}
    try:
        return identity.find(aws, names)
    except PermissionsError:
        if held is not None:
            raise
        return {}


def _objects(aws: Aws, where: Where) -> list[Leftover]:
    """Return those of a cluster's folders that a destroy empties, and that are not empty."""
    folders = [Folder(aws, where[0], f"{where[1]}/{name}") for name in EMPTIED]
    return [
        Leftover("objects", f"s3://{folder.bucket}/{folder.prefix}/")
        for folder in folders
        if not is_empty(folder)
    ]


def stays(aws: Aws, where: Where) -> list[str]:
    """Return what a destroy leaves: everything else under the cluster's prefix, by folder."""
    bucket, prefix = where
    names = {found.key[len(prefix) + 1 :].split("/")[0] for found in Folder(aws, *where).find()}
    return [f"s3://{bucket}/{prefix}/{name}/" for name in sorted(names - set(EMPTIED))]


def destroy(
    aws: Aws,
    names: Names,
    say: Callable[[str], object],
    launch: str | None = None,
    where: Where | None = None,
) -> list[Leftover]:
    """Remove a cluster, and return what was removed: nothing where there is nothing.

    Parameters are those of `leftovers`. What
    cannot be removed does not keep the rest from going, except the secret, and with it the name.

    Raises
    ------
    LeftoverError
        With what is left, and why.
    """
    found = leftovers(aws, names, launch, where)
    machines = [one for one in found if one.kind in ("auto scaling group", "instance")]
    rest = [one for one in found if one not in machines]
    problems: dict[str, DeployError] = {}
    if machines:
        count = sum(one.kind == "instance" for one in machines)
        say(f"ending {count} machine{'s' * (count != 1)}")
        try:
            _end_machines(aws, names, machines, launch)
        except DeployError as error:
            problems["machines"] = error
    for one in rest:
        if one.kind == "parameter" and problems:
            continue
        say(f"removing {one}")
        try:
            _remove(aws, names, one)
        except DeployError as error:
            problems[str(one)] = error
    if problems:
        listed = "; ".join(f"{what}: {error}" for what, error in problems.items())
        raise LeftoverError(
            f"left of {names.cluster}: {listed}. Run `python -m deploy destroy {names.cluster} "
            f"--region {names.region}` again"
        )
    return found


def _end_machines(aws: Aws, names: Names, machines: list[Leftover], launch: str | None) -> None:
    """End the group and all machines, and wait until they are gone.

    While the group is being deleted, a machine may still appear that it was just starting.
    """
    if any(one.kind == "auto scaling group" for one in machines):
        group.delete(aws, names)

    def gone() -> bool | None:
        there = [one for one in instances.find(aws, names) if launch in (None, one.launch)]
        live = [one.id for one in there if one.state != "shutting-down"]
        if live:
            instances.terminate(aws, live)
        if there or group.find(aws, names) is not None:
            return None
        return True

    until(gone, END_SECONDS, PAUSE_SECONDS, "machines did not end in ten minutes")


def _remove(aws: Aws, names: Names, one: Leftover) -> None:
    if one.kind == "launch template":
        template.delete(aws, one.name)
    elif one.kind in ("instance profile", "role"):
        identity.delete(aws, names, one.kind)
    elif one.kind == "security group":
        network.delete_group(aws, one.name, pause=PAUSE_SECONDS)
    elif one.kind == "objects":
        empty(Folder.at(aws, one.name))
    elif one.kind == "parameter":
        secret.delete(aws, names)
