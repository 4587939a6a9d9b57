"""What sparknn asks of a Spark application: its size, its packages, and how to stop it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, TypeVar

from pyspark import SparkContext
from pyspark.sql import SparkSession
from pyspark.util import inheritable_thread_target

from sparknn.errors import ClusterMismatchError

__all__ = ["Cluster"]

T = TypeVar("T")

PACKAGES = ("numpy", "scipy", "pyarrow", "pandas", "threadpoolctl")
"""What the executors must have, in the driver's version."""


class Cluster:
    """A running Spark application, as the fits of this package use it.

    Raises
    ------
    ClusterMismatchError
        If the session is of Spark Connect, or executors lack a package.
    """

    _prepared: ClassVar[set[str]] = set()
    _preparing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, session: SparkSession):
        if not isinstance(getattr(session, "sparkContext", None), SparkContext):
            raise ClusterMismatchError(
                "sparknn trains on RDDs, which Spark Connect does not offer: start a classic "
                "session, SparkSession.builder.master(...)"
            )
        self.session = session
        self.context: SparkContext = session.sparkContext
        self._cancelled = threading.Event()

    @cached_property
    def local(self) -> bool:
        master = self.context.master
        return master == "local" or master.startswith("local[")

    @property
    def cores(self) -> int:
        """The tasks that run at a time, over all executors."""
        return max(1, self.context.defaultParallelism // self.threads)

    @cached_property
    def threads(self) -> int:
        """The cores that one task has, and so its threads of linear algebra."""
        return int(self.context.getConf().get("spark.task.cpus", "1"))

    @cached_property
    def result_limit(self) -> int:
        """Bytes that the driver accepts as the results of one job."""
        size = self.context.getConf().get("spark.driver.maxResultSize", "1g")
        parse = self.context._jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes
        # Spark's 0 stands for no limit.
        return int(parse(size)) or sys.maxsize

    def prepare(self) -> None:
        """Once an application, bring sparknn to the executors and look at their packages."""
        with self._preparing:
            if not self.local and self.context.applicationId not in self._prepared:
                self._ship()
                self._check_packages()
                self._prepared.add(self.context.applicationId)

    def _ship(self) -> None:
        """Send this package to the executors, unless it came with the application, in a zip."""
        package = Path(__file__).parent
        if not package.is_dir():
            return
        # In the application's own folder, because executors that start later fetch it, too.
        archive = os.path.join(self.context._temp_dir, f"{package.name}.zip")
        Path(archive).write_bytes(_zipped(package))
        self.context.addPyFile(archive)

    def _check_packages(self) -> None:
        wanted = _versions()
        tasks = 2 * self.context.defaultParallelism
        found = self.context.parallelize(range(tasks), tasks).map(_host_versions).collect()
        complaints = []
        for host, versions in sorted(dict(found).items()):
            for package, expected in wanted.items():
                actual = versions.get(package)
                if actual is None:
                    complaints.append(f"{host} has no {package}; the driver has {expected}")
                elif actual.split(".")[:2] != expected.split(".")[:2]:
                    complaints.append(f"{host} has {package} {actual}, the driver {expected}")
        if complaints:
            raise ClusterMismatchError(
                "install the driver's Python and packages on every worker, and set PYSPARK_PYTHON "
                "to it: " + "; ".join(complaints)
            )

    @contextlib.contextmanager
    def described(self, text: str) -> Iterator[None]:
        """Describe the jobs started inside as `text`, in the Spark UI."""
        before = self.context.getLocalProperty("spark.job.description")
        self.context.setJobDescription(text)
        try:
            yield
        finally:
            self.context.setLocalProperty("spark.job.description", before)

    def run(self, body: Callable[[], T]) -> T:
        """Call `body` in a thread of its own, so that Ctrl-C can cancel its jobs cleanly.

        An interrupt in the midst of a call to the JVM would garble that connection for good. Here
        it reaches a thread that merely waits: the body's jobs are cancelled, the body cleans up
        after itself, and only then is KeyboardInterrupt raised again.
        """
        tag = f"sparknn-{uuid.uuid4().hex}"
        outcome: dict = {}
        ended = threading.Event()

        def target() -> None:
            try:
                self.context.addJobTag(tag)
                self.context.setInterruptOnCancel(True)
                outcome["result"] = body()
            except BaseException as error:
                outcome["error"] = error
            finally:
                ended.set()

        thread = threading.Thread(target=inheritable_thread_target(self.session)(target))
        thread.start()
        if self._wait(ended, tag):
            raise KeyboardInterrupt
        if "error" in outcome:
            raise outcome["error"]
        return outcome["result"]

    def _wait(self, ended: threading.Event, tag: str) -> bool:
        """Wait for the end; on Ctrl-C cancel the jobs and wait on. Return whether it came.

        Not by Thread.join, which takes a thread for ended once it was interrupted (CPython
        before 3.13).
        """
        while not ended.is_set():
            try:
                ended.wait()
            except KeyboardInterrupt:
                self._cancelled.set()
                self.context.cancelJobsWithTag(tag)
        return self._cancelled.is_set()

    def checkpoint(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C came while no job of this fit was running."""
        if self._cancelled.is_set():
            raise KeyboardInterrupt

    def everywhere(self, task: Callable[[int], T]) -> list[T]:
        """Call `task` a few times on every executor that has a free core."""
        tasks = 2 * self.context.defaultParallelism
        return self.context.parallelize(range(tasks), tasks).map(_lingering(task)).collect()


def _lingering(task: Callable[[int], T]) -> Callable[[int], T]:
    """Return `task`, made to last a moment, so that no core does the work of all the others."""

    def run(index: int) -> T:
        result = task(index)
        time.sleep(0.01)
        return result

    return run


def _zipped(package: Path) -> bytes:
    """Return the package's Python files as a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            archive.write(file, Path(package.name) / file.relative_to(package))
    return buffer.getvalue()


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError

    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _host_versions(_: int) -> tuple[str, dict[str, str]]:
    import socket

    return socket.gethostname(), _versions()
