"""What a launch will make, found out without making anything."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws import identity, instances, network, prices, secret
from deploy.aws.images import Image, InstanceType, find_image, find_types
from deploy.aws.policy import idle_statement, machine_policy
from deploy.aws.session import Aws, codes, translated
from deploy.aws.template import Machine
from deploy.buckets import require_bucket
from deploy.errors import NameInUseError, SettingsError
from deploy.names import BUCKET, CLUSTER, LAUNCH, PREFIX, PROFILE, Names, new_launch_id
from deploy.settings import LaunchSettings

__all__ = ["Plan", "Resource", "make_plan"]


@dataclass(frozen=True)
class Resource:
    """Something that a launch makes; properties: what is worth saying about it."""

    kind: str
    name: str
    properties: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A launch that can begin.

    deadline : when the cluster is to end, in seconds since the epoch, or None.
    """

    settings: LaunchSettings
    names: Names
    launch_id: str
    account: str
    partition: str
    image: Image
    types: dict[str, InstanceType]
    place: network.Place
    deadline: int | None

    @property
    def own_tags(self) -> dict[str, str]:
        """The tags of everything that is made."""
        return {
            **self.settings.tags,
            CLUSTER: self.names.cluster,
            LAUNCH: self.launch_id,
            "Name": self.names.base,
        }

    @property
    def secret_tags(self) -> dict[str, str]:
        """The tags of the secret, by which the cluster is found again."""
        settings = self.settings
        profile = "given" if settings.instance_profile else "own"
        own = {BUCKET: settings.bucket, PREFIX: settings.prefix, PROFILE: profile}
        return {**self.own_tags, **own}

    @property
    def profile(self) -> str:
        """The instance profile of the machines."""
        return self.settings.instance_profile or self.names.role

    @property
    def public_address(self) -> bool:
        """Whether machines get public addresses."""
        return self.settings.public_address and self.place.public

    @property
    def root_gb(self) -> int:
        """The size of the root volume: at least what the image needs."""
        return max(self.settings.root_gb, self.image.root_gb)

    @cached_property
    def policy(self) -> dict[str, Any]:
        """What the machines may do."""
        settings = self.settings
        return machine_policy(
            self.partition,
            self.names.region,
            self.account,
            settings.bucket,
            settings.prefix,
            self.names.secret,
            settings.grants,
        )

    def idle_policy(self, master: str) -> dict[str, Any]:
        """Return what the master alone may do besides; master: its instance id."""
        return idle_statement(
            self.partition, self.names.region, self.account, self.names.base, master
        )

    def machine(self, groups: tuple[str, ...], user_data: str) -> Machine:
        """Return what all machines have in common."""
        settings = self.settings
        return Machine(
            self.image.id,
            self.image.root_device,
            settings.instance_type,
            self.profile,
            (*groups, *settings.security_groups),
            self.public_address,
            self.root_gb,
            settings.volumes,
            settings.volume_gb,
            settings.volume_type,
            settings.key_name,
            settings.placement_group,
            settings.tenancy,
            user_data,
            self.own_tags,
        )

    def price(self) -> prices.Estimate:
        """Return the estimated price an hour."""
        settings = self.settings
        return prices.estimate(
            [settings.master_type] + [settings.instance_type] * settings.workers,
            self.root_gb + settings.volumes * settings.volume_gb,
            self.public_address,
            settings.spot,
        )

    def resources(self) -> list[Resource]:
        """Return everything that the launch makes, in its order."""
        names, settings = self.names, self.settings
        base = f"s3://{settings.bucket}/{settings.prefix}"
        found = [
            Resource("parameter", names.secret, {"type": "SecureString"}),
            Resource("objects", f"{base}/boot/", {"holds": "wheels, Java, jars; goes"}),
            Resource("objects", f"{base}/run/", {"holds": "run state; goes"}),
            Resource("objects", f"{base}/logs/", {"holds": "jobs' output; stays"}),
            Resource("security group", names.base, self._rules()),
        ]
        if not settings.instance_profile:
            policies = {"machine": self.policy}
            if settings.idle is not None:
                policies["idle"] = self.idle_policy("MASTER")
            found.append(Resource("role", names.role, {"policies": policies}))
            found.append(Resource("instance profile", names.role, {"role": names.role}))
        found.append(Resource("launch template", names.base, self._template()))
        found.append(
            Resource(
                "instance", f"{names.base}-master", {"type": settings.master_type, "on": "demand"}
            )
        )
        found.append(
            Resource(
                "auto scaling group",
                names.base,
                {
                    "workers": settings.workers,
                    "type": settings.instance_type,
                    "on": "spot" if settings.spot else "demand",
                    "zone": self.place.zone,
                },
            )
        )
        if self.deadline is not None:
            found.append(Resource("scheduled action", "deadline", {"at": self.deadline, "to": 0}))
        return found

    def _rules(self) -> dict[str, Any]:
        return {
            "vpc": self.place.vpc,
            "admits": ["its members", *(f"SSH from {one}" for one in self.settings.ssh_from)],
        }

    def _template(self) -> dict[str, Any]:
        return {
            "image": self.image.id,
            "subnet": self.place.subnet,
            "public address": self.public_address,
            "metadata service": "version 2 only",
            "volumes": f"{self.root_gb} GB"
            + f" + {self.settings.volume_gb} GB" * self.settings.volumes
            + ", encrypted",
            "on shutdown": "terminate",
            "instance profile": self.profile,
        }


def make_plan(aws: Aws, settings: LaunchSettings) -> Plan:
    """Look up all that a launch needs, and check that it can begin; makes nothing.

    Raises
    ------
    DeployError
        Of the class that the obstacle has.
    """
    names = Names(settings.name, aws.region)
    account = aws.account
    require_bucket(aws, settings.bucket)
    types = find_types(aws, [settings.instance_type, settings.master_type])
    image = find_image(
        aws, settings.ami, settings.system, types[settings.instance_type].architecture
    )
    place = network.find_place(aws, settings.vpc, settings.subnet, settings.zone, list(types))
    network.require_reachable(aws, place, settings.public_address, idle=settings.idle is not None)
    _require_there(aws, settings)
    _require_free(aws, names)
    return Plan(
        settings,
        names,
        new_launch_id(),
        account,
        aws.partition,
        image,
        types,
        place,
        settings.deadline(),
    )


def _require_there(aws: Aws, settings: LaunchSettings) -> None:
    """Raise SettingsError where something that the options name is missing."""
    profile = settings.instance_profile
    if profile and not identity.exists(aws, profile):
        raise SettingsError(
            f"no instance profile {profile}: leave --instance-profile out to make one"
        )
    asked = {
        "--key-name": ("describe_key_pairs", "KeyNames", settings.key_name),
        "--placement-group": ("describe_placement_groups", "GroupNames", settings.placement_group),
    }
    for option, (operation, argument, value) in asked.items():
        if value:
            with translated(option):
                try:
                    getattr(aws.ec2, operation)(**{argument: [value]})
                except ClientError as error:
                    if not codes(error).endswith((".NotFound", ".Unknown")):
                        raise
                    raise SettingsError(f"{option} {value}: none in {aws.region}") from error


def _require_free(aws: Aws, names: Names) -> None:
    """Raise NameInUseError where a cluster of this name is left."""
    if secret.tags(aws, names) is not None or instances.find(aws, names):
        raise NameInUseError(
            f"the name {names.cluster!r} is in use in {names.region}: choose another, or remove "
            f"that cluster with `python -m deploy destroy {names.cluster}`"
        )
