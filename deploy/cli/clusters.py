"""Clusters that are there: list, describe, resize, stop, start, destroy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from deploy import cluster as clusters
from deploy.aws import secret
from deploy.cli.common import Call, command
from deploy.destroy import Where, destroy, leftovers, stays
from deploy.errors import StateError
from deploy.interrupts import ends_by_signal
from deploy.names import BUCKET, PREFIX, Names
from deploy.s3 import Folder, empty
from deploy.settings import seconds

__all__ = ["register"]

YES = click.option("--yes", is_flag=True, help="Do not ask.")


def waiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that wait for workers."""
    wait = click.option("--wait/--no-wait", default=True, help="Until the workers are ready.")
    limit = click.option("--timeout", default="15m", show_default=True, help="To wait.")
    return wait(limit(function))


def patience(wait: bool, timeout: str) -> float | None:
    """Return the seconds to wait, None for not at all."""
    limit = seconds(timeout)
    return (7 * 86400 if limit is None else limit) if wait else None


def register(group: click.Group) -> None:
    """Add the commands to a group."""
    _register_views(group)
    _register_sizes(group)
    _register_destroy(group)


def _register_views(group: click.Group) -> None:
    @command(group, "list")
    def list_(call: Call) -> None:
        """List the region's clusters, and what is left of some."""
        found = clusters.list_all(call.aws)
        lines = [
            f"{one['name']}: master {one['master']}, {one['workers']} of {one['wanted']} workers"
            for one in found
        ]
        call.answer(found, "\n".join(lines) or f"no clusters in {call.aws.region}")

    @command(group, "describe")
    @click.argument("name")
    @click.option("--master-address", is_flag=True, help="Print that alone.")
    def describe(call: Call, name: str, master_address: bool) -> None:
        """Tell all about a cluster: state, machines, rights, end, price."""
        cluster = call.cluster(name)
        if master_address:
            master = cluster.running_master()
            address = master.public or master.private
            call.answer({"master": address}, address)
            return
        about = clusters.describe(call.aws, cluster)
        lines = []
        for key, value in about.items():
            if key == "workers":
                lines += [f"worker: {_machine(worker)}" for worker in value]
            elif key == "master":
                lines.append(f"master: {_machine(value) if value else 'gone'}")
            else:
                text = ", ".join(value) if isinstance(value, list) else value
                lines.append(f"{key.replace('_', ' ')}: {'none' if text in (None, '') else text}")
        call.answer(about, "\n".join(lines))


def _machine(one: dict[str, Any]) -> str:
    spot = ", spot" if one["spot"] else ""
    return (
        f"{one['id']} {one['state']}, {one['type']}{spot}, {one['private']} {one['public']}".strip()
    )


def _register_sizes(group: click.Group) -> None:
    @command(group, "add-workers")
    @click.argument("name")
    @click.argument("count", type=click.IntRange(1))
    @waiting
    def add_workers(call: Call, name: str, count: int, wait: bool, timeout: str) -> None:
        """Add COUNT workers."""
        limit = patience(wait, timeout)
        total = clusters.add_workers(call.aws, call.cluster(name), count, call.say, limit)
        call.answer({"name": name, "workers": total}, f"{name}: {total} workers")

    @command(group, "remove-workers")
    @click.argument("name")
    @click.argument("count", type=click.IntRange(1))
    @click.option("--force", is_flag=True, help="Also workers that do not answer.")
    @YES
    def remove_workers(call: Call, name: str, count: int, force: bool, yes: bool) -> None:
        """Remove the COUNT youngest workers, once Spark has let go of them."""
        cluster = call.cluster(name)
        call.confirm(f"Remove {count} workers of {name}?", yes)
        left = clusters.remove_workers(call.aws, cluster, count, call.say, force)
        call.answer({"name": name, "workers": left}, f"{name}: {left} workers")

    @command(group, "reboot-workers")
    @click.argument("name")
    @YES
    def reboot_workers(call: Call, name: str, yes: bool) -> None:
        """Restart the workers' systems; what they cache is lost."""
        cluster = call.cluster(name)
        call.confirm(f"Reboot all workers of {name}?", yes)
        count = clusters.reboot_workers(call.aws, cluster)
        call.answer({"name": name, "rebooted": count}, f"{name}: {count} workers reboot")

    @command(group, "stop")
    @click.argument("name")
    @YES
    def stop(call: Call, name: str, yes: bool) -> None:
        """End the workers and stop the master; its disk is still paid for."""
        cluster = call.cluster(name)
        call.confirm(f"Stop {name}, with all jobs on it?", yes)
        clusters.stop(call.aws, cluster)
        call.answer({"name": name, "state": "stopping"}, f"{name} is stopping")

    @command(group, "start")
    @click.argument("name")
    @waiting
    def start(call: Call, name: str, wait: bool, timeout: str) -> None:
        """Start a stopped cluster, with as many workers as it had."""
        limit = patience(wait, timeout)
        count = clusters.start(call.aws, call.cluster(name), call.say, limit)
        call.answer({"name": name, "workers": count}, f"{name}: {count} workers")


def _register_destroy(group: click.Group) -> None:
    @command(group, "destroy")
    @click.argument("name")
    @click.option("--bucket", help="The cluster's, for when it is hardly there.")
    @click.option("--prefix", help="The cluster's; default sparknn/NAME.")
    @click.option("--purge", is_flag=True, help="Also all else under its prefix: logs.")
    @YES
    def destroy_(
        call: Call, name: str, bucket: str | None, prefix: str | None, purge: bool, yes: bool
    ) -> None:
        """Remove a cluster: all but logs, and what jobs wrote elsewhere."""
        names = Names(name, call.aws.region)
        where = _where(call, names, bucket, prefix)
        found = leftovers(call.aws, names, where=where)
        if not found and not (purge and where):
            call.answer({"name": name, "removed": []}, f"nothing is left of {name}")
            return
        for one in found:
            call.say(f"  {one}")
        left = stays(call.aws, where) if where else []
        if purge:
            for url in left:
                call.say(f"  {url} (--purge)")
        call.confirm(f"Remove all this in account {call.aws.account}, {call.aws.region}?", yes)
        with ends_by_signal():
            removed = [str(one) for one in destroy(call.aws, names, call.say, where=where)]
            if purge and where:
                empty(Folder(call.aws, *where))
                removed, left = removed + left, []
        kept = f"; kept: {', '.join(left)}" if left else ""
        call.answer({"name": name, "removed": removed, "kept": left}, f"{name} is removed{kept}")


def _where(call: Call, names: Names, bucket: str | None, prefix: str | None) -> Where | None:
    """Return where the cluster's objects are, so far as anybody says."""
    held = secret.tags(call.aws, names)
    if held is not None:
        known = (held[BUCKET], held[PREFIX])
        if bucket is not None and bucket != known[0]:
            raise StateError(f"{names.cluster} is in bucket {known[0]}, not in {bucket}")
        return known
    return None if bucket is None else (bucket, prefix or f"sparknn/{names.cluster}")
