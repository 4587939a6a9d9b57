"""What a machine watches while it lives: readiness, spot notices, and on the master idleness."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from . import aws, jobs, joining

# Seconds between two looks; a spot notice comes two minutes ahead.
SPOT_SECONDS = 5
# Where the drivers' pages are: Spark takes the next port when one is in use.
DRIVER_PAGES = range(4040, 4056)
LOGIN_PROCESSES = "ssm-session-worker|sshd.*: .+@|runuser -u spark"


class Idleness:
    """Tells when nothing has happened for long enough.

    Parameters
    ----------
    seconds : how long; None for never.
    now : the time at the start, in seconds of any clock.
    """

    def __init__(self, seconds: float | None, now: float) -> None:
        self.seconds, self.since = seconds, now

    def over(self, busy: bool, now: float) -> bool:
        """Whether the time is up, after a look that found the cluster busy or not."""
        if busy:
            self.since = now
        return self.seconds is not None and now - self.since >= self.seconds


def running_tasks(address: str) -> int:
    """The tasks that the applications of this master's drivers run just now."""
    tasks = 0
    for port in DRIVER_PAGES:
        try:
            applications = joining.page(address, port, "/api/v1/applications")
            for application in applications:
                path = f"/api/v1/applications/{application['id']}/executors"
                tasks += sum(one["activeTasks"] for one in joining.page(address, port, path))
        except OSError:
            continue  # no driver has this port
    return tasks


def someone_is_logged_in() -> bool:
    """Whether there is a session of Session Manager's, of ssh's or of our own shell."""
    command = ["pgrep", "--full", LOGIN_PROCESSES]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def cluster_is_busy(address: str) -> bool:
    """Whether a task runs, a job has not ended, or somebody is logged in."""
    return (
        any(about["state"] not in jobs.ENDED for about in jobs.all_jobs())
        or someone_is_logged_in()
        or running_tasks(address) > 0
    )


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


def end_cluster(services: aws.Services) -> None:
    """Take the workers' group to zero, then shut this master down, for good."""
    services.end_group()
    subprocess.run(["systemctl", "poweroff"], check=True)


def _forgiving(action: Callable[[], object]) -> None:
    """One look must not end the watch: a service that is away will come back."""
    try:
        action()
    except (aws.RequestError, OSError) as error:
        print(f"sparknn-node: {error}", file=sys.stderr, flush=True)


class Watch:
    """One machine's watch; `look` is called every few seconds."""

    def __init__(self, services: aws.Services) -> None:
        self.services = services
        self.role = services.settings["role"]
        self.address = aws.address()
        self.idleness = Idleness(services.settings["idle_seconds"], time.monotonic())
        self.ready = self.noticed = False

    def look(self) -> None:
        """See what is new, and do what must be done."""
        if not self.ready:
            _forgiving(self._report_when_ready)
        if self.role == "worker":
            _forgiving(self._look_for_spot_notice)
        else:
            _forgiving(lambda: jobs.report_lost(self.services))
            _forgiving(self._look_for_idleness)

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
