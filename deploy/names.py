"""How a cluster's resources are called, and by which tags they are known."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from deploy.errors import SettingsError

__all__ = [
    "BUCKET",
    "CLUSTER",
    "LAUNCH",
    "PREFIX",
    "PROFILE",
    "ROLE",
    "Names",
    "as_dict",
    "new_launch_id",
    "tag_list",
]

CLUSTER = "sparknn:cluster"
LAUNCH = "sparknn:launch"
ROLE = "sparknn:role"
BUCKET = "sparknn:bucket"
PREFIX = "sparknn:prefix"
# "own" where launch made role and instance profile, "given" where the user named a profile.
PROFILE = "sparknn:profile"

# 1 to 36 characters: with the region, an IAM role's name stays below its limit of 64.
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,34}[a-z0-9])?")


@dataclass(frozen=True)
class Names:
    """The names of one cluster's resources.

    IAM's names hold for a whole account, the others for a region: hence the region in the role's.
    """

    cluster: str
    region: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.cluster) or "--" in self.cluster:
            raise SettingsError(
                f"{self.cluster!r} cannot name a cluster: use up to 36 lower-case letters, digits "
                "and single hyphens between them"
            )

    @property
    def base(self) -> str:
        """Of the launch template, the security group and the Auto Scaling group."""
        return f"sparknn-{self.cluster}"

    @property
    def role(self) -> str:
        """Of the role and of the instance profile."""
        return f"{self.base}-{self.region}"

    @property
    def secret(self) -> str:
        """Of the parameter with Spark's secret, which is the lock of the name, too."""
        return f"/sparknn/{self.cluster}/secret"


def new_launch_id() -> str:
    """Return what tells this launch from all others."""
    return secrets.token_hex(8)


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Return tags in the form that AWS takes."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def as_dict(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """Return AWS's list of tags as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in tags or []}
