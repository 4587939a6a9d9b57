"""Jobs and their logs: submit, jobs, attach, kill, logs, history."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deploy import history, jobs
from deploy.cli.common import Call, command
from deploy.cli.following import follow, write
from deploy.errors import NoSuchClusterError, StateError

__all__ = ["register"]

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def placed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of commands that work without the cluster, too."""
    bucket = click.option("--bucket", help="For when the cluster is gone.")
    prefix = click.option("--prefix", help="In the bucket; default sparknn/NAME.")
    return bucket(prefix(function))


def register(group: click.Group) -> None:
    """Add the commands to a group."""
    _register_jobs(group)
    _register_logs(group)


def _register_jobs(group: click.Group) -> None:
    @command(group, "submit")
    @click.argument("name")
    @click.argument("script", type=FILE)
    @click.argument("arguments", nargs=-1)
    @click.option("--file", "files", type=FILE, multiple=True, help="Put beside it; repeatable.")
    @click.option("--conf", multiple=True, help="Spark setting NAME=VALUE; repeatable.")
    @click.option("--wait", is_flag=True, help="Follow it, and end with its exit status.")
    def submit(
        call: Call,
        name: str,
        script: Path,
        arguments: tuple[str, ...],
        files: tuple[Path, ...],
        conf: tuple[str, ...],
        wait: bool,
    ) -> None:
        """Start a job; ARGUMENTS, after --, are the script's. It needs nobody to watch it."""
        cluster = call.cluster(name)
        job = jobs.submit(call.aws, cluster, script, arguments, files, conf)
        if wait:
            call.say(f"job {job}")
            sys.exit(follow(call, cluster, job))
        call.answer({"name": name, "job": job}, job)

    @command(group, "jobs")
    @click.argument("name")
    @placed
    def jobs_(call: Call, name: str, bucket: str | None, prefix: str | None) -> None:
        """List the jobs, the oldest first; also when the cluster is gone."""
        try:
            found = jobs.jobs_of(call.aws, call.cluster(name))
        except (NoSuchClusterError, StateError):
            # Nobody is there to ask: what jobs left in the bucket tells.
            found = jobs.finished_jobs(call.logs_folder(name, bucket, prefix))
        lines = [f"{one['job']}: {one['state']} ({one.get('exit')})" for one in found]
        call.answer(found, "\n".join(lines) or "no jobs")

    @command(group, "attach")
    @click.argument("name")
    @click.argument("job", required=False)
    def attach(call: Call, name: str, job: str | None) -> None:
        """Follow a job, by default the last, and end with its exit status."""
        cluster = call.cluster(name)
        folder = call.logs_folder(name, None, None)
        sys.exit(follow(call, cluster, job or jobs.latest(folder)))

    @command(group, "kill")
    @click.argument("name")
    @click.argument("job")
    def kill(call: Call, name: str, job: str) -> None:
        """Stop a job; Spark gets 30 seconds to end by itself."""
        jobs.kill(call.aws, call.cluster(name), job)
        call.answer({"name": name, "job": job, "state": "killed"}, f"{job} has ended")


def _register_logs(group: click.Group) -> None:
    @command(group, "logs")
    @click.argument("name")
    @click.argument("job", required=False)
    @placed
    @click.option("--stream", type=click.Choice(["stderr", "stdout"]), default="stderr")
    @click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="Fetch all of it.")
    def logs(
        call: Call,
        name: str,
        job: str | None,
        bucket: str | None,
        prefix: str | None,
        stream: str,
        to: Path | None,
    ) -> None:
        """Print what a job, by default the last, has written; also when the cluster is gone."""
        folder = call.logs_folder(name, bucket, prefix)
        job = job or jobs.latest(folder)
        if to is not None:
            count = jobs.download(folder, job, to)
            call.answer({"job": job, "files": count}, f"{count} files in {to}")
            return
        pieces = list(jobs.Output(folder, job, stream).new())
        if not pieces and jobs.status_of(folder, job) is None:
            raise NoSuchClusterError(f"no logs of job {job}: `jobs` lists those that there are")
        if call.json:
            text = b"".join(pieces).decode("utf-8", "replace")
            call.answer({"job": job, stream: text}, "")
        else:
            for piece in pieces:
                write("stdout", piece)

    @command(group, "history")
    @click.argument("name")
    @click.argument("job", required=False)
    @placed
    @click.option("--port", type=int, default=18080, show_default=True)
    def history_(
        call: Call, name: str, job: str | None, bucket: str | None, prefix: str | None, port: int
    ) -> None:
        """Show Spark's pages of jobs that ran, on this machine's loopback, until Ctrl-C."""
        folder = call.logs_folder(name, bucket, prefix)
        with tempfile.TemporaryDirectory(prefix="sparknn-history-") as directory:
            logs = Path(directory)
            events = logs / "events"
            events.mkdir()
            for one in [job] if job else jobs.job_ids(folder):
                jobs.download(folder, one, logs / one)
                for log in (logs / one / "events").glob("*"):
                    log.rename(events / log.name)
            history.complete_markers(events)
            call.say(f"http://127.0.0.1:{port} until Ctrl-C")
            sys.exit(history.serve(events, port))
