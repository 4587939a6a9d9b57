"""`python -m sparknn.cli.s3`: the options that bring s3a to the Spark that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sparknn.cli import jars, s3
from sparknn.cli.jars import Versions, nearest
from sparknn.cli.paths import explained


def home(path: Path, spark: str = "4.1.0", hadoop: str = "3.4.2") -> Path:
    """A Spark as far as its jars' names go."""
    (path / "jars").mkdir(parents=True)
    for name in (f"spark-core_2.13-{spark}", f"hadoop-client-api-{hadoop}", "hadoop-shaded-x-1"):
        (path / "jars" / f"{name}.jar").touch()
    return path


@pytest.fixture
def spark_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARK_HOME", str(home(tmp_path / "spark")))
    monkeypatch.setattr(jars, "published", lambda group, name: ["4.0.1", "4.1.0", "4.1.2"])
    return tmp_path


def printed(*options: str) -> dict[str, list[str]]:
    """The options that are printed, each with its values."""
    done = CliRunner().invoke(s3.main, options)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("\n") == 1
    words, found = done.stdout.split(), {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        found.setdefault(name, []).append(value)
    return found


def test_the_versions_are_those_of_the_spark_that_would_start(spark_home: Path) -> None:
    found = printed()
    assert found["--packages"] == [
        "org.apache.hadoop:hadoop-aws:3.4.2,org.apache.spark:spark-hadoop-cloud_2.13:4.1.0"
    ]
    assert "org.apache.hadoop:hadoop-client-runtime" in found["--exclude-packages"][0].split(",")
    committer = "spark.sql.parquet.output.committer.class=org.apache.spark.internal.io.cloud."
    assert committer + "BindingParquetOutputCommitter" in found["--conf"]
    assert "spark.hadoop.fs.s3a.committer.name=magic" in found["--conf"]


def test_pyspark_itself_tells_its_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyspark

    monkeypatch.delenv("SPARK_HOME", raising=False)
    found = Versions.installed()
    assert (found.spark, found.scala) == (pyspark.__version__, "2.13")
    assert (Path(pyspark.__file__).parent / f"jars/hadoop-client-api-{found.hadoop}.jar").exists()


def test_a_version_that_is_not_published_gives_way_to_the_newest_before_it(
    spark_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_HOME", str(home(spark_home / "newer", "4.1.10")))
    done = CliRunner().invoke(s3.main, [])
    assert "spark-hadoop-cloud_2.13:4.1.2 " in done.stdout
    assert "4.1.10 is not in Maven Central: taking 4.1.2" in done.stderr


@pytest.mark.parametrize(
    ("wanted", "known", "chosen"),
    [("4.3.0", [], "4.3.0"), ("4.0.0", ["4.0.1"], "4.0.0"), ("4.10.0", ["4.9.1"], "4.9.1")],
)
def test_where_nothing_before_is_known_the_version_is_sparks(wanted, known, chosen) -> None:
    assert nearest(wanted, known) == chosen


def test_another_server_is_named_with_all_that_it_needs(spark_home: Path) -> None:
    settings = printed("--endpoint", "http://minio:9000", "--committer", "directory")["--conf"]
    s3a = "spark.hadoop.fs.s3a."
    for one in (
        "endpoint=http://minio:9000",
        "path.style.access=true",
        "endpoint.region=us-east-1",
        "committer.name=directory",
    ):
        assert s3a + one in settings


def test_jars_come_from_the_directory_that_fetch_filled(
    spark_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pom = "<aws-java-sdk-v2.version>2.29.52</aws-java-sdk-v2.version>"
    whole = spark_home / "any"
    whole.write_text(pom)
    monkeypatch.setattr(jars, "artifact", lambda *about: whole)
    monkeypatch.setattr(jars, "_slim", jars._copy)
    place = spark_home / "cache"
    missing = CliRunner().invoke(s3.main, ["--jars", str(place)])
    assert missing.exit_code == 2 and missing.stdout == ""
    assert f"python -m sparknn.cli.s3 fetch {place}" in missing.stderr
    assert CliRunner().invoke(s3.main, ["fetch", str(place)]).exit_code == 0
    found = printed("--jars", str(place))
    assert "--packages" not in found
    assert [Path(jar).name for jar in found["--jars"][0].split(",")] == [
        "bundle-2.29.52-slim.jar",
        "hadoop-aws-3.4.2.jar",
        "spark-hadoop-cloud_2.13-4.1.0.jar",
    ]


def test_a_directory_that_a_shell_would_take_apart_is_refused(spark_home: Path) -> None:
    done = CliRunner().invoke(s3.main, ["--jars", str(spark_home / "my jars")])
    assert done.exit_code == 2 and "my jars" in done.stderr


def test_a_spark_without_hadoop_is_told_what_to_do(spark_home: Path, monkeypatch) -> None:
    (spark_home / "bare" / "jars").mkdir(parents=True)
    monkeypatch.setenv("SPARK_HOME", str(spark_home / "bare"))
    done = CliRunner().invoke(s3.main, [])
    assert done.exit_code == 2 and "hadoop-aws by --jars" in done.stderr


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("o.a.h.fs.s3a.X: software.amazon.awssdk ... InvalidAccessKeyId", "not accept the"),
        ("org.apache.hadoop.fs.s3a: Unable to execute HTTP request", "does not answer"),
        ("org.apache.hadoop.fs.s3a.AWSNoResponseException: none", None),
        ("java.nio.file.AccessDeniedException: /root/x", None),
    ],
)
def test_only_errors_of_s3_are_explained_as_such(text: str, meaning: str | None) -> None:
    found = explained(text)
    assert (found is None) if meaning is None else meaning in found
