"""What goes wrong on a cluster is mended, or ends in one clear error and leaves nothing behind."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from cluster_helpers import mistaken, run_script, start_script

from sparknn import SGD, Network, train
from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.cluster import Cluster
from sparknn.errors import ClusterMismatchError, DivergenceError, InvalidDataError


@pytest.mark.parametrize("solver", ["l-bfgs", "sgd"])
def test_no_file_is_left_after_a_fit(digits, block_files, solver):
    for estimator in (MultilayerPerceptronClassifier(layers=[64, 10]), LogisticRegression()):
        model = estimator.setParams(solver=solver, maxIter=2).fit(digits)
        assert model.training.iterations == 2
        assert not block_files()


def test_no_file_is_left_after_a_fit_that_failed(spark, digits, block_files):
    diverging = MultilayerPerceptronClassifier(
        layers=[64, 9, 10], activation="relu", solver="sgd", stepSize=1e30, blockSize=16
    )
    with pytest.raises(DivergenceError, match="stepSize"):
        diverging.fit(digits)
    assert not block_files()
    with pytest.raises(InvalidDataError, match="a label above 2"):
        MultilayerPerceptronClassifier(layers=[64, 3]).fit(digits)
    assert not block_files()
    pairs = spark.sparkContext.parallelize([(0.0, [1.0])] * 100, 2)
    with pytest.raises(Exception, match="a schedule's own mistake"):
        train(Network([1, 2]), pairs, SGD(mistaken), epochs=1)
    assert not block_files()


def test_a_fit_hands_back_results_and_errors_as_they_are(cluster):
    assert cluster.run(lambda: 7) == 7
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        cluster.run(lambda: (_ for _ in ()).throw(error))
    assert caught.value is error
    assert not cluster.context.getJobTags()


def test_ctrl_c_cancels_the_jobs_and_waits_until_the_fit_has_cleaned_up(cluster):
    began, cleaned = threading.Event(), threading.Event()

    def body():
        rows = cluster.context.parallelize(range(2), 2)
        began.set()
        try:
            rows.map(lambda row: time.sleep(60)).collect()
        finally:
            time.sleep(1)
            cleaned.set()

    def interrupt():
        began.wait()
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        cluster.run(body)
    in_time = cleaned.is_set()
    assert cleaned.wait(30)
    assert in_time


def test_a_fit_that_was_interrupted_between_two_jobs_starts_no_other(cluster):
    cluster.checkpoint()
    cluster._interrupted = True
    with pytest.raises(KeyboardInterrupt):
        cluster.checkpoint()


def wait_for_block(local_dir: Path) -> None:
    """Return when the script has begun to write a block."""
    for _ in range(1200):
        if any(path.is_file() for path in local_dir.glob("*/sparknn-*/*")):
            return
        time.sleep(0.1)
    raise AssertionError("no block was ever written")


@pytest.fixture(scope="module")
def interrupted(digits_file, tmp_path_factory) -> dict:
    """What a script reports that got Ctrl-C while it trained, and again while it packed."""
    local_dir = tmp_path_factory.mktemp("interrupted")
    process = start_script("interrupted.py", digits_file, local_dir)
    try:
        for line in process.stdout:
            if line.startswith("{"):
                return json.loads(line)
            wait_for_block(local_dir)
            time.sleep(1)
            # A terminal sends it to all: the driver, its JVM and the Python workers.
            os.killpg(process.pid, signal.SIGINT)
        raise AssertionError(process.stderr.read()[-3000:])
    finally:
        process.communicate(timeout=60)


@pytest.mark.cluster
@pytest.mark.parametrize("part", ["training", "packing"])
def test_ctrl_c_ends_a_fit_and_leaves_the_session_usable(interrupted, part):
    assert part in interrupted, "no KeyboardInterrupt came"
    assert interrupted[f"after {part}"] == interrupted["before"]
    assert interrupted["jobs"] == []
    assert interrupted["files"] == []


@pytest.mark.cluster
@pytest.mark.parametrize("part", ["training", "packing"])
def test_ctrl_c_leaves_no_file_even_for_a_moment(interrupted, part):
    assert interrupted[part] == []


@pytest.mark.cluster
@pytest.mark.parametrize("kind", ["sgd", "l-bfgs", "dbn"])
def test_an_executor_killed_in_the_midst_of_a_fit_changes_no_bit(digits_file, tmp_path, kind):
    report = run_script("killed_executor.py", kind, digits_file, tmp_path)
    assert len(report["before"]) == 2
    assert report["before"][0] not in report["after"]
    assert report["files before"]
    assert report["disturbed"] == report["undisturbed"]
    assert report["files after"] == []


def test_a_session_of_spark_connect_is_refused_in_one_line():
    class Session:
        """What pyspark.sql.connect's session does when it is asked for its context."""

        @property
        def sparkContext(self):
            from pyspark.errors import PySparkAttributeError

            raise PySparkAttributeError(
                errorClass="JVM_ATTRIBUTE_NOT_SUPPORTED", messageParameters={"attr_name": "x"}
            )

    with pytest.raises(ClusterMismatchError) as caught:
        Cluster(Session())
    assert "Spark Connect" in str(caught.value)
    assert "SparkSession.builder.master(" in str(caught.value)
    assert "\n" not in str(caught.value)
