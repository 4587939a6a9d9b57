"""Machines: the master is started here, the workers by their group."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, codes, translated, until
from deploy.aws.template import Machine, interface, tag_specifications
from deploy.names import CLUSTER, LAUNCH, ROLE, Names, as_dict

__all__ = ["Instance", "find", "find_all", "reboot", "run_master", "start", "stop", "terminate"]

# IAM tells EC2 of a new instance profile within seconds, mostly; until then it is "invalid".
SPREADING = "Invalid IAM Instance Profile"
SPREAD_SECONDS = 120.0
LIVE = ["pending", "running", "stopping", "stopped", "shutting-down"]


@dataclass(frozen=True)
class Instance:
    """A machine that is not terminated yet."""

    id: str
    state: str
    role: str
    cluster: str
    launch: str
    type: str
    private: str
    public: str
    launched: str
    spot: bool


def run_master(
    aws: Aws, template: str, machine: Machine, subnet: str, type_: str, user_data: str
) -> str:
    """Start the master, on demand, and return its id; a new profile is given time to spread."""
    tags = {**machine.tags, ROLE: "master", "Name": f"{machine.tags['Name']}-master"}
    request: dict[str, Any] = {
        "LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"},
        # A call whose answer got lost is sent again with this, and starts no second machine.
        "ClientToken": f"{machine.tags[LAUNCH]}-master",
        "MinCount": 1,
        "MaxCount": 1,
        "InstanceType": type_,
        "UserData": user_data,
        "NetworkInterfaces": [{**interface(machine), "SubnetId": subnet}],
        "TagSpecifications": tag_specifications(tags),
    }
    end = time.monotonic() + SPREAD_SECONDS
    with translated("the master"):
        while True:
            try:
                return aws.ec2.run_instances(**request)["Instances"][0]["InstanceId"]
            except ClientError as error:
                if SPREADING not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(2)


def find(aws: Aws, names: Names) -> list[Instance]:
    """Return the cluster's machines, whatever state they are in."""
    return _find(aws, {f"tag:{CLUSTER}": [names.cluster]})


def find_all(aws: Aws) -> list[Instance]:
    """Return the machines of all clusters."""
    return _find(aws, {"tag-key": [CLUSTER]})


def _find(aws: Aws, filters: dict[str, list[str]]) -> list[Instance]:
    filters = {**filters, "instance-state-name": LIVE}
    with translated("machines"):
        return [
            _instance(instance)
            for page in aws.pages(
                "ec2",
                "describe_instances",
                Filters=[{"Name": key, "Values": values} for key, values in filters.items()],
            )
            for reservation in page["Reservations"]
            for instance in reservation["Instances"]
        ]


def _instance(found: dict[str, Any]) -> Instance:
    tags = as_dict(found.get("Tags"))
    return Instance(
        found["InstanceId"],
        found["State"]["Name"],
        tags.get(ROLE, "worker"),
        tags.get(CLUSTER, ""),
        tags.get(LAUNCH, ""),
        found["InstanceType"],
        found.get("PrivateIpAddress") or "",
        found.get("PublicIpAddress") or "",
        found["LaunchTime"].isoformat(),
        found.get("InstanceLifecycle") == "spot",
    )


def terminate(aws: Aws, ids: list[str]) -> None:
    """Terminate machines."""
    with translated("terminating machines"):
        try:
            aws.ec2.terminate_instances(InstanceIds=ids)
        except ClientError as error:
            if not codes(error).startswith("InvalidInstanceID"):
                raise
            # One that is gone already makes AWS refuse them all.
            for one in ids:
                _terminate_one(aws, one)


def _terminate_one(aws: Aws, one: str) -> None:
    try:
        aws.ec2.terminate_instances(InstanceIds=[one])
    except ClientError as error:
        if not codes(error).startswith("InvalidInstanceID"):
            raise


def stop(aws: Aws, one: str) -> None:
    """Stop a machine; its volumes stay."""
    with translated("stopping the master"):
        aws.ec2.stop_instances(InstanceIds=[one])


def start(aws: Aws, one: str, pause: float = 5) -> None:
    """Start a stopped machine, waiting for one that is still stopping."""

    def started() -> bool | None:
        try:
            aws.ec2.start_instances(InstanceIds=[one])
        except ClientError as error:
            if codes(error) == "IncorrectInstanceState":
                return None
            raise
        return True

    with translated("starting the master"):
        until(started, 300, pause, f"{one} did not stop in five minutes: try again later")


def reboot(aws: Aws, ids: list[str]) -> None:
    """Restart machines' systems."""
    with translated("rebooting workers"):
        aws.ec2.reboot_instances(InstanceIds=ids)
