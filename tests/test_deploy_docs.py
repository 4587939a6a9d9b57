"""docs/deploy.md says what is there: commands, options, exit statuses, tests."""

from __future__ import annotations

import re
from pathlib import Path

import click

from deploy import errors
from deploy.cli import cli
from deploy.cli.common import INTERRUPTED

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "deploy.md").read_text()


def test_every_test_that_the_security_review_names_is_there() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_deploy_*.py"))
    review = TEXT.split("## Security")[1].split("## What never ran")[0]
    named = re.findall(r"`(\w+(?:_\w+){3,})`", review)
    assert len(named) > 15
    for name in named:
        assert f"def test_{name}(" in tests, name


def test_every_command_is_in_the_docs_and_no_other() -> None:
    table = TEXT.split("## Commands")[1].split("Every command takes")[0]
    told = set(
        re.findall(r"`([a-z-]+)(?: [^`]*)?`", " ".join(re.findall(r"^\| (.*?) \|", table, re.M)))
    )
    assert told == set(cli.commands)


def test_every_option_that_the_docs_give_as_ours_is_one() -> None:
    ours = {
        name
        for command in [cli, *cli.commands.values()]
        for option in command.params
        if isinstance(option, click.Option)
        for name in (*option.opts, *option.secondary_opts)
    } | {"--help"}
    table = TEXT.split("## Beside Flintrock")[1].split("## Security")[0]
    cells = [row.split("|")[3] for row in table.splitlines() if row.startswith("| ")]
    given = set(re.findall(r"(--[a-z][a-z-]+)", " ".join(cells[1:])))
    assert given <= ours, given - ours


def test_the_exit_statuses_are_those_of_the_errors() -> None:
    told = {int(status) for status in re.findall(r"^\| (\d+) \|", TEXT, re.M)}
    real = {getattr(errors, name).status for name in errors.__all__}
    assert told == real | {0, INTERRUPTED}
