"""What the cluster's floor knows of an application, and what it sends there."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from cluster_helpers import Counting, Slow, in_parts, pack_rdd
from py4j.protocol import Py4JError
from pyspark.cloudpickle import dumps

import sparknn
from sparknn import sweeping
from sparknn.cluster import PACKAGES, Cluster, _lingering, _reporter, _zipped, unless_stopped
from sparknn.errors import ClusterMismatchError
from sparknn.rounds import Rounds


def test_cores_are_counted_whatever_parallelism_the_user_has_set(cluster, monkeypatch):
    monkeypatch.setattr(type(cluster.context), "defaultParallelism", 77)
    assert cluster.cores == 2
    assert cluster.executors == 1


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self):
        self.now, self.pauses = 0.0, []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


@pytest.fixture
def registering(cluster, monkeypatch):
    """A function that awaits executors whose number is, look by look, the one given.

    It returns the pauses in between and the numbers that were not looked at.
    """
    clock = Clock()
    monkeypatch.setattr("sparknn.cluster.time", clock)

    def awaited(counts):
        counts = iter(counts)
        monkeypatch.setattr(Cluster, "executors", property(lambda self: next(counts)))
        cluster._await_executors()
        return clock.pauses, counts

    return awaited


def test_executors_are_awaited_until_their_number_stays_the_same(registering):
    pauses, left = registering([0, 0, 0, 1, 3, 4, 4, 5])
    assert list(left) == [5]
    # A look every tenth of a second until there is one, then a second for each of the others.
    assert pauses == [0.1, 0.1, 0.1, 1.0, 1.0, 1.0]


def test_executors_that_are_there_are_not_waited_for(registering):
    assert registering([2])[0] == []


def test_executors_that_spark_starts_for_waiting_tasks_are_not_waited_for(
    cluster, registering, monkeypatch
):
    conf = cluster.context.getConf().set("spark.dynamicAllocation.enabled", "true")
    monkeypatch.setattr(cluster.context, "getConf", lambda: conf)
    assert registering([0])[0] == []


def test_an_application_without_executors_goes_on_after_half_a_minute(registering, caplog):
    pauses, _ = registering(itertools.repeat(0))
    assert sum(pauses) == pytest.approx(30, abs=0.2)
    assert "no executor has registered in 30 s" in caplog.text


def test_ctrl_c_while_no_executor_has_registered_ends_the_waiting(cluster, registering):
    cluster._interrupted = True
    with pytest.raises(KeyboardInterrupt):
        registering(itertools.repeat(0))


def test_every_executor_is_asked_again_until_it_was_reached(cluster, monkeypatch):
    monkeypatch.setattr(Cluster, "executors", 2)
    assert len(cluster.everywhere(lambda: 1)) == 4 * 2 * 2
    monkeypatch.setattr(Cluster, "executors", 1)
    assert len(cluster.everywhere(lambda: 1)) == 2 * 2


def test_the_look_at_packages_needs_none_of_them():
    task = dumps(_lingering(_reporter(PACKAGES), 0.0))
    code = f"""
import sys, os, pickle
from pyspark import cloudpickle
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('sparknn', 'numpy', 'scipy', 'pandas', 'pyarrow'):
            raise ImportError(name)
for name in [n for n in sys.modules if n.split('.')[0] in ('sparknn', 'numpy', 'pandas')]:
    del sys.modules[name]
