"""What sparknn asks of a Spark application: its size, its packages, and how to stop it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, TypeVar

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.util import inheritable_thread_target

from sparknn import __version__
from sparknn.errors import ClusterMismatchError

__all__ = ["Cluster", "unless_stopped"]

logger = logging.getLogger("sparknn")

T = TypeVar("T")

PACKAGES = ("numpy", "scipy", "pyarrow", "pandas", "threadpoolctl")
"""What the executors must have, in the driver's version."""

STOPPED = (Py4JError, PySparkException, AttributeError, OSError)
"""What calls to a session raise that is stopped, or whose JVM has died."""

REGISTERING_SECONDS = 30
"""How long to wait for the first executor of an application; Spark's own patience, too."""

ENDING_SECONDS = 10
"""How long to wait for cancelled tasks; Spark kills their Python workers after 2 seconds."""

VISITS = 4
"""How often a job is repeated for executors that it has not reached."""

SIMPLIFIED = "SPARK_SIMPLIFIED_TRACEBACK"
"""Environment variable of the Python workers of SQL's functions, and not of RDDs'."""

LOOKED_UP = ("PythonRDD", "PythonUtils", "SimplePythonFunction")
"""Classes of the JVM that pyspark asks for by their bare names in every job."""

LAST_JOBS = 20
"""The jobs of a fit whose tasks may still be running when it fails: its last ones."""


@contextlib.contextmanager
def unless_stopped(purpose: str) -> Iterator[None]:
    """Clean up inside: what a dead session raises is no error then, since all went with it."""
    try:
        yield
    except STOPPED as error:
        logger.debug("%s was left to the end of the session: %r", purpose, error)


