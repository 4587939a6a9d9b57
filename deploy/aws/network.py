"""Where the machines go: the subnet, whether they reach from there what they need, the firewall."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, codes, translated, until
from deploy.errors import CapacityError, NameInUseError, NotReachableError, SettingsError
from deploy.names import CLUSTER, LAUNCH, Names, as_dict, tag_list

__all__ = [
    "Place",
    "check_address",
    "create_group",
    "delete_group",
    "find_group",
    "find_place",
    "ingress",
    "require_reachable",
]


@dataclass(frozen=True)
class Place:
    """A subnet; public: its default route leads to an internet gateway."""

    vpc: str
    subnet: str
    zone: str
    public: bool


def find_place(
    aws: Aws, vpc: str | None, subnet: str | None, zone: str | None, types: Collection[str]
) -> Place:
    """Return the subnet to launch in.

    Parameters
    ----------
    vpc, subnet, zone : ids and a name, or None: the default VPC, and its first subnet in a zone
        that offers the instance types.
    types : the instance types.

    Raises
    ------
    NotReachableError
        If there is no such subnet.
    """
    with translated("subnets"):
        if subnet:
            found = _subnets(aws, {"subnet-id": subnet})
        else:
            found = _subnets(aws, {"vpc-id": vpc} if vpc else {"default-for-az": "true"})
    if vpc:
        found = [one for one in found if one["VpcId"] == vpc]
    if zone:
        found = [one for one in found if one["AvailabilityZone"] == zone]
    if not found:
        where = " and ".join(filter(None, [vpc, subnet, zone])) or "a default VPC"
        raise NotReachableError(
            f"{aws.region} has no subnet for {where}: name one with --vpc, --subnet or --zone, or "
            "make a default VPC with `aws ec2 create-default-vpc`"
        )
    offering = _zones(aws, types)
    found = [one for one in found if one["AvailabilityZone"] in offering]
    if not found:
        raise CapacityError(
            f"{' and '.join(types)}: not offered in the zone of that subnet; choose one in "
            f"{', '.join(sorted(offering)) or 'another region'}"
        )
    chosen = min(found, key=lambda one: (one["AvailabilityZone"], one["SubnetId"]))
    gateway = _default_route(aws, chosen)
    return Place(
        chosen["VpcId"],
        chosen["SubnetId"],
        chosen["AvailabilityZone"],
        gateway.startswith("igw-"),
    )


def _subnets(aws: Aws, filters: dict[str, str]) -> list[dict[str, Any]]:
    wanted = [{"Name": key, "Values": [value]} for key, value in filters.items()]
    return [
        subnet
        for page in aws.pages("ec2", "describe_subnets", Filters=wanted)
        for subnet in page["Subnets"]
    ]


def _zones(aws: Aws, types: Collection[str]) -> set[str]:
    """Return the zones that offer all of the instance types."""
    with translated("instance types' zones"):
        pages = aws.pages(
            "ec2",
            "describe_instance_type_offerings",
            LocationType="availability-zone",
            Filters=[{"Name": "instance-type", "Values": sorted(set(types))}],
        )
        offers = [offer for page in pages for offer in page["InstanceTypeOfferings"]]
    zones: dict[str, set[str]] = {}
    for offer in offers:
        zones.setdefault(offer["Location"], set()).add(offer["InstanceType"])
    return {zone for zone, offered in zones.items() if offered >= set(types)}


def _route_table(aws: Aws, subnet: dict[str, Any]) -> dict[str, Any]:
    """Return the subnet's route table: its own, else the VPC's main one."""
    with translated("routes"):
        tables = [
            table
            for page in aws.pages(
                "ec2",
                "describe_route_tables",
                Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}],
            )
            for table in page["RouteTables"]
        ]
    main: dict[str, Any] = {}
    for table in tables:
        for association in table.get("Associations", []):
            if association.get("SubnetId") == subnet["SubnetId"]:
                return table
            if association.get("Main"):
                main = table
    return main


def _default_route(aws: Aws, subnet: dict[str, Any]) -> str:
    """Return what the subnet's route to everywhere leads to; "" where there is none."""
    for route in _route_table(aws, subnet).get("Routes", []):
        if route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State") != "blackhole":
            for key in ("GatewayId", "NatGatewayId", "TransitGatewayId", "NetworkInterfaceId"):
                if route.get(key):
                    return route[key]
    return ""


