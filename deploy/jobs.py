"""Jobs: handed to the master, followed through what they leave in the bucket.

A job runs on the master under systemd and needs nobody: whoever follows it reads its status and its
output from S3, where they stay when the cluster is gone.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from deploy import ssm
from deploy.aws.policy import Grants
from deploy.aws.session import Aws, translated
from deploy.cluster import Cluster, record
from deploy.errors import JobError, NoSuchClusterError, SettingsError
from deploy.node import layout
from deploy.s3 import Folder, file_digest
from deploy.settings import check_conf, pairs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "ENDED",
    "Output",
    "check_paths",
    "download",
    "exit_status",
    "finished_jobs",
    "follow",
    "job_ids",
    "jobs_of",
    "kill",
    "latest",
    "status_of",
    "submit",
]

ENDED = ("finished", "failed", "killed", "lost")
POLL_SECONDS = 3.0
# The machines write a job's status every ten seconds.
SILENT_SECONDS = 120.0
S3_PATH = re.compile(r"(?:^|=|,)(s3[an]?://[^,]+)")
WRITING = re.compile(r"--(output|checkpoint|metrics|save|write|history)[\w-]*")


def check_paths(arguments: Sequence[str], grants: Grants, files: Sequence[Path] = ()) -> None:
    """Raise SettingsError for paths on S3 among a job's arguments that the machines may not touch.

    What follows an option such as --output or --checkpoint-dir is written, the rest read. Those
    in a TOML file after --config, which is among the job's files, count like the others.
    """
    problems = []
    option = ""
    for argument in [*arguments, *_configured(arguments, files)]:
        option = argument.partition("=")[0] if argument.startswith("-") else option
        writing = bool(WRITING.fullmatch(option))
        for path in S3_PATH.findall(argument):
            if not path.startswith("s3a://"):
                raise SettingsError(f"{path}: Spark reads S3 as s3a://{path.partition('://')[2]}")
            # A glob is covered where all is that it can stand for.
            stem = re.split(r"[*?\[{]", path)[0] if re.search(r"[*?\[{]", path) else path
            if not grants.covers(stem, writing):
                problems.append(f"{path} may not be {'written' if writing else 'read'}")
    if problems:
        granted = [f"--read {one}" for one in grants.read] + [
            f"--write {one}" for one in grants.write
        ]
        raise SettingsError(
            f"{'; '.join(problems)}: launched with {' '.join(granted) or 'no --read or --write'}; "
            "launch a cluster that names the path with --read or --write"
        )


def _configured(arguments: Sequence[str], files: Sequence[Path]) -> list[str]:
    """Return what stands in a TOML file after --config, as arguments."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    found = []
    for option, name in pairwise(words):
        if option != "--config" or not name.endswith(".toml") or name.startswith("/"):
            continue
        handed = [path for path in files if path.name == Path(name).name]
        if not handed:
            raise SettingsError(f"--config {name}: hand the file over, with --file {name}")
        try:
            values = tomllib.loads(handed[0].read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"--config {name}: {error}") from None
        for key, value in values.items():
            found += [f"--{key}={one}" for one in (value if isinstance(value, list) else [value])]
    return found


def submit(
    aws: Aws,
    cluster: Cluster,
    script: Path,
    arguments: Sequence[str],
    files: Sequence[Path] = (),
    conf: Sequence[str] = (),
) -> str:
    """Start a job on the master and return its id.

    Parameters
    ----------
    script : a Python program for spark-submit, on this machine.
    files : others that it needs, put beside it.
    conf : Spark's settings for it, as "name=value".

    Raises
    ------
    SettingsError
        If a path on S3 is outside what the cluster may touch, or a setting is one that `launch`
        would refuse, before anything starts.
    """
    check_conf(pairs(tuple(conf), "--conf"))
    master = cluster.running_master()
    noted = record(aws, cluster)
    if noted.get("checked", False):
        check_paths(arguments, Grants(tuple(noted["read"]), tuple(noted["write"])), files)
    names = [path.name for path in (script, *files)]
    if len(set(names)) < len(names):
        raise SettingsError("two files of a job have one name: rename one")
    job = new_id(script)
    command = ["submit", job]
    folder = Folder(aws, cluster.bucket, "")
    for path in (script, *files):
        key = layout.upload_key(cluster.prefix, cluster.launch_id, job, path.name)
        folder.upload(path, key)
        command += ["--file", path.name, key, file_digest(path)]
    for setting in conf:
        command += ["--conf", setting]
    ssm.on_master(aws, master.id, [*command, "--", *arguments])
    return job


