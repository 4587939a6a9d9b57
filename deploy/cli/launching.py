"""launch, run and plan: from options to machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deploy import cluster as clusters
from deploy import jobs
from deploy.aws.images import SYSTEMS
from deploy.aws.policy import Grants
from deploy.cli.common import Call, command
from deploy.cli.following import follow
from deploy.destroy import destroy
from deploy.interrupts import ends_by_signal, undisturbed
from deploy.launch import launch
from deploy.names import Names
from deploy.plan import Plan, make_plan
from deploy.settings import LaunchSettings, pairs, requirement_lines, seconds

__all__ = ["register"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

OPTIONS = [
    click.option("--bucket", required=True, help="Yours, for boot files, run state and logs."),
    click.option("--prefix", help="Of all keys in it; default sparknn/NAME."),
    click.option("--workers", type=click.IntRange(1), default=1, show_default=True),
    click.option("--min-workers", type=click.IntRange(1), help="How few will do; default all."),
    click.option("--instance-type", default="m7i.xlarge", show_default=True),
    click.option("--master-instance-type", help="Default: the workers'."),
    click.option("--spot", is_flag=True, help="Workers on spot; the master is on demand."),
    click.option("--spot-price", help="The most for a worker an hour, in dollars."),
    click.option("--ami", help="Machine image; default: the system's newest."),
    click.option("--system", type=click.Choice(SYSTEMS), default=SYSTEMS[0], show_default=True),
    click.option("--vpc", help="Default: the region's default VPC."),
    click.option("--subnet", help="Default: the VPC's first in a zone that has the types."),
    click.option("--zone", help="Availability zone."),
    click.option("--private", is_flag=True, help="No public addresses."),
    click.option("--security-group", help="Id of a further one; repeatable.", multiple=True),
    click.option(
        "--ssh-from", help="CIDR that may use SSH; repeatable; needs --key-name.", multiple=True
    ),
    click.option("--key-name", help="Key pair for SSH."),
    click.option("--root-gb", type=click.IntRange(8), default=30, show_default=True),
    click.option("--volumes", type=click.IntRange(0, 8), default=0, help="Data volumes a machine."),
    click.option("--volume-gb", type=click.IntRange(1), default=100, show_default=True),
    click.option("--volume-type", default="gp3", show_default=True),
    click.option("--placement-group", help="Name of one that there is."),
    click.option("--tenancy", type=click.Choice(["default", "dedicated"]), default="default"),
    click.option("--tag", help="KEY=VALUE on everything; repeatable.", multiple=True),
    click.option("--conf", help="Spark setting NAME=VALUE; repeatable.", multiple=True),
    click.option("--requirements", type=FILE, help="pip requirements for all machines."),
    click.option("--spark-version", help="Default: the one that is installed here."),
    click.option("--bootstrap", type=FILE, help="Program that root runs at first boot."),
    click.option("--read", help="s3:// path that jobs may read; repeatable.", multiple=True),
    click.option(
        "--write", help="s3:// path that jobs may read and write; repeatable.", multiple=True
    ),
    click.option("--instance-profile", help="One that there is; makes no role."),
    click.option(
        "--idle", default="1h", show_default=True, help="End when idle so long, or never."
    ),
    click.option("--auto-terminate", default="never", show_default=True, help="End in any case."),
    click.option("--timeout", default="15m", show_default=True, help="To wait for machines."),
]


def launching(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add a launch's options."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def settings_of(name: str, options: dict[str, Any]) -> LaunchSettings:
    """Return a launch's settings from its options."""
    given = dict(options)
    requirements = requirement_lines(given.pop("requirements"), given.pop("spark_version"))
    timeout = seconds(given.pop("timeout"))
    return LaunchSettings(
        name=name,
        prefix=given.pop("prefix") or "",
        public_address=not given.pop("private"),
        security_groups=given.pop("security_group"),
        tags=pairs(given.pop("tag"), "--tag"),
        conf=pairs(given.pop("conf"), "--conf"),
        requirements=requirements,
        grants=Grants(given.pop("read"), given.pop("write")),
        idle=seconds(given.pop("idle")),
        auto_terminate=seconds(given.pop("auto_terminate")),
        # A week stands for "never": somebody would have looked by then.
        timeout=7 * 86400 if timeout is None else timeout,
        **given,
    )


