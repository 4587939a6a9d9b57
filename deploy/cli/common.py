"""What all commands have in common: their options, their answers, their errors."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click

from deploy import cluster as clusters
from deploy.aws.session import Aws
from deploy.errors import DeployError, NoSuchClusterError, SettingsError
from deploy.s3 import Folder

__all__ = ["INTERRUPTED", "Call", "command", "reported"]

INTERRUPTED = 130


@dataclass
class Call:
    """One call of a command: where it goes, and how it answers.

    region, profile : as given, or None. json : answer in one line of JSON.
    """

    region: str | None
    profile: str | None
    json: bool

    @cached_property
    def aws(self) -> Aws:
        """The account and region."""
        return Aws(self.region, self.profile)

    def cluster(self, name: str) -> clusters.Cluster:
        """Return a cluster by name."""
        return clusters.find(self.aws, name)

    def logs_folder(self, name: str, bucket: str | None, prefix: str | None) -> Folder:
        """Return where a cluster's objects are; bucket, prefix: for when the cluster is gone.

        Raises
        ------
        NoSuchClusterError
            If it is gone and no bucket is named.
        """
        try:
            found = self.cluster(name)
        except NoSuchClusterError as error:
            if bucket is None:
                raise NoSuchClusterError(f"{error}; if it is gone, name its --bucket") from error
            return Folder(self.aws, bucket, prefix or f"sparknn/{name}")
        return Folder(self.aws, found.bucket, found.prefix)

    def say(self, text: str) -> None:
        """Tell of progress, on standard error."""
        click.echo(text, err=True)

    def answer(self, data: Any, text: str) -> None:
        """Answer on standard output: the data with --json, else the text."""
        click.echo(json.dumps(data) if self.json else text)

    def confirm(self, question: str, yes: bool) -> None:
        """Ask whether to go on.

        Raises
        ------
        SettingsError
            If nobody is there to ask.
        """
        if yes:
            return
        if not sys.stdin.isatty():
            raise SettingsError(f"{question} Nobody is there to ask: add --yes")
        if not click.confirm(question, err=True):
            raise SettingsError("nothing was changed")


@contextmanager
def reported(as_json: bool, debug: bool) -> Iterator[None]:
    """Turn errors into one line, and the exit status that their class has."""
    try:
        yield
    except DeployError as error:
        if debug:
            raise
        _report(str(error), error.status, as_json)
    except KeyboardInterrupt:
        _report("interrupted", INTERRUPTED, as_json)


def _report(message: str, status: int, as_json: bool) -> None:
    line = " ".join(message.split())
    if as_json:
        click.echo(json.dumps({"error": line, "status": status}))
    else:
        click.echo(f"deploy: {line}", err=True)
    sys.exit(status)


def command(group: click.Group, name: str, **settings: Any) -> Callable[[Callable], Callable]:
    """Make a function that takes a Call a command of a group, with the options that all have."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def body(region: str | None, profile: str | None, as_json: bool, **rest: Any) -> Any:
            debug = click.get_current_context().find_root().params.get("debug", False)
            with reported(as_json, debug):
                return function(Call(region, profile, as_json), **rest)

        options = [
            click.option("--region", help="AWS region; default: your profile's."),
            click.option("--profile", help="Profile of your AWS configuration."),
            click.option("--json", "as_json", is_flag=True, help="Answer in one line of JSON."),
        ]
        for option in reversed(options):
            body = option(body)
        return group.command(name, **settings)(body)

    return decorate
