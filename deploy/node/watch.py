"""What a machine watches while it lives: readiness, spot notices, and on the master idleness."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from functools import partial

from . import account, aws, configuration, jobs, joining
from .attempts import attempt

# Seconds between two looks; a spot notice comes two minutes ahead.
SPOT_SECONDS = 5
# Where the drivers' pages are: Spark takes the next port when one is in use.
DRIVER_PAGES = range(4040, 4056)
LOGIN_PROCESSES = "ssm-session-worker|sshd.*: .+@|runuser -u spark"
# For Spark to let go of a worker that is to be removed.
LETTING_GO_SECONDS = 240
# Gone after a restart of the machine, as the clock that it is about.
LAST_WORK = configuration.RUNTIME + "/last-work"
# For the copy of what lost jobs have written.
REPORT_SECONDS = 600


class Idleness:
    """Tells when nothing has happened for long enough.

    Parameters
    ----------
    seconds : how long; None for never.
    now : the time at the start, in seconds of a clock that goes on until the machine ends.
    path : a file that keeps when there was work last, for a watch that begins again.
    """

    def __init__(self, seconds: float | None, now: float, path: str) -> None:
        self.seconds, self.path = seconds, path
        self.since = now
        if seconds is not None:
            with contextlib.suppress(OSError, ValueError), open(path) as file:
                self.since = min(float(file.read()), now)
            attempt(self._keep)

    def over(self, busy: bool, now: float) -> bool:
        """Whether the time is up, after a look that found the cluster busy or not."""
        if self.seconds is None:
            return False
        if busy:
            self.since = now
            attempt(self._keep)
        return now - self.since >= self.seconds

    def _keep(self) -> None:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "w") as file:
            file.write(str(self.since))


def running_tasks(address: str) -> int:
    """The tasks that the applications of this master's drivers run just now."""
    return sum(attempt(partial(_tasks_of_driver, address, port)) or 0 for port in DRIVER_PAGES)


def _tasks_of_driver(address: str, port: int) -> int:
    tasks = 0
    # No driver has this port, or not any more.
    with contextlib.suppress(OSError):
        for application in joining.page(address, port, "/api/v1/applications"):
            path = f"/api/v1/applications/{application['id']}/executors"
            tasks += sum(one["activeTasks"] for one in joining.page(address, port, path))
    return tasks


def someone_is_logged_in() -> bool:
    """Whether there is a session of Session Manager's, of ssh's or of our own shell."""
    command = ["pgrep", "--full", LOGIN_PROCESSES]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def cluster_is_busy(address: str) -> bool:
    """Whether a task runs, a job has not ended, or somebody is logged in.

    A sign that cannot be had counts as none: else what is broken would keep the cluster for good.
    """
    signs = (_a_job_runs, someone_is_logged_in, lambda: running_tasks(address) > 0)
    return any(attempt(sign) for sign in signs)


def _a_job_runs() -> bool:
    found = account.result_of(jobs.all_jobs)
    return any(about["state"] not in jobs.ENDED for about in found)


def is_ready(role: str, address: str, master: str) -> bool:
    """Whether the master knows this machine (or answers, on the master itself)."""
    try:
        known = joining.workers(master)
    except OSError:
        return False
    return role == "master" or any(worker["host"] == address for worker in known)


def decommission() -> None:
    """Have this machine's worker take no more tasks, and tell the drivers that it goes."""
    command = ["systemctl", "kill", "--signal=SIGPWR", "--kill-whom=main"]
    subprocess.run([*command, "sparknn-worker.service"], check=True)


def wait_until_let_go(address: str) -> bool:
    """Wait until a decommissioned worker has no executor, or time is up; whether it has none.

    An executor ends when its last task has, and when others have what its shuffles have written.
    """
    until = time.monotonic() + LETTING_GO_SECONDS
    while True:
        # One that does not answer is busy, or begins again.
        with contextlib.suppress(OSError):
            if not joining.page(address, configuration.WORKER_PAGE)["executors"]:
                return True
        if time.monotonic() >= until:
            return False
        time.sleep(2)


def end_cluster(services: aws.Services) -> None:
    """Take the workers' group to zero, then shut this master down, for good."""
    services.end_group()
    subprocess.run(["systemctl", "poweroff"], check=True)


class Watch:
    """One machine's watch; `look` is called every few seconds.

    Nothing that goes wrong in one look ends the watch: a service that is away will come back.
    """

    def __init__(self, services: aws.Services) -> None:
        self.services = services
        self.role = services.settings["role"]
        self.address = aws.address()
        # Workers go with their group.
        seconds = services.settings["idle_seconds"] if self.role == "master" else None
        self.idleness = Idleness(seconds, time.monotonic(), LAST_WORK)
        self.ready = self.noticed = False

    def look(self) -> None:
        """See what is new, and do what must be done."""
        if not self.ready:
            attempt(self._report_when_ready)
        if self.role == "worker":
            attempt(self._look_for_spot_notice)
        else:
            report = partial(jobs.report_lost, self.services)
            attempt(partial(account.result_of, report, REPORT_SECONDS))
            attempt(self._look_for_idleness)

    def _report_when_ready(self) -> None:
        if self.role == "master":
            master = self.address
            joining.publish(self.services)
        else:
            # One look, no waiting: a spot notice may come meanwhile.
            master = joining.find_master(self.services, patience=0)
        if is_ready(self.role, self.address, master):
            self.services.report(self.role, "ready")
            self.ready = True

    def _look_for_spot_notice(self) -> None:
        if not self.noticed and aws.metadata("meta-data/spot/instance-action") is not None:
            decommission()
            self.noticed = True

    def _look_for_idleness(self) -> None:
        if self.idleness.over(cluster_is_busy(self.address), time.monotonic()):
            end_cluster(self.services)


def watch(services: aws.Services) -> None:
    """Watch until this machine ends."""
    one = Watch(services)
    while True:
        one.look()
        time.sleep(SPOT_SECONDS)
