"""Jobs on the master: each a unit of systemd's, so that it survives whoever asked for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from . import account, aws, configuration, joining, layout
from .attempts import attempt
from .configuration import ACCOUNT, COMMAND, STATE
from .copying import Copier

JOBS = STATE + "/jobs"
# How often output goes to the bucket, and event logs with it, in seconds.
COPY_SECONDS = 10
# How often the last copy is tried.
LAST_ATTEMPTS = 2
# How long Spark has to end by itself when a job is killed, then the last copy, in seconds.
GRACE_SECONDS, COPYING_SECONDS = 30, 90
# After so many seconds a job that has no unit will not get one.
LOST_SECONDS = 60
ENDED = ("finished", "failed", "killed", "lost")


class JobError(Exception):
    """A command about a job that cannot be carried out, in one line."""


def folder_of(job: str) -> str:
    """The directory of a job, whose id may hold nothing that a path or a unit could trip over."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", job):
        raise JobError(f"{job!r} is no job's id: letters, digits and - only, 64 at most")
    return f"{JOBS}/{job}"


def unit_of(job: str) -> str:
    """The name of a job's unit."""
    return f"sparknn-job-{job}.service"


def submit(
    services: aws.Services, job: str, files: Mapping[str, tuple[str, str]],
    conf: Sequence[str], arguments: Sequence[str],
) -> None:  # fmt: skip
    """Start a job, and return when systemd has taken it over.

    Asking again with the id of a job that is there already changes nothing: a caller that has
    not seen the answer may repeat the question.

    Parameters
    ----------
    job : its id, chosen by the caller.
    files : name in the job's directory → (key in the bucket, SHA-256); the first is the script.
    conf : settings for spark-submit, as "name=value".
    arguments : those of the script.
    """
    folder = folder_of(job)
    # Root's as long as not all is there: nobody else can put a link in it meanwhile.
    if os.path.isdir(folder) and os.stat(folder).st_uid != os.geteuid():
        return
    for path in (folder, folder + "/events"):
        os.makedirs(path, mode=0o700, exist_ok=True)
    for name, (key, sha256) in files.items():
        if name != os.path.basename(name) or name in ("stdout", "stderr", "status.json", "events"):
            raise JobError(f"a file of a job cannot be named {name}")
        services.download(key, f"{folder}/{name}", sha256)
    script = next(iter(files))
    about: dict = {"job": job, "script": script, "arguments": list(arguments), "conf": list(conf)}
    about.update(state="submitted", exit=None, result=None, submitted=int(time.time()))
    for stream in ("stdout", "stderr"):
        open(f"{folder}/{stream}", "ab").close()
    write_status(folder, about)
    subprocess.run(["chown", "-R", f"{ACCOUNT}:{ACCOUNT}", folder], check=True)
    _start_unit(job)


def _start_unit(job: str) -> None:
    properties = [
        "KillMode=mixed",
        f"TimeoutStopSec={GRACE_SECONDS + COPYING_SECONDS}",
        "EnvironmentFile=/etc/sparknn/environment",
        f"EnvironmentFile={configuration.RUNTIME}/disks.env",
    ]
    options = [f"--unit={unit_of(job)}", f"--uid={ACCOUNT}", f"--gid={ACCOUNT}", "--collect"]
    options += [f"--property={value}" for value in properties]
    subprocess.run(["systemd-run", *options, COMMAND, "run-job", job], check=True)


def write_status(folder: str, about: Mapping) -> None:
    """Write a job's status.json, whole or not at all."""
    with open(folder + "/status.json.part", "w") as file:
        json.dump(about, file)
    os.replace(folder + "/status.json.part", folder + "/status.json")


def status(job: str) -> dict:
    """A job's status.

    Its `state` is submitted, running, finished (its exit status was 0), failed, killed, or lost
    (its unit is gone, and has not said how it ended). `exit` is the exit status, negative for a
    signal; `result` the JSON object in the last line that it printed, if there is one; times are
    in seconds since the epoch.
    """
    path = folder_of(job) + "/status.json"
    if not os.path.exists(path):
        raise JobError(f"there is no job {job} on this cluster's master")
    about = _read(path)
    if about["state"] not in ENDED and not _unit_is_active(job):
        about = _read(path)  # it may have ended between the two looks
        if about["state"] not in ENDED:
            about["state"] = "lost"
    return about


def _read(path: str) -> dict:
    try:
        with open(path) as file:
            about = json.load(file)
    except ValueError as error:
        raise JobError(f"{path}: {error}") from None
    kinds: dict[str, Any] = {"job": str, "state": str, "submitted": (int, float)}
    if not isinstance(about, dict) or not all(
        isinstance(about.get(name), kind) for name, kind in kinds.items()
    ):
        raise JobError(f"{path} is no job's status")
    return about


def _unit_is_active(job: str) -> bool:
    command = ["systemctl", "is-active", "--quiet", unit_of(job)]
    return subprocess.run(command, check=False).returncode == 0


