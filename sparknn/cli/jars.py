"""The jars that bring `s3a://` to Spark: from the local Maven repository or from Maven Central,
and the settings that have Parquet written by the committers in them.

This module imports nothing that runs Spark, and `deploy` uses it for the machines that it sets up.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sparknn.errors import DownloadError

__all__ = [
    "CLOUD",
    "COMMITTERS",
    "Versions",
    "artifact",
    "cloud_version",
    "committing",
    "gather",
    "gather_cloud",
    "nearest",
    "published",
]

CENTRAL = "https://repo.maven.apache.org/maven2"
LOCAL = Path.home() / ".m2" / "repository"
CLOUD = "spark-hadoop-cloud"
"""Spark's module with the classes through which Parquet is written by Hadoop's S3A committers."""

COMMITTERS = ("magic", "directory")

# Of the AWS SDK's bundle, 700 MB with a client for each of AWS's services, s3a uses these.
_SERVICES = ("s3", "sts", "kms", "sso", "ssooidc", "signin")
_SERVICE = re.compile(r"software/amazon/awssdk/services/([^/]+)/")


@dataclass(frozen=True)
class Versions:
    """What a Spark consists of, such as Spark 4.3.0 of Scala 2.13 with Hadoop 3.5.0."""

    spark: str
    scala: str
    hadoop: str

    @classmethod
    def installed(cls) -> Versions:
        """Return those of the Spark that spark-submit starts: SPARK_HOME's, else pyspark's.

        Raises DownloadError where it carries no Hadoop of its own.
        """
        home = os.environ.get("SPARK_HOME")
        if not home:
            spec = find_spec("pyspark")
            home = ((spec and spec.submodule_search_locations) or ["."])[0]
        return cls.named([path.name for path in Path(home, "jars").glob("*.jar")], f"{home}/jars")

    @classmethod
    def named(cls, jars: Iterable[str], place: str) -> Versions:
        """Return those that the names of a Spark's jars tell; place: where they are, for errors."""
        names = " ".join(jars)
        core = re.search(r"\bspark-core_([\d.]+)-(\S+?)\.jar", names)
        hadoop = re.search(r"\bhadoop-client-api-(\S+?)\.jar", names)
        if not core or not hadoop:
            raise DownloadError(
                f"{place} has no spark-core and hadoop-client-api: the versions that fit are "
                "those of the Hadoop that this Spark runs with; bring its hadoop-aws by --jars"
            )
        return cls(core[2], core[1], hadoop[1])


def gather(hadoop: str, directory: Path) -> list[Path]:
    """Put s3a's jars for a version of Hadoop in a directory; those there already are kept.

    Raises
    ------
    DownloadError
        When Maven Central does not give one.
    """
    versions = _versions(hadoop)
    found = []
    for group, name, version in (
        ("org.apache.hadoop", "hadoop-aws", hadoop),
        ("software.amazon.awssdk", "bundle", versions["aws-java-sdk-v2.version"]),
        (
            "software.amazon.s3.analyticsaccelerator",
            "analyticsaccelerator-s3",
            versions.get("amazon-s3-analyticsaccelerator-s3.version"),
        ),
    ):
        if version is None:  # Hadoop before 3.4.2 does without
            continue
        slim = name == "bundle"
        jar = directory / f"{name}-{version}{'-slim' * slim}.jar"
        if not jar.exists():
            whole = artifact(group, name, version, "jar", directory)
            (_slim if slim else _copy)(whole, jar)
        found.append(jar)
    for stray in directory.glob("*.download"):
        stray.unlink()
    return found


def gather_cloud(versions: Versions, version: str, directory: Path) -> Path:
    """Put the jar of the committers' classes, of a version of Spark, in a directory."""
    name = f"{CLOUD}_{versions.scala}"
    jar = directory / f"{name}-{version}.jar"
    if not jar.exists():
        _copy(artifact("org.apache.spark", name, version, "jar", directory), jar)
        for stray in directory.glob("*.download"):
            stray.unlink()
    return jar


