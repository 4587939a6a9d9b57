"""On the machines: shell, login, ui, run-command, copy-file."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click

from deploy import copying, sessions, ssm
from deploy.cli.common import Call, command
from deploy.cluster import Cluster
from deploy.errors import MissingToolError, RemoteError, StateError

__all__ = ["register"]

MASTER_ONLY = click.option("--master-only", is_flag=True, help="Not on the workers.")


def machines_of(cluster: Cluster, master_only: bool) -> list[str]:
    """Return the ids of the machines that a command is for."""
    workers = [] if master_only else cluster.running_workers()
    return [cluster.running_master().id, *(worker.id for worker in workers)]


def register(group: click.Group) -> None:
    """Add the commands to a group."""
    _register_sessions(group)
    _register_commands(group)


def _register_sessions(group: click.Group) -> None:
    @command(group, "shell")
    @click.argument("name")
    def shell(call: Call, name: str) -> None:
        """Open pyspark on the cluster."""
        sys.exit(sessions.shell(call.aws, call.cluster(name).running_master().id))

    @command(group, "login")
    @click.argument("name")
    @click.option("--worker", help="Id of a worker, in place of the master.")
    @click.option("--identity-file", type=click.Path(exists=True), help="By SSH, with this key.")
    @click.option("--user", default="ubuntu", show_default=True, help="For SSH.")
    def login(
        call: Call, name: str, worker: str | None, identity_file: str | None, user: str
    ) -> None:
        """Open a shell on the master through Session Manager, or by SSH if launched with it."""
        cluster = call.cluster(name)
        machine = cluster.running_master()
        if worker is not None:
            found = [one for one in cluster.running_workers() if one.id == worker]
            if not found:
                raise StateError(f"{name} has no running worker {worker}: see `describe`")
            machine = found[0]
        if identity_file is None:
            sys.exit(sessions.login(call.aws, machine.id))
        if shutil.which("ssh") is None:
            raise MissingToolError("ssh is not installed: leave --identity-file out")
        address = machine.public or machine.private
        sys.exit(subprocess.call(["ssh", "-i", identity_file, f"{user}@{address}"]))

    @command(group, "ui")
    @click.argument("name")
    @click.option("--port", type=int, multiple=True, help="Default: 8080 and 4040; repeatable.")
    def ui(call: Call, name: str, port: tuple[int, ...]) -> None:
        """Lead the master's and the running job's pages to this machine, until Ctrl-C."""
        master = call.cluster(name).running_master()
        ports = port or tuple(sessions.PAGES)
        for one in ports:
            call.say(f"http://127.0.0.1:{one} {sessions.PAGES.get(one, '')}".strip())
        sessions.tunnels(call.aws, master.id, master.private, ports)


def _register_commands(group: click.Group) -> None:
    @command(group, "run-command")
    @click.argument("name")
    @click.argument("words", nargs=-1, required=True)
    @MASTER_ONLY
    def run_command(call: Call, name: str, words: tuple[str, ...], master_only: bool) -> None:
        """Run a shell command as root on all machines: one string, or words after --."""
        text = words[0] if len(words) == 1 else shlex.join(words)
        machines = machines_of(call.cluster(name), master_only)
        answers = ssm.run(call.aws, machines, ssm.shell_script(text))
        lines = []
        for one in answers:
            lines.append(f"{one.machine}: {one.state} ({one.status})")
            lines += [line for line in (one.output + one.errors).splitlines() if line]
        call.answer([vars(one) for one in answers], "\n".join(lines))
        failed = [one.machine for one in answers if one.status != 0]
        if failed:
            if call.json:
                sys.exit(RemoteError.status)
            raise RemoteError(f"failed on {', '.join(failed)}: its output is above")

    @command(group, "copy-file")
    @click.argument("name")
    @click.argument("local", type=click.Path(exists=True, path_type=Path))
    @click.argument("remote")
    @MASTER_ONLY
    def copy_file(call: Call, name: str, local: Path, remote: str, master_only: bool) -> None:
        """Copy a file or a directory to the same path on all machines."""
        cluster = call.cluster(name)
        machines = machines_of(cluster, master_only)
        copying.copy(call.aws, cluster, local, remote, machines)
        call.answer({"machines": machines}, f"{remote} on {len(machines)} machines")
