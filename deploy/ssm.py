"""Commands on machines through Systems Manager: no open port, no key."""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, codes, translated
from deploy.errors import RemoteError

__all__ = ["Answer", "node_script", "on_machines", "on_master", "run", "shell_script"]

NODE = "/usr/local/bin/sparknn-node"
DOCUMENT = "AWS-RunShellScript"
AT_ONCE = 50
OUTPUT_LIMIT = 24000
POLL_SECONDS = 1.0
ENDED = {"Success", "Failed", "Cancelled", "TimedOut"}


@dataclass(frozen=True)
class Answer:
    """What a command did on a machine; status: its exit status, -1 where it did not run."""

    machine: str
    status: int
    output: str
    errors: str
    state: str

    @property
    def problem(self) -> str:
        """The last line of its errors, or how it ended."""
        lines = self.errors.strip().splitlines()
        return lines[-1] if lines else self.state


def node_script(arguments: Sequence[str]) -> str:
    """Return a shell script that calls the machine's own program.

    The arguments travel in base64: Systems Manager puts values in place of what looks like
    {{ssm:name}}, and the shell would read the rest.
    """
    coded = base64.b64encode(shlex.join(arguments).encode()).decode()
    return f'eval "set -- $(printf %s {coded} | base64 -d)"; exec {NODE} "$@"'


def shell_script(command: str) -> str:
    """Return a shell script that runs a user's command as it stands."""
    coded = base64.b64encode(command.encode()).decode()
    return f'exec sh -c "$(printf %s {coded} | base64 -d)"'


def on_master(aws: Aws, master: str, arguments: Sequence[str], seconds: int = 120) -> str:
    """Call the master's own program and return what it printed.

    Raises
    ------
    RemoteError
        If it failed, with its last line.
    """
    (answer,) = on_machines(aws, [master], arguments, seconds)
    if answer.status != 0:
        raise RemoteError(f"{arguments[0]} failed on the master: {answer.problem}")
    return answer.output


def on_machines(
    aws: Aws, machines: Sequence[str], arguments: Sequence[str], seconds: int = 120
) -> list[Answer]:
    """Call the machines' own program."""
    return run(aws, machines, node_script(arguments), seconds)


def run(aws: Aws, machines: Sequence[str], script: str, seconds: int = 3600) -> list[Answer]:
    """Run a shell script on machines, as root, and return their answers in the same order.

    seconds: how long it may take.

    Raises
    ------
    RemoteError
        If Systems Manager does not know a machine.
    """
    sent: dict[str, str] = {}
    for start in range(0, len(machines), AT_ONCE):
        some = list(machines[start : start + AT_ONCE])
        sent.update(dict.fromkeys(some, _send(aws, some, script, seconds)))
    # The agent itself ends what takes too long; this is for an agent that has gone silent.
    end = time.monotonic() + seconds + 120
    answers: dict[str, Answer] = {}
    while True:
        for machine, command in sent.items():
            if machine not in answers:
                answer = _answer(aws, command, machine)
                if answer is not None:
                    answers[machine] = answer
        if len(answers) == len(sent):
            return [answers[machine] for machine in machines]
        if time.monotonic() > end:
            silent = [machine for machine in sent if machine not in answers]
            raise RemoteError(f"no answer from {', '.join(silent)}: see `describe`, or `login`")
        time.sleep(POLL_SECONDS)


def _send(aws: Aws, machines: list[str], script: str, seconds: int) -> str:
    with translated("command"):
        try:
            answer = aws.ssm.send_command(
                InstanceIds=machines,
                DocumentName=DOCUMENT,
                Comment="sparknn deploy",
                Parameters={"commands": [script], "executionTimeout": [str(seconds)]},
                TimeoutSeconds=60,
                MaxConcurrency="100%",
                MaxErrors="100%",
            )
        except ClientError as error:
            if codes(error) != "InvalidInstanceId":
                raise
            raise RemoteError(
                f"Systems Manager does not know {' or '.join(machines)} yet, or no longer: a "
                "machine says hello a minute or two after it was started; try again"
            ) from error
    return answer["Command"]["CommandId"]


def _answer(aws: Aws, command: str, machine: str) -> Answer | None:
    with translated("command"):
        try:
            found: dict[str, Any] = aws.ssm.get_command_invocation(
                CommandId=command, InstanceId=machine
            )
        except ClientError as error:
            if codes(error) == "InvocationDoesNotExist":
                return None
            raise
    state = found["Status"]
    if state not in ENDED:
        return None
    output = found.get("StandardOutputContent", "")
    if len(output) >= OUTPUT_LIMIT:
        output += "\n… (Systems Manager keeps no more than 24,000 characters)\n"
    status = found.get("ResponseCode", -1)
    if state != "Success" and status == 0:
        status = -1
    return Answer(machine, status, output, found.get("StandardErrorContent", ""), state)