sys.meta_path.insert(0, Missing())
os.environ['SPARK_LOCAL_DIRS'] = '/here'
print(pickle.loads({task!r})(0)[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "/here", done.stderr


def test_another_python_on_a_worker_is_named_in_one_line(cluster, monkeypatch):
    def fail(self, task):
        raise Py4JError(
            "[PYTHON_VERSION_MISMATCH] Python in worker has different version: 3.9 than that in "
            "driver: 3.11, PySpark cannot run with different minor versions.\n at java"
        )

    monkeypatch.setattr(Cluster, "everywhere", fail)
    with pytest.raises(ClusterMismatchError, match=r"a worker runs Python 3\.9, the driver 3\.11$"):
        cluster._check_packages()


def test_the_zip_that_is_shipped_has_a_name_of_its_own_contents(tmp_path):
    package = tmp_path / "sparknn"
    package.mkdir()
    (package / "__init__.py").write_text("value = 1")
    first, contents = _zipped(package)
    assert first.startswith(f"sparknn-{sparknn.__version__}-")
    assert _zipped(package)[0] == first
    (tmp_path / first).write_bytes(contents)
    assert zipfile.ZipFile(tmp_path / first).namelist() == ["sparknn/__init__.py"]
    code = "import sparknn; print(sparknn.value)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {first!r}); {code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "1"
    (package / "__init__.py").write_text("value = 2")
    assert _zipped(package)[0] != first


@pytest.mark.parametrize("error", [Py4JError("gone"), AttributeError("_jsc"), OSError("closed")])
def test_what_a_dead_session_raises_ends_no_clean_up(error):
    with unless_stopped("a test"):
        raise error


def slow_to_begin(rows):
    time.sleep(4)
    return rows


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_ctrl_c_twice_leaves_no_file_of_a_task_that_had_yet_to_write(
    cluster, spark, block_files, pause
):
    rows = in_parts(spark, [[[1.0]], [[2.0]]]).mapPartitions(slow_to_begin)
    tracker = spark.sparkContext.statusTracker()

    def interrupt():
        while not tracker.getActiveStageIds():
            time.sleep(0.02)
        time.sleep(1)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(pause)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        try:
            cluster.run(lambda: pack_rdd(cluster, rows, (), partitions=2))
        finally:
            # A fit that cleans up quickly has ended before the second one, which then comes here.
            interrupting.join()
            time.sleep(0.1)
    assert not block_files()
    time.sleep(5)
    assert not block_files()
    assert spark.range(10).count() == 10


def test_ctrl_c_in_the_midst_of_a_slow_round_leaves_no_file_and_a_usable_session(
    cluster, spark, block_files
):
    rows, visiting = in_parts(spark, [[[1.0]], [[2.0]]]), threading.Event()

    def fit(visitor):
        with pack_rdd(cluster, rows, (), partitions=2) as blocks, Rounds(blocks, visitor) as rounds:
            assert block_files()
            visiting.set()
            return rounds.run(np.zeros(1), None, "test").vector.tolist()

    def interrupt():
        visiting.wait(60)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        cluster.run(lambda: fit(Slow()))
    assert time.monotonic() - began < 120, "a cancelled task was waited for"
    assert visiting.is_set()
    assert not block_files()
    assert cluster.run(lambda: fit(Counting())) == [2]


def test_a_sweep_that_finds_files_after_a_failure_looks_again(cluster, monkeypatch):
    found = iter([[True], [True], [False]])
    monkeypatch.setattr(Cluster, "everywhere", lambda self, task: next(found))
    sweeping.sweep(cluster, "sparknn-none", aborted=True)
    assert next(found, None) is None


def test_a_round_sends_each_task_its_own_state_only(cluster, spark):
    rows = in_parts(spark, [[[1.0]], [], [[2.0]]])
    with pack_rdd(cluster, rows, (), partitions=3) as blocks, Rounds(blocks, Counting()) as rounds:
        rounds.states = {0: 10, 2: 20}
        received = rounds._with_states().mapPartitionsWithIndex(
            lambda partition, pairs: [(partition, [state for _, state in pairs])]
        )
        assert received.collect() == [(0, [10]), (1, [None]), (2, [20])]


def test_jobs_run_in_the_python_workers_of_sql_functions(cluster, spark):
    def parents(batches):
        import pyarrow as pa

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"parent": [os.getppid()]})

    def parent(_):
        return os.getppid()

    before = dict(cluster.context.environment)
    sql = spark.range(1, numPartitions=1).mapInArrow(parents, "parent bigint").first().parent
    # Two at a time, as parallel threads of a CrossValidator have it.
    with cluster.described("outer"), Cluster(spark).described("inner"):
        assert cluster.context.parallelize(range(1), 1).map(parent).collect() == [sql]
    assert cluster.context.environment == before