def new_id(script: Path) -> str:
    """Return an id for a job: sortable by time, and told from another of the same second."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", script.stem).strip("-")[:24] or "job"
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{stem}-{secrets.token_hex(2)}"


def jobs_of(aws: Aws, cluster: Cluster) -> list[dict[str, Any]]:
    """Return the statuses of the jobs that the master knows, the oldest first."""
    output = ssm.on_master(aws, cluster.running_master().id, ["jobs"])
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def finished_jobs(folder: Folder) -> list[dict[str, Any]]:
    """Return the statuses that are in the bucket, of this and of earlier clusters of the name."""
    found = []
    for job in job_ids(folder):
        status = status_of(folder, job)
        if status is not None:
            found.append(status)
    return found


def job_ids(folder: Folder) -> list[str]:
    """Return the ids of the jobs that have logs, in their order; folder: the cluster's."""
    start = layout.logs_prefix(folder.prefix)
    with translated(f"s3://{folder.bucket}/{start}"):
        return sorted(
            common["Prefix"][len(start) :].rstrip("/")
            for page in folder.aws.pages(
                "s3", "list_objects_v2", Prefix=start, Delimiter="/", **folder.owner
            )
            for common in page.get("CommonPrefixes", [])
        )


def latest(folder: Folder) -> str:
    """Return the id of the job that was submitted last.

    Raises
    ------
    NoSuchClusterError
        If there is none.
    """
    found = job_ids(folder)
    if not found:
        raise NoSuchClusterError(
            f"no logs under s3://{folder.bucket}/{layout.logs_prefix(folder.prefix)}: a job's "
            "first come ten seconds after its start"
        )
    return found[-1]


def status_of(folder: Folder, job: str) -> dict[str, Any] | None:
    """Return a job's status as it is in the bucket, None before its first."""
    key = layout.status_key(folder.prefix, job)
    body = folder.get(key[len(folder.prefix) + 1 :])
    return json.loads(body) if body else None


def kill(aws: Aws, cluster: Cluster, job: str) -> None:
    """Stop a job; returns when it has ended."""
    ssm.on_master(aws, cluster.running_master().id, ["kill", job], seconds=180)


@dataclass
class Output:
    """One stream of a job, "stdout" or "stderr", read piece by piece as it grows."""

    folder: Folder
    job: str
    stream: str
    read: int = 0

    def new(self) -> Iterator[bytes]:
        """Yield what has come since the last call."""
        start = layout.part_key(self.folder.prefix, self.job, self.stream, 0).rsplit("/", 1)[0]
        skip = len(self.folder.prefix) + 1
        for found in self.folder.find(start[skip:] + "/"):
            first = int(found.key.rsplit("/", 1)[1]) * layout.PART_BYTES
            if first + found.size > self.read:
                body = self.folder.get(found.key[skip:]) or b""
                piece = body[max(0, self.read - first) :]
                self.read = first + len(body)
                yield piece


def follow(
    folder: Folder,
    job: str,
    write: Callable[[str, bytes], object],
    alive: Callable[[], bool],
    pause: float = POLL_SECONDS,
) -> dict[str, Any]:
    """Hand on a job's output until it has ended, and return its status.

    Parameters
    ----------
    write : is called with the stream's name and what is new.
    alive : whether the master is still there; asked when nothing came for two minutes.

    Raises
    ------
    JobError
        If the master is gone, and the job with it.
    """
    outputs = [Output(folder, job, stream) for stream in ("stderr", "stdout")]
    heard = time.monotonic()
    while True:
        # The status first: what came before a status that says "ended" is all there is.
        status = status_of(folder, job)
        for output in outputs:
            for piece in output.new():
                write(output.stream, piece)
                heard = time.monotonic()
        if status is not None and status["state"] in ENDED:
            return status
        if time.monotonic() - heard > SILENT_SECONDS:
            if not alive():
                raise JobError(f"the master is gone, and job {job} with it: see `logs`")
            heard = time.monotonic()
        time.sleep(pause)


def exit_status(status: dict[str, Any]) -> int:
    """Return the exit status that a command ends with which has waited for a job."""
    code = status.get("exit")
    if code is None:
        return JobError.status
    return code if code >= 0 else 128 - code


def download(folder: Folder, job: str, directory: Path) -> int:
    """Bring a job's logs and event logs here; returns how many files there were."""
    start = layout.logs_prefix(folder.prefix, job)
    skip = len(folder.prefix) + 1
    count = 0
    for found in folder.find(start[skip:]):
        path = directory / found.key[len(start) :]
        if directory.resolve() not in path.resolve().parents:
            raise SettingsError(f"{found.key} would leave {directory}: it is not fetched")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(folder.get(found.key[skip:]) or b"")
        count += 1
    if not count:
        raise NoSuchClusterError(f"no logs of job {job} under s3://{folder.bucket}/{start}")
    return count
