"""`python -m deploy`: the command line."""

from __future__ import annotations

import logging
from importlib import metadata

import click

from deploy.cli import access, clusters, data, launching, work
from deploy.cli.common import reported
from deploy.cli.config import default_map, locate

__all__ = ["cli", "main"]


def sparknn_version() -> str:
    """Return sparknn's version; a checkout that is not installed has none."""
    try:
        return metadata.version("sparknn")
    except metadata.PackageNotFoundError:
        return "not installed"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(sparknn_version())
@click.option("--config", type=click.Path(), help="Default: cluster.toml here, or your own.")
@click.option("--debug", is_flag=True, help="Show calls to AWS, and where errors come from.")
@click.pass_context
def cli(context: click.Context, config: str | None, debug: bool) -> None:
    """Spark clusters on EC2, with data on S3, for sparknn's jobs.

    \b
    0  done                           6    no quota, capacity, or time
    1  AWS or a machine failed        7    a program is missing here
    2  a mistake in the options       8    a job left no exit status
    3  no such cluster, job or log    9    something is left: see the message
    4  name in use, wrong state       130  interrupted
    5  credentials or rights missing
    """
    if debug:
        # Names of calls and retries; botocore's finer levels would show headers and bodies.
        logging.basicConfig(format="%(message)s", level=logging.INFO)
    if context.invoked_subcommand != "configure":
        with reported(False, debug):
            context.default_map = default_map(cli, locate(config), config is not None)


for room in (launching, clusters, work, access, data):
    room.register(cli)


def main() -> None:
    """Run the command line."""
    cli(prog_name="python -m deploy")
