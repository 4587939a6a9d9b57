"""Sessions on the master through Session Manager: login, pyspark, tunnels to Spark's pages."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deploy.aws.session import Aws, translated
from deploy.errors import MissingToolError
from deploy.ssm import NODE

__all__ = ["PAGES", "interactive", "login", "require_plugin", "shell", "tunnels"]

PLUGIN = "session-manager-plugin"
# The plugin takes the answer of StartSession, which holds a token, from this variable, and not
# from its arguments, which everybody on the machine could read.
VARIABLE = "AWS_SSM_START_SESSION_RESPONSE"
PAGES = {8080: "master", 4040: "running job"}


def require_plugin() -> str:
    """Return the path of Session Manager's plugin.

    Raises
    ------
    MissingToolError
        If it is not installed.
    """
    found = shutil.which(PLUGIN)
    if found is None:
        raise MissingToolError(
            f"{PLUGIN} is not installed: see https://docs.aws.amazon.com/systems-manager/latest/"
            "userguide/session-manager-working-with-install-plugin.html"
        )
    return found


def _start(aws: Aws, plugin: str, request: dict[str, Any]) -> subprocess.Popen[bytes]:
    with translated("session"):
        answer = aws.ssm.start_session(**request)
    answer.pop("ResponseMetadata", None)
    endpoint = aws.ssm.meta.endpoint_url
    profile = aws.session.profile_name if aws.session.profile_name != "default" else ""
    arguments = [VARIABLE, aws.region, "StartSession", profile, json.dumps(request), endpoint]
    return subprocess.Popen([plugin, *arguments], env={**os.environ, VARIABLE: json.dumps(answer)})


def interactive(aws: Aws, request: dict[str, Any]) -> int:
    """Run a session on this terminal and return the plugin's exit status."""
    process = _start(aws, require_plugin(), request)
    with _ctrl_c_is_theirs():
        return process.wait()


@contextmanager
def _ctrl_c_is_theirs() -> Iterator[None]:
    """Leave Ctrl-C to the program on the other side."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def login(aws: Aws, machine: str) -> int:
    """Open a shell on a machine."""
    return interactive(aws, {"Target": machine})


def shell(aws: Aws, machine: str) -> int:
    """Open pyspark on the cluster."""
    return interactive(
        aws,
        {
            "Target": machine,
            "DocumentName": "AWS-StartInteractiveCommand",
            "Parameters": {"command": [f"sudo {NODE} shell"]},
        },
    )


def tunnels(aws: Aws, machine: str, host: str, ports: Sequence[int]) -> None:
    """Lead ports of this machine's loopback to a machine's, until Ctrl-C.

    host : the machine's private address, which Spark's pages are bound to.
    """
    plugin = require_plugin()
    running: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            request = {
                "Target": machine,
                "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost",
                "Parameters": {
                    "host": [host],
                    "portNumber": [str(port)],
                    "localPortNumber": [str(port)],
                },
            }
            running.append(_start(aws, plugin, request))
        for process in running:
            process.wait()
    finally:
        for process in running:
            process.terminate()
            process.wait()