def show(call: Call, plan: Plan) -> None:
    """Print what a plan would make, and its price."""
    price = plan.price()
    data = {
        "launch": plan.names.cluster,
        "resources": [vars(resource) for resource in plan.resources()],
        "dollars_an_hour": round(price.dollars, 4),
        "price": str(price),
    }
    lines = []
    for resource in plan.resources():
        lines.append(f"{resource.kind} {resource.name}")
        for key, value in resource.properties.items():
            text = value if isinstance(value, str) else json.dumps(value, indent=2)
            lines.append(f"    {key}: " + text.replace("\n", "\n    "))
    call.answer(data, "\n".join([*lines, f"price: {price}"]))


def boot_directory() -> Path:
    """Return where boot files are kept from one launch to the next."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "sparknn" / "boot"


def register(group: click.Group) -> None:
    """Add the commands to a group."""

    @command(group, "plan")
    @click.argument("name")
    @launching
    def plan(call: Call, name: str, **options: Any) -> None:
        """Print every resource and policy that `launch` would make, and the price."""
        show(call, make_plan(call.aws, settings_of(name, options)))

    @command(group, "launch")
    @click.argument("name")
    @launching
    @click.option("--dry-run", is_flag=True, help="Print the plan, make nothing.")
    @click.option("--wait/--no-wait", default=True, help="Until the machines are ready.")
    def launch_(call: Call, name: str, dry_run: bool, wait: bool, **options: Any) -> None:
        """Launch a cluster."""
        made = make_plan(call.aws, settings_of(name, options))
        if dry_run:
            show(call, made)
            return
        call.say(f"{name}: {made.price()}")
        with ends_by_signal():
            launch(call.aws, made, call.say, directory=boot_directory(), wait=wait)
        about = clusters.describe(call.aws, call.cluster(name))
        text = f"{name} is {'ready' if wait else 'starting'}: submit, shell, ui, destroy {name}"
        call.answer(about, text)

    @command(group, "run")
    @click.argument("name")
    @click.argument("script", type=FILE)
    @click.argument("arguments", nargs=-1)
    @launching
    @click.option("--file", "files", type=FILE, help="Further file of the job.", multiple=True)
    @click.option("--keep-on-failure", is_flag=True, help="Destroy only when the job succeeds.")
    def run(
        call: Call,
        name: str,
        script: Path,
        arguments: tuple[str, ...],
        files: tuple[Path, ...],
        keep_on_failure: bool,
        **options: Any,
    ) -> None:
        """Launch a cluster, run one job there, and destroy it.

        Prints what the job prints, and ends with its exit status.
        """
        settings = settings_of(name, options)
        if settings.instance_profile is None:
            jobs.check_paths(arguments, settings.grants, files)
        made = make_plan(call.aws, settings)
        call.say(f"{name}: {made.price()}")
        with ends_by_signal():
            launch(call.aws, made, call.say, directory=boot_directory())
            sys.exit(_run_and_destroy(call, made.names, script, arguments, files, keep_on_failure))


def _run_and_destroy(
    call: Call,
    names: Names,
    script: Path,
    arguments: tuple[str, ...],
    files: tuple[Path, ...],
    keep_on_failure: bool,
) -> int:
    """Run a job on a cluster that is ready; returns the job's exit status."""
    status = None
    try:
        job = jobs.submit(call.aws, call.cluster(names.cluster), script, arguments, files)
        call.say(f"job {job}")
        status = follow(call, call.cluster(names.cluster), job)
        return status
    finally:
        if keep_on_failure and status != 0:
            call.say(f"kept: remove it with `python -m deploy destroy {names.cluster}`")
        else:
            with undisturbed():
                destroy(call.aws, names, call.say)
