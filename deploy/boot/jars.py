"""The jars of Hadoop's s3a, from the local Maven repository or from Maven Central."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import urllib.request
import zipfile
from pathlib import Path

from deploy.errors import ClosureError

CENTRAL = "https://repo.maven.apache.org/maven2"
LOCAL = Path.home() / ".m2" / "repository"

# Of the AWS SDK's bundle, 700 MB with a client for each of AWS's services, s3a uses these.
_SERVICES = ("s3", "sts", "kms", "sso", "ssooidc", "signin")
_SERVICE = re.compile(r"software/amazon/awssdk/services/([^/]+)/")


def gather(hadoop: str, directory: Path) -> list[Path]:
    """Put the jars for a version of Hadoop in a directory; those there already are kept.

    Raises
    ------
    ClosureError
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
            (_slim if slim else shutil.copyfile)(whole, jar)
        found.append(jar)
    for stray in directory.glob("*.download"):
        stray.unlink()
    return found


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
        raise ClosureError(
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
