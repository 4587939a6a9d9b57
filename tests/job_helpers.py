"""The jobs' commands, run in the tests' own session."""

from __future__ import annotations

import json
from collections.abc import Callable

import click
import pytest

from sparknn.cli.session import status_of

Run = Callable[..., tuple[int, str, str]]


def runner(capsys: pytest.CaptureFixture) -> Run:
    """Return a function that runs a command as a job: its status, its two outputs."""

    def call(command: click.Command, *options: object) -> tuple[int, str, str]:
        capsys.readouterr()
        arguments = list(map(str, options))
        status = status_of(lambda: command.main(arguments, standalone_mode=False))
        return status, *capsys.readouterr()

    return call


def done(run: Run, command: click.Command, *options: object) -> dict:
    """Run a command that succeeds; return its closing JSON object."""
    status, out, err = run(command, *options)
    assert status == 0, err
    (line,) = out.splitlines()
    return json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))


def mistake(run: Run, command: click.Command, *options: object) -> str:
    """Run a command on a user's mistake; return the one line that explains it, the last."""
    status, out, err = run(command, *options)
    assert (status, out) == (2, ""), err
    assert "Traceback" not in err and "Usage" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line == err.splitlines()[-1]
    return line
