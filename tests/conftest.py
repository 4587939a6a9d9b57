"""What the tests share: one local Spark session, and a small data set on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jvm
import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from sparknn.training import in_task

TESTS = Path(__file__).resolve().parent

# Scripts and jobs of the tests inherit this.
os.environ["SPARK_SUBMIT_OPTS"] = jvm.options()


LONGEST = "test_deploy_hosts.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest and waits most: others run beside it."""
    items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A local session with two cores, whose block files lie in a directory of its own."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.pop("SPARK_LOCAL_DIRS", None)
    # The workers find sparknn and the tests' own helpers, installed or not.
    known = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS), *known])
    session = (
        SparkSession.builder.master("local[2]")
        .appName("sparknn tests")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.python.sql.dataFrameDebugging.enabled", "false")
        .config("spark.python.unix.domain.socket.enabled", "true")
        .config("spark.driver.memory", "2g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.local.dir", str(tmp_path_factory.mktemp("spark-local")))
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture
def block_files(spark: SparkSession) -> Callable[[], list[Path]]:
    """A function that lists what sparknn has in the session's local directories just now."""
    local = Path(spark.conf.get("spark.local.dir"))

    def files() -> list[Path]:
        folders = local.glob("**/sparknn-*")
        return sorted(path for folder in folders for path in (folder, *folder.rglob("*")))

    return files


@pytest.fixture
def in_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each round a job of Spark's, as where rows are too many for fits in tasks."""
    monkeypatch.setattr(in_task, "MOST_BYTES", -1)


@pytest.fixture(scope="session")
def digits_arrays() -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits: features, (1797, 64) in [0, 1], and labels, (1797,)."""
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    return features / 16, labels.astype(np.float64)


@pytest.fixture(scope="session")
def digits(spark: SparkSession, digits_arrays: tuple[np.ndarray, np.ndarray]) -> DataFrame:
    """The handwritten digits as a DataFrame of `features` and `label` in 4 partitions."""
    from pyspark.ml.linalg import Vectors

    pairs = [(Vectors.dense(x), float(y)) for x, y in zip(*digits_arrays, strict=True)]
    return spark.createDataFrame(
        spark.sparkContext.parallelize(pairs, 4), ["features", "label"]
    ).cache()


@pytest.fixture
def cluster(spark: SparkSession):
    """The session as sparknn's lower floors know it."""
    from sparknn.cluster import Cluster

    return Cluster(spark)


@pytest.fixture(scope="session")
def digits_file(
    digits_arrays: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Some of the digits in a file, for Spark applications in processes of their own."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    features, labels = digits_arrays
    np.savez(path, features=features[:1000], labels=labels[:1000])
    return path


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The URL of a stand-in for AWS, moto's server, that serves all tests."""
    pytest.importorskip("moto")
    from deploy_helpers import moto_server

    with moto_server() as url:
        yield url


@pytest.fixture
def aws(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An account in that stand-in, empty but for a network and a bucket."""
    from deploy_helpers import fresh_account

    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "for the stand-in")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("deploy.destroy.PAUSE_SECONDS", 0)
    return fresh_account(endpoint)
