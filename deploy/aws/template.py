"""The launch template: how every machine of a cluster is made."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, codes, translated
from deploy.errors import NameInUseError
from deploy.names import CLUSTER, LAUNCH, Names, as_dict, tag_list

__all__ = ["Machine", "create", "data", "delete", "find", "interface", "tag_specifications"]

MISSING = {
    "InvalidLaunchTemplateId.NotFound",
    "InvalidLaunchTemplateName.NotFoundException",
    "InvalidLaunchTemplateId.NotFoundException",
}


@dataclass(frozen=True)
class Machine:
    """What all machines of a cluster have in common.

    Parameters
    ----------
    image, root_device : the machine image, and the name of its root volume.
    instance_type : the workers'.
    profile : the instance profile.
    groups : ids of security groups.
    public_address : whether the machines get public IPv4 addresses.
    root_gb : size of the root volume.
    volumes, volume_gb : how many data volumes beside it, and how large.
    volume_type : of all volumes.
    key_name : of an SSH key pair, or None.
    placement_group, tenancy : where AWS puts the machines.
    user_data : the workers' script.
    tags : of machines, volumes and network interfaces.
    """

    image: str
    root_device: str
    instance_type: str
    profile: str
    groups: tuple[str, ...]
    public_address: bool
    root_gb: int
    volumes: int
    volume_gb: int
    volume_type: str
    key_name: str | None
    placement_group: str | None
    tenancy: str
    user_data: str
    tags: dict[str, str]


def data(machine: Machine) -> dict[str, Any]:
    """Return a machine's description as EC2 takes it."""
    # Only what comes after version 1 of the metadata service, and no container behind a hop.
    metadata = {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    described: dict[str, Any] = {
        "ImageId": machine.image,
        "InstanceType": machine.instance_type,
        "IamInstanceProfile": {"Name": machine.profile},
        "MetadataOptions": metadata,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "BlockDeviceMappings": _volumes(machine),
        "NetworkInterfaces": [interface(machine)],
        "UserData": base64.b64encode(machine.user_data.encode()).decode(),
        "TagSpecifications": tag_specifications(machine.tags),
    }
    if machine.key_name:
        described["KeyName"] = machine.key_name
    placement = {}
    if machine.placement_group:
        placement["GroupName"] = machine.placement_group
    if machine.tenancy != "default":
        placement["Tenancy"] = machine.tenancy
    if placement:
        described["Placement"] = placement
    return described


def interface(machine: Machine) -> dict[str, Any]:
    """Return the network interface; the subnet is the group's, or RunInstances' to say."""
    return {
        "DeviceIndex": 0,
        "Groups": list(machine.groups),
        "AssociatePublicIpAddress": machine.public_address,
        "DeleteOnTermination": True,
    }


def tag_specifications(tags: dict[str, str]) -> list[dict[str, Any]]:
    """Return the tags of a machine and of all that comes with it."""
    kinds = ("instance", "volume", "network-interface")
    return [{"ResourceType": kind, "Tags": tag_list(tags)} for kind in kinds]


def _volumes(machine: Machine) -> list[dict[str, Any]]:
    sizes = {machine.root_device: machine.root_gb}
    for number in range(machine.volumes):
        sizes[f"/dev/sd{chr(ord('f') + number)}"] = machine.volume_gb
    return [
        {
            "DeviceName": device,
            "Ebs": {
                "VolumeSize": size,
                "VolumeType": machine.volume_type,
                "Encrypted": True,
                "DeleteOnTermination": True,
            },
        }
        for device, size in sizes.items()
    ]


def create(aws: Aws, names: Names, machine: Machine) -> str:
    """Make the template and return its id."""
    with translated("the launch template"):
        try:
            answer = aws.ec2.create_launch_template(
                LaunchTemplateName=names.base,
                VersionDescription=f"Machines of the sparknn cluster {names.cluster}",
                LaunchTemplateData=data(machine),
                TagSpecifications=[
                    {"ResourceType": "launch-template", "Tags": tag_list(machine.tags)}
                ],
            )
            return answer["LaunchTemplate"]["LaunchTemplateId"]
        except ClientError as error:
            if codes(error) != "InvalidLaunchTemplateName.AlreadyExistsException":
                raise
            for template, tags in find(aws, names).items():
                if tags.get(LAUNCH) == machine.tags[LAUNCH]:
                    return template
            raise NameInUseError(
                f"there is a launch template {names.base} already: remove it with `python -m "
                f"deploy destroy {names.cluster}`, or choose another name"
            ) from error


def find(aws: Aws, names: Names) -> dict[str, dict[str, str]]:
    """Return the ids of the cluster's launch templates, with their tags."""
    with translated("the launch template"):
        return {
            template["LaunchTemplateId"]: as_dict(template.get("Tags"))
            for page in aws.pages(
                "ec2",
                "describe_launch_templates",
                Filters=[{"Name": f"tag:{CLUSTER}", "Values": [names.cluster]}],
            )
            for template in page["LaunchTemplates"]
        }


def delete(aws: Aws, template: str) -> None:
    """Remove a launch template."""
    with translated("the launch template"):
        try:
            aws.ec2.delete_launch_template(LaunchTemplateId=template)
        except ClientError as error:
            if codes(error) not in MISSING:
                raise