def require_reachable(aws: Aws, place: Place, public_address: bool, idle: bool) -> None:
    """Raise NotReachableError where machines in a subnet would not reach what they need.

    public_address : whether they get one. idle : whether the master must reach Auto Scaling.
    """
    subnet = {"VpcId": place.vpc, "SubnetId": place.subnet}
    table = _route_table(aws, subnet)
    way = _default_route(aws, subnet)
    if way and (public_address or not place.public):
        return
    with translated("VPC endpoints"):
        found = [
            endpoint
            for page in aws.pages(
                "ec2",
                "describe_vpc_endpoints",
                Filters=[{"Name": "vpc-id", "Values": [place.vpc]}],
            )
            for endpoint in page["VpcEndpoints"]
        ]
    served = {
        endpoint["ServiceName"].rsplit(".", 1)[-1]
        for endpoint in found
        if endpoint.get("VpcEndpointType") != "Gateway"
        or table.get("RouteTableId") in endpoint.get("RouteTableIds", [])
    }
    needed = ["s3", "ssm", "ssmmessages"] + (["autoscaling"] if idle else [])
    missing = [service for service in needed if service not in served]
    if missing:
        names = ", ".join(f"com.amazonaws.{aws.region}.{service}" for service in missing)
        raise NotReachableError(
            f"{place.subnet} has no way out, and no endpoint for {names}: make these endpoints, "
            "or a NAT gateway, or choose another --subnet"
        )


def create_group(
    aws: Aws, names: Names, vpc: str, ssh_from: tuple[str, ...], tags: dict[str, str]
) -> str:
    """Make the security group and return its id.

    It admits its own members, and SSH from the addresses asked for.
    """
    with translated("the security group"):
        try:
            group = aws.ec2.create_security_group(
                GroupName=names.base,
                Description=f"Members of the sparknn cluster {names.cluster}",
                VpcId=vpc,
                TagSpecifications=[
                    {"ResourceType": "security-group", "Tags": tag_list(tags)},
                ],
            )["GroupId"]
        except ClientError as error:
            if codes(error) != "InvalidGroup.Duplicate":
                raise
            there = {tags_[LAUNCH]: one for one, tags_ in find_group(aws, names).items()}
            if tags[LAUNCH] not in there:
                raise NameInUseError(
                    f"there is a security group {names.base} already in {vpc}: remove it, or "
                    "choose another name"
                ) from error
            group = there[tags[LAUNCH]]
        try:
            aws.ec2.authorize_security_group_ingress(
                GroupId=group, IpPermissions=ingress(group, ssh_from)
            )
        except ClientError as error:
            if codes(error) != "InvalidPermission.Duplicate":
                raise
    return group


def ingress(group: str, ssh_from: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the rules of the security group."""
    rules: list[dict[str, Any]] = [
        {
            "IpProtocol": "-1",
            "UserIdGroupPairs": [{"GroupId": group, "Description": "members of the cluster"}],
        }
    ]
    for address in ssh_from:
        version = ipaddress.ip_network(address).version
        key, kind = ("IpRanges", "CidrIp") if version == 4 else ("Ipv6Ranges", "CidrIpv6")
        rules.append(
            {
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                key: [{kind: address, "Description": "SSH, asked for at launch"}],
            }
        )
    return rules


def check_address(address: str) -> str:
    """Return a CIDR for SSH, unless it is malformed or lets the world in."""
    try:
        network = ipaddress.ip_network(address)
    except ValueError as error:
        raise SettingsError(f"--ssh-from {address}: {error}; write it as 203.0.113.7/32") from None
    if network.prefixlen == 0:
        raise SettingsError(f"--ssh-from {address} would let the world in: name your own address")
    return str(network)


def find_group(aws: Aws, names: Names) -> dict[str, dict[str, str]]:
    """Return the ids of the cluster's own security groups, with their tags."""
    with translated("the security group"):
        found = [
            group
            for page in aws.pages(
                "ec2",
                "describe_security_groups",
                Filters=[{"Name": f"tag:{CLUSTER}", "Values": [names.cluster]}],
            )
            for group in page["SecurityGroups"]
        ]
    return {group["GroupId"]: as_dict(group.get("Tags")) for group in found}


def delete_group(aws: Aws, group: str, seconds: float = 120, pause: float = 3) -> None:
    """Remove a security group, waiting for the machines' network interfaces to go."""

    def gone() -> bool | None:
        try:
            aws.ec2.delete_security_group(GroupId=group)
        except ClientError as error:
            if codes(error) == "DependencyViolation":
                return None
            if codes(error) != "InvalidGroup.NotFound":
                raise
        return True

    with translated("the security group"):
        until(gone, seconds, pause, f"{group} is still in use")
