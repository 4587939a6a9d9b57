"""What a launch is asked for: the options' values, checked."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.aws.images import SYSTEMS
from deploy.aws.network import check_address
from deploy.aws.policy import Grants, parse_s3
from deploy.errors import SettingsError

__all__ = ["LaunchSettings", "check_conf", "pairs", "requirement_lines", "seconds"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Settings that launch itself makes and that would open what it closes.
CLOSED = re.compile(r"spark\.(authenticate|network\.crypto|io\.encryption|ssl)\b")
# Spark's own word for what it redacts; and values that are none for all that.
SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)
NO_SECRET = re.compile(r"true|false|(?:[a-z]\w*\.){2,}[A-Z][\w$]*")
# Options of Java's and of other programs within a value.
ASSIGNED = re.compile(rf"(?:{SECRET.pattern})[\w.-]*=", re.IGNORECASE)
PREFIX = re.compile(r"[\w.=@+-]+(/[\w.=@+-]+)*")


@dataclass(frozen=True)
class LaunchSettings:
    """A launch as it was asked for.

    Parameters
    ----------
    name : the cluster's name.
    bucket : where boot files, run state and logs go. prefix : under which key; default
        sparknn/NAME.
    workers, min_workers : how many, and how few will do.
    instance_type, master_instance_type : the latter None: the workers' type.
    spot, spot_price : workers on spot; the most to pay an hour for one, in dollars, as text.
    ami, system : the machine image, None: the system's newest.
    vpc, subnet, zone : where; None: the default VPC.
    public_address : whether machines get public addresses where the subnet has a way for them.
    security_groups : ids of further groups. ssh_from : CIDRs. key_name : an SSH key pair.
    root_gb, volumes, volume_gb, volume_type : gigabytes and kind of the volumes.
    placement_group, tenancy : where AWS puts the machines.
    tags : of everything. conf : lines for spark-defaults.conf. requirements : further packages.
    bootstrap : a script to run at first boot. grants : users' data on S3.
    instance_profile : one that is there already, instead of a new one.
    idle : seconds with nothing to do after which the cluster ends; None: never.
    auto_terminate : seconds after which it ends in any case; None: never.
    timeout : seconds to wait for machines.
    endpoints : of services, as the machines see them; for tests.
    """

    name: str
    bucket: str
    prefix: str = ""
    workers: int = 1
    min_workers: int | None = None
    instance_type: str = "m7i.xlarge"
    master_instance_type: str | None = None
    spot: bool = False
    spot_price: str | None = None
    ami: str | None = None
    system: str = SYSTEMS[0]
    vpc: str | None = None
    subnet: str | None = None
    zone: str | None = None
    public_address: bool = True
    security_groups: tuple[str, ...] = ()
    ssh_from: tuple[str, ...] = ()
    key_name: str | None = None
    root_gb: int = 30
    volumes: int = 0
    volume_gb: int = 100
    volume_type: str = "gp3"
    placement_group: str | None = None
    tenancy: str = "default"
    tags: Mapping[str, str] = field(default_factory=dict)
    conf: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    bootstrap: Path | None = None
    grants: Grants = field(default_factory=Grants)
    instance_profile: str | None = None
    idle: int | None = 3600
    auto_terminate: int | None = None
    timeout: int = 900
    endpoints: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prefix:
            object.__setattr__(self, "prefix", f"sparknn/{self.name}")
        if not PREFIX.fullmatch(self.prefix):
            raise SettingsError(
                f"--prefix {self.prefix!r}: use letters, digits and _ . - = @ + between slashes"
            )
        if not 1 <= self.least <= self.workers:
            raise SettingsError(
                f"--min-workers {self.least}: give a number from 1 to --workers, {self.workers}"
            )
        if self.spot_price is not None and not self.spot:
            raise SettingsError("--spot-price is of spot instances: add --spot")
        if bool(self.ssh_from) != bool(self.key_name):
            raise SettingsError("SSH needs both --ssh-from and --key-name; `login` needs neither")
        object.__setattr__(self, "ssh_from", tuple(map(check_address, self.ssh_from)))
        for url in (*self.grants.read, *self.grants.write):
            parse_s3(url)
        self._check_keys()

    def _check_keys(self) -> None:
        for key in self.tags:
            if key.lower().startswith(("aws:", "sparknn:")) or key == "Name":
                raise SettingsError(f"--tag {key}: AWS and sparknn set tags of this name")
        check_conf(self.conf)

    @property
    def least(self) -> int:
        """The number of workers to go on with."""
        return self.workers if self.min_workers is None else self.min_workers

    @property
    def master_type(self) -> str:
        """The master's instance type."""
        return self.master_instance_type or self.instance_type

    def deadline(self) -> int | None:
        """Return when the cluster is to end, counted from now, in seconds since the epoch."""
        return None if self.auto_terminate is None else int(time.time()) + self.auto_terminate


def check_conf(conf: Mapping[str, str]) -> None:
    """Check settings of Spark's that are asked for, at launch or for a job.

    They travel in user data, commands, logs and objects, where a secret would be read.

    Raises
    ------
    SettingsError
        If one is not Spark's, opens what launch closes, or looks like a secret.
    """
    for key, value in conf.items():
        if not key.startswith("spark."):
            raise SettingsError(f"--conf {key}: names of Spark's settings begin with spark.")
        if CLOSED.match(key):
            raise SettingsError(
                f"--conf {key}: authentication and encryption are always on, with a secret made "
                "at launch: leave it out"
            )
        if (SECRET.search(key) and not NO_SECRET.fullmatch(value)) or ASSIGNED.search(value):
            raise SettingsError(
                f"--conf {key} looks like a secret, and options are no place for one: machines "
                "get at S3 by their role (--read, --write), and a job fetches other secrets by "
                "itself, where the role in an --instance-profile of yours lets it"
            )


def seconds(text: str) -> int | None:
    """Return a duration such as 90s, 30m, 8h or 2d in seconds; None for "never".

    Raises
    ------
    SettingsError
        If it is none.
    """
    if text == "never":
        return None
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found or int(found[1]) == 0:
        raise SettingsError(f"{text!r} is no duration: write 90s, 30m, 8h, 2d, or never")
    return int(found[1]) * UNITS[found[2]]


def pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """Return the values of a repeatable option KEY=VALUE as a dictionary.

    Raises
    ------
    SettingsError
        If one has no =, or a key comes twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise SettingsError(f"{option} {text}: write it as KEY=VALUE")
        if key in values:
            raise SettingsError(f"{option} {key} is given twice: leave one out")
        values[key] = value
    return values


def requirement_lines(path: Path | None, spark_version: str | None) -> tuple[str, ...]:
    """Return the lines of a requirements file, and Spark's version as one.

    Raises
    ------
    SettingsError
        If the file cannot be read.
    """
    lines: list[str] = []
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--requirements {path}: {error}") from None
    kept = [line.split(" #")[0].strip() for line in lines]
    if spark_version:
        kept.append(f"pyspark=={spark_version}")
    return tuple(line for line in kept if line and not line.startswith("#"))