class Cluster:
    """A running Spark application, as the fits of this package use it.

    Raises
    ------
    ClusterMismatchError
        If the session is of Spark Connect, or executors lack a package.
    """

    _prepared: ClassVar[set[str]] = set()
    _preparing: ClassVar[threading.Lock] = threading.Lock()
    _sharing: ClassVar[threading.Lock] = threading.Lock()
    _sharers: ClassVar[int] = 0

    def __init__(self, session: SparkSession):
        if not isinstance(getattr(session, "sparkContext", None), SparkContext):
            raise ClusterMismatchError(
                "sparknn trains on RDDs, which Spark Connect does not offer: start a classic "
                "session, SparkSession.builder.master(...)"
            )
        self.session = session
        self.context: SparkContext = session.sparkContext
        self.tag = f"sparknn-{uuid.uuid4().hex}"
        self._interrupted = False
        _look_up(self.context._jvm)

    @cached_property
    def local(self) -> bool:
        master = self.context.master
        return master == "local" or master.startswith("local[")

    @property
    def cores(self) -> int:
        """The tasks that run at a time, over all executors that there are just now.

        As Spark counts for its barrier stages: `defaultParallelism` is the user's to set, and 2
        before any executor has registered. It serves where that count is not to be had, or is 0.
        """
        scala = self.context._jsc.sc()
        slots = 0
        with contextlib.suppress(Py4JError):
            profile = scala.resourceProfileManager().defaultResourceProfile()
            slots = scala.maxNumConcurrentTasks(profile)
        return slots or max(1, self.context.defaultParallelism // self.threads)

    @property
    def executors(self) -> int:
        """The executors that there are just now; in local mode the driver is the only one."""
        if self.local:
            return 1
        # Every block manager but the driver's.
        return self.context._jsc.sc().getExecutorMemoryStatus().size() - 1

    @cached_property
    def threads(self) -> int:
        """The cores that one task has, and so its threads of linear algebra."""
        # Not by `getConf`, which copies all settings: every transform asks.
        return int(self.session.conf.get("spark.task.cpus", "1"))

    @cached_property
    def result_limit(self) -> int:
        """Bytes that the driver accepts as the results of one job."""
        size = self.context.getConf().get("spark.driver.maxResultSize", "1g")
        parse = self.context._jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes
        # Spark's 0 stands for no limit.
        return int(parse(size)) or sys.maxsize

    def prepare(self) -> None:
        """Once an application, bring sparknn to the executors and look at their packages."""
        if self.local:
            return
        self._await_executors()
        with self._preparing:
            if self.context.applicationId not in self._prepared:
                self._ship()
                self._check_packages()
                self._prepared.add(self.context.applicationId)

    def _await_executors(self) -> None:
        """Wait, while there is none, for the first executors to register, and for their number.

        Not where Spark starts executors for waiting tasks only.
        """
        dynamic = self.context.getConf().get("spark.dynamicAllocation.enabled", "false")
        if self.executors or dynamic == "true":
            return
        deadline = time.monotonic() + REGISTERING_SECONDS
        before, pause = 0, 0.1
        while time.monotonic() < deadline:
            self.checkpoint()
            time.sleep(pause)
            now = self.executors
            if now and now == before:
                return
            # The others start at the same time, give or take a moment.
            before, pause = now, 1.0 if now else 0.1
        if not before:
            logger.warning("no executor has registered in %d s", REGISTERING_SECONDS)

    def _ship(self) -> None:
        """Send this package to the executors, unless it came with the application, in a zip."""
        package = Path(__file__).parent
        if not package.is_dir():
            return
        name, contents = _zipped(package)
        # In the application's own folder, because executors that start later fetch it, too.
        archive = os.path.join(self.context._temp_dir, name)
        Path(archive).write_bytes(contents)
        self.context.addPyFile(archive)

    def _check_packages(self) -> None:
        report = _reporter(PACKAGES)
        advice = "install the driver's Python and packages on every worker, and set PYSPARK_PYTHON"
        try:
            found = self.everywhere(report)
        except (Py4JError, PySparkException) as error:
            pythons = re.search(
                r"different version: (\S+) than that in driver: ([\d.]+)", str(error)
            )
            if pythons is None:
                raise
            raise ClusterMismatchError(
                f"{advice} to it: a worker runs Python {pythons[1]}, the driver {pythons[2]}"
            ) from error
        _, wanted = report()
        complaints = []
        for host, versions in sorted(dict(found).items()):
            for package, expected in wanted.items():
                actual = versions.get(package)
                if actual is None:
                    complaints.append(f"{host} has no {package}; the driver has {expected}")
                elif actual.split(".")[:2] != expected.split(".")[:2]:
                    complaints.append(f"{host} has {package} {actual}, the driver {expected}")
        if complaints:
            raise ClusterMismatchError(f"{advice} to it: " + "; ".join(complaints))

    @contextlib.contextmanager
    def described(self, text: str) -> Iterator[None]:
        """Describe the jobs started inside as `text`, in the Spark UI; they share SQL's workers."""
        before = self.context.getLocalProperty("spark.job.description")
        self.context.setJobDescription(text)
        try:
            with self._one_kind_of_workers():
                yield
        finally:
            self.context.setLocalProperty("spark.job.description", before)

    @contextlib.contextmanager
    def _one_kind_of_workers(self) -> Iterator[None]:
        """Have the RDD functions made inside run in the Python workers of SQL's functions.

        Spark starts workers for each environment that functions want, and SQL's have one variable
        more. Two kinds would take twice the time, seconds, to start and import all that is needed,
        and twice the memory.
        """
        with self._sharing:
            self._share(1)
        try:
            yield
        finally:
            with self._sharing:
                self._share(-1)

    def _share(self, change: int) -> None:
        """Count who wants the variable, and set it as long as there is one."""
        Cluster._sharers += change
        others = {k: v for k, v in self.context.environment.items() if k != SIMPLIFIED}
        # A new dictionary each time: another thread may be going through the old one.
        wanted = self._sharers and self._simplified
        self.context.environment = {**others, SIMPLIFIED: "1"} if wanted else others

    @cached_property
    def _simplified(self) -> bool:
        """Whether SQL's functions have the variable, as they do by default."""
        setting = "spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled"
        return self.session.conf.get(setting, "true") == "true"

    def run(self, body: Callable[[], T]) -> T:
        """Call `body` in a thread of its own, so that Ctrl-C can cancel its jobs cleanly.

        An interrupt in the midst of a call to the JVM would garble that connection for good. So
        while the body runs, Ctrl-C raises nothing: it wakes a thread that cancels the body's jobs,
        the body cleans up after itself, and only then is KeyboardInterrupt raised, once.
        """
        outcome: dict = {}
        ended = threading.Event()
        interrupts: SimpleQueue[bool] = SimpleQueue()
        self._interrupted = False

        def target() -> None:
            try:
                self.context.addJobTag(self.tag)
                # A precaution, not seen to matter yet: a JVM thread that is interrupted need not
                # wait for its Python worker, and `settle` can see the thread only.
                self.context.setInterruptOnCancel(False)
                outcome["result"] = body()
            except BaseException as error:
                outcome["error"] = error
            finally:
                ended.set()

        def interrupt() -> None:
            # Nothing that takes a lock: another signal may come in the midst of it.
            self._interrupted = True
            interrupts.put(True)

        with _interrupts_told(interrupt):
            canceller = threading.Thread(target=self._cancel, args=(interrupts, ended))
            canceller.start()
            try:
                threading.Thread(target=inheritable_thread_target(self.session)(target)).start()
                _wait(ended, interrupt)
            finally:
                interrupts.put(False)
                canceller.join()
        if self._interrupted:
            raise KeyboardInterrupt
        if "error" in outcome:
            raise outcome["error"]
        return outcome["result"]

    def _cancel(self, interrupts: SimpleQueue[bool], ended: threading.Event) -> None:
        """Once told to, cancel the fit's jobs, and those that were just about to start."""
        with unless_stopped("cancelling jobs"):
            if interrupts.get():
                while not ended.is_set():
                    self.context.cancelJobsWithTag(self.tag)
                    ended.wait(1)

    def checkpoint(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C came while no job of this fit was running."""
        if self._interrupted:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def spared(self) -> Iterator[None]:
        """Let the jobs started inside go on after Ctrl-C: they clean up."""
        tagged = self.tag in self.context.getJobTags()
        if tagged:
            self.context.removeJobTag(self.tag)
        try:
            yield
        finally:
            if tagged:
                self.context.addJobTag(self.tag)

    def settle(self) -> None:
        """Wait, for some seconds at the most, until the tasks of cancelled jobs have ended."""
        deadline = time.monotonic() + ENDING_SECONDS
        while self._running():
            if time.monotonic() > deadline:
                logger.debug("tasks still run %d s after their job has ended", ENDING_SECONDS)
                return
            time.sleep(0.05)

    def _running(self) -> bool:
        """Return whether tasks of this fit run, be it for a job that has ended."""
        tracker = self.context.statusTracker()
        jobs = self.context._jsc.sc().statusTracker().getJobIdsForTag(self.tag)
        for job in sorted(jobs)[-LAST_JOBS:]:
            described = tracker.getJobInfo(job)
            if described is None:
                continue
            stages = [tracker.getStageInfo(stage) for stage in described.stageIds]
            if described.status == "RUNNING" or any(s and s.numActiveTasks for s in stages):
                return True
        return False

    def everywhere(self, task: Callable[[], T]) -> list[T]:
        """Call `task` on every executor, several times on most, and return what it gave.

        `task` is sent by value if it is defined in a function, and then needs no more on the
        executor than it imports itself. An executor whose cores stay busy may be left out.
        """
        reached: set[str] = set()
        results: list[T] = []
        for attempt in range(VISITS):
            tasks = 2 * self.cores
            numbers = self.context.parallelize(range(tasks), tasks)
            for executor, result in numbers.map(_lingering(task, 0.01 * 4**attempt)).collect():
                reached.add(executor)
                results.append(result)
            if len(reached) >= self.executors:
                return results
        logger.debug("reached %d executors of %d", len(reached), self.executors)
        return results


def _look_up(jvm: Any) -> None:
    """Have py4j's view of the JVM remember classes, which it looks for a millisecond each time."""
    for name in LOOKED_UP:
        if name not in vars(jvm):
            with contextlib.suppress(Py4JError):
                setattr(jvm, name, getattr(jvm, name))


def _lingering(task: Callable[[], T], seconds: float) -> Callable[[int], tuple[str, T]]:
    """Return `task`, made to last a moment, so that no core does the work of all the others.

    With its result comes what tells its executor from others: the directories of its own.
    """

    def run(_: int) -> tuple[str, T]:
        result = task()
        time.sleep(seconds)
        return os.environ["SPARK_LOCAL_DIRS"], result

    return run


def _wait(ended: threading.Event, interrupt: Callable[[], None]) -> None:
    """Wait for the end, also through interrupts that a handler of the user's own raises.

    Not by Thread.join, which takes a thread for ended once it was interrupted (CPython before
    3.13).
    """
    while not ended.is_set():
        try:
            # For a while only: a signal that another thread received does not wake this one.
            ended.wait(0.2)
        except KeyboardInterrupt:
            interrupt()


@contextlib.contextmanager
def _interrupts_told(interrupt: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C call `interrupt` inside, where it would otherwise raise KeyboardInterrupt.

    That is Python's usual handler, and Spark's, which calls the JVM first, so that a second
    Ctrl-C would come in the midst of that. A handler of the user's own stays.
    """
    usual = signal.getsignal(signal.SIGINT)
    raising = usual is signal.default_int_handler or (
        callable(usual) and usual.__module__.startswith("pyspark.")
    )
    if not raising or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: interrupt())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _zipped(package: Path) -> tuple[str, bytes]:
    """Return the package's Python files as a zip archive, and a name that only these have."""
    buffer, checksum = io.BytesIO(), 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            name = str(Path(package.name) / file.relative_to(package))
            contents = file.read_bytes()
            checksum = zlib.crc32(contents, zlib.crc32(name.encode(), checksum))
            archive.writestr(name, contents)
    return f"{package.name}-{__version__}-{checksum:08x}.zip", buffer.getvalue()


def _reporter(packages: tuple[str, ...]) -> Callable[[], tuple[str, dict[str, str]]]:
    """Return a function that tells its host and the versions there, of Python and packages.

    It is sent by value and imports the standard library only: what it looks for may be missing,
    and then sparknn cannot be imported.
    """

    def report() -> tuple[str, dict[str, str]]:
        import contextlib
        import platform
        import socket
        from importlib.metadata import PackageNotFoundError, version

        found = {"Python": platform.python_version()}
        for package in packages:
            with contextlib.suppress(PackageNotFoundError):
                found[package] = version(package)
        return socket.gethostname(), found

    return report