def cloud_version(versions: Versions) -> str:
    """Return the version of the committers' jar: Spark's own, or the newest published before it."""
    name = f"{CLOUD}_{versions.scala}"
    return nearest(versions.spark, published("org.apache.spark", name))


def committing(committer: str = COMMITTERS[0]) -> dict[str, str]:
    """Return Spark's settings with which Parquet on s3a is written by one of `COMMITTERS`."""
    classes = "org.apache.spark.internal.io.cloud."
    return {
        "spark.sql.sources.commitProtocolClass": f"{classes}PathOutputCommitProtocol",
        "spark.sql.parquet.output.committer.class": f"{classes}BindingParquetOutputCommitter",
        "spark.hadoop.fs.s3a.committer.name": committer,
    }


def published(group: str, name: str) -> list[str]:
    """Return an artifact's versions in Maven Central, oldest first; [] where it does not tell."""
    place = f"{CENTRAL}/{group.replace('.', '/')}/{name}/maven-metadata.xml"
    try:
        with urllib.request.urlopen(place, timeout=10) as answer:
            text = answer.read().decode()
    except OSError:
        return []
    return sorted(re.findall(r"<version>(\d+(?:\.\d+)+)</version>", text), key=_order)


def nearest(wanted: str, versions: list[str]) -> str:
    """Return the version that is wanted, or where there is none the newest before it.

    Where nothing is known, or nothing is older, what is wanted.
    """
    older = [one for one in versions if _order(one) <= _order(wanted)]
    return older[-1] if older else wanted


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _versions(hadoop: str) -> dict[str, str]:
    """The versions that Hadoop's project file names, by the names of its properties."""
    pom = artifact("org.apache.hadoop", "hadoop-project", hadoop, "pom", None).read_text("utf-8")
    return dict(re.findall(r"<([\w.-]+\.version)>([^<$]+)</\1>", pom))


def artifact(group: str, name: str, version: str, kind: str, directory: Path | None) -> Path:
    """A file of a Maven artifact: from the local repository, else from Maven Central.

    Where Maven is installed it does the fetching, since it knows the mirrors and proxies that it
    has been set up for.
    """
    place = f"{group.replace('.', '/')}/{name}/{version}/{name}-{version}.{kind}"
    local = LOCAL / place
    if local.exists():
        return local
    wanted = f"-Dartifact={group}:{name}:{version}:{kind}"
    if shutil.which("mvn"):
        command = ["mvn", "--quiet", "--batch-mode", "dependency:get", wanted, "-Dtransitive=false"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and local.exists():
            return local
    target = local if directory is None else directory / f"{name}-{version}.{kind}.download"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(f"{CENTRAL}/{place}", target)
    except OSError as error:
        raise DownloadError(
            f"{CENTRAL}/{place} cannot be fetched ({error}): try again, or put it in {local}"
        ) from None
    return target


def _fetch(url: str, target: Path) -> None:
    """Download a file, and check that it came whole."""
    with urllib.request.urlopen(f"{url}.sha1", timeout=60) as answer:
        expected = answer.read().decode().split()[0]
    digest = hashlib.sha1(usedforsecurity=False)
    partial = target.with_name(target.name + ".part")
    with urllib.request.urlopen(url, timeout=60) as answer, partial.open("wb") as file:
        for piece in iter(lambda: answer.read(1 << 20), b""):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != expected:
        partial.unlink()
        raise OSError(f"SHA-1 {digest.hexdigest()}, not {expected}")
    partial.replace(target)


def _copy(whole: Path, jar: Path) -> None:
    """Copy a jar so that it has its name only when it is complete."""
    partial = jar.with_name(jar.name + ".part")
    shutil.copyfile(whole, partial)
    partial.replace(jar)


def _slim(whole: Path, jar: Path) -> None:
    """Copy the SDK's bundle without the services that s3a does not use: a fortieth of the size."""
    partial = jar.with_name(jar.name + ".part")
    with (
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for entry in source.infolist():
            service = _SERVICE.search(entry.filename)
            if not service or service.group(1) in _SERVICES:
                target.writestr(entry, source.read(entry))
    partial.replace(jar)