def all_jobs() -> list[dict]:
    """The status of every job, the oldest first, but of those that cannot be read."""
    names = os.listdir(JOBS) if os.path.isdir(JOBS) else []
    known = [name for name in names if os.path.exists(f"{JOBS}/{name}/status.json")]
    found = [about for name in known if (about := attempt(partial(status, name)))]
    return sorted(found, key=lambda about: about["submitted"])


def report_lost(services: aws.Services) -> None:
    """Say in the bucket, too, of jobs that have ended without a word that they are lost.

    Whoever follows a job reads the bucket alone.
    """
    for about in all_jobs():
        attempt(partial(_report_where_lost, services, about))


def _report_where_lost(services: aws.Services, about: Mapping) -> None:
    folder = folder_of(about["job"])
    # A job that has just been submitted has no unit for a moment.
    young = time.time() - about["submitted"] < LOST_SECONDS
    if about["state"] == "lost" and not young and _read(folder + "/status.json") != about:
        copier = Copier(services, about["job"], folder)
        attempt(copier.copy, LAST_ATTEMPTS)
        # Where this fails it is tried again at the next look.
        services.put(copier.status_key, json.dumps(about).encode())
        write_status(folder, about)


def kill(job: str) -> None:
    """Stop a job, and return when it has ended."""
    if account.result_of(partial(status, job))["state"] not in ENDED:
        subprocess.run(["systemctl", "stop", unit_of(job)], check=True)


def follow(job: str, pause: float = 0.5) -> int:
    """Print a job's output from its beginning until it ends; returns its exit status."""
    folder = folder_of(job)
    status(job)
    sent = {"stdout": 0, "stderr": 0}
    while True:
        about = status(job)
        for name, to in (("stderr", sys.stderr), ("stdout", sys.stdout)):
            with open(f"{folder}/{name}", "rb") as file:
                file.seek(sent[name])
                shutil.copyfileobj(file, to.buffer)
                sent[name] = file.tell()
            to.flush()
        if about["state"] in ENDED:
            return exit_status(about)
        time.sleep(pause)


def exit_status(about: Mapping) -> int:
    """The exit status for a shell, of a job that has ended."""
    if about["exit"] is None:
        return 1
    return about["exit"] if about["exit"] >= 0 else 128 - about["exit"]


def submit_command(
    about: Mapping, folder: str, master: str, workers: Sequence[Mapping]
) -> list[str]:
    """The command line of spark-submit: executors get all the memory that their workers offer."""
    conf = []
    if workers:
        conf.append(f"spark.executor.memory={min(worker['memory'] for worker in workers)}m")
    conf += ["spark.eventLog.enabled=true", f"spark.eventLog.dir=file:{folder}/events"]
    conf += about["conf"]
    settings = [part for line in conf for part in ("--conf", line)]
    address = f"spark://{master}:{configuration.MASTER_PORT}"
    program = os.environ["SPARK_HOME"] + "/bin/spark-submit"
    script = f"{folder}/{about['script']}"
    return [program, "--master", address, *settings, script, *about["arguments"]]


def run(services: aws.Services, job: str) -> int:
    """Run a job to its end: what its unit does, under Spark's account."""
    folder = folder_of(job)
    about = _read(folder + "/status.json")
    master = os.environ["SPARK_LOCAL_IP"]
    workers = joining.workers(master)
    about.update(state="running", started=int(time.time()))
    write_status(folder, about)
    command = submit_command(about, folder, master, workers)
    with open(f"{folder}/stdout", "ab") as stdout, open(f"{folder}/stderr", "ab") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
    killed = _end_on_sigterm(process)
    copier = Copier(services, job, folder)
    code = _copy_until_it_ends(copier, about, process)
    state = "killed" if killed else "finished" if code == 0 else "failed"
    about.update(state=state, exit=code, ended=int(time.time()), result=closing(folder))
    _copy(copier, about, LAST_ATTEMPTS)
    write_status(folder, about)
    return exit_status(about)


def _end_on_sigterm(process: subprocess.Popen) -> list:
    """Hand a SIGTERM on to Spark as Ctrl-C, then as a kill; the list is not empty afterwards."""
    killed: list[int] = []

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    def end(number: int, frame: object) -> None:
        killed.append(number)
        send(signal.SIGINT)
        timer = threading.Timer(GRACE_SECONDS, send, (signal.SIGKILL,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, end)
    return killed


def _copy_until_it_ends(copier: Copier, about: Mapping, process: subprocess.Popen) -> int:
    while True:
        _copy(copier, about)
        try:
            return process.wait(COPY_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _copy(copier: Copier, about: Mapping, attempts: int = 1) -> None:
    """Copy what a job has written, then its status: who reads that it has ended reads no more.

    A copy that fails is logged: the job, and the word of its end, matter more.
    """
    body = json.dumps(about).encode()
    attempt(copier.copy, attempts)
    attempt(lambda: copier.services.put(copier.status_key, body), attempts)


def closing(folder: str) -> dict | None:
    """The JSON object in the last line of a job's standard output; None if that is none."""
    with open(folder + "/stdout", "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - layout.PART_BYTES))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    try:
        last = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return last if isinstance(last, dict) else None
