"""The workers: one Auto Scaling group, in one zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, codes, translated
from deploy.errors import NameInUseError
from deploy.names import CLUSTER, LAUNCH, ROLE, Names, as_dict

__all__ = [
    "Group",
    "complaints",
    "create",
    "delete",
    "end_at",
    "find",
    "find_all",
    "release",
    "resize",
]

# How many workers there were before `stop`.
BEFORE = "sparknn:workers"


@dataclass(frozen=True)
class Group:
    """A cluster's Auto Scaling group; workers: ids of its machines."""

    name: str
    desired: int
    workers: tuple[str, ...]
    status: str
    tags: dict[str, str]

    @property
    def before(self) -> int:
        """The number of workers that `start` brings back."""
        return int(self.tags.get(BEFORE, self.desired))


def create(
    aws: Aws,
    names: Names,
    template: str,
    subnet: str,
    workers: int,
    spot: bool,
    spot_price: str | None,
    tags: dict[str, str],
) -> None:
    """Make the group, which starts the workers.

    spot : take spot instances. spot_price : the most to pay for one an hour, in dollars; None: up
    to the price on demand.
    """
    request: dict[str, Any] = {
        "AutoScalingGroupName": names.base,
        "MinSize": 0,
        "MaxSize": workers,
        "DesiredCapacity": workers,
        "VPCZoneIdentifier": subnet,
        "HealthCheckType": "EC2",
        "HealthCheckGracePeriod": 60,
        "Tags": _tags(names, {**tags, ROLE: "worker", "Name": f"{names.base}-worker"})
        + _tags(names, {BEFORE: str(workers)}, propagate=False),
    }
    specification = {"LaunchTemplateId": template, "Version": "1"}
    if spot:
        # By a policy of the group and not in the template, which serves the master, too.
        distribution: dict[str, Any] = {
            "OnDemandBaseCapacity": 0,
            "OnDemandPercentageAboveBaseCapacity": 0,
            "SpotAllocationStrategy": "price-capacity-optimized",
        }
        if spot_price:
            distribution["SpotMaxPrice"] = spot_price
        request["MixedInstancesPolicy"] = {
            "LaunchTemplate": {"LaunchTemplateSpecification": specification},
            "InstancesDistribution": distribution,
        }
    else:
        request["LaunchTemplate"] = specification
    with translated("the workers' group"):
        try:
            aws.autoscaling.create_auto_scaling_group(**request)
        except ClientError as error:
            there = find(aws, names) if codes(error) == "AlreadyExists" else None
            if there is None:
                raise
            if there.tags.get(LAUNCH) != tags[LAUNCH]:
                raise NameInUseError(
                    f"there is an Auto Scaling group {names.base} already: remove it, or choose "
                    "another name"
                ) from error


def _tags(names: Names, tags: dict[str, str], propagate: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "ResourceId": names.base,
            "ResourceType": "auto-scaling-group",
            "Key": key,
            "Value": value,
            "PropagateAtLaunch": propagate,
        }
        for key, value in tags.items()
    ]


def end_at(aws: Aws, names: Names, deadline: int) -> None:
    """Let the group go to zero at a time, in seconds since the epoch, whoever is there then."""
    with translated("the deadline"):
        aws.autoscaling.put_scheduled_update_group_action(
            AutoScalingGroupName=names.base,
            ScheduledActionName="deadline",
            StartTime=datetime.fromtimestamp(deadline, timezone.utc),
            MinSize=0,
            MaxSize=0,
            DesiredCapacity=0,
        )


def find(aws: Aws, names: Names) -> Group | None:
    """Return the cluster's group."""
    with translated("the workers' group"):
        answer = aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[names.base])
    found = [_group(one) for one in answer["AutoScalingGroups"]]
    return next((one for one in found if one.tags.get(CLUSTER) == names.cluster), None)


def find_all(aws: Aws) -> list[Group]:
    """Return the groups of all clusters."""
    wanted = [{"Name": "tag-key", "Values": [CLUSTER]}]
    with translated("the workers' groups"):
        return [
            _group(one)
            for page in aws.pages("autoscaling", "describe_auto_scaling_groups", Filters=wanted)
            for one in page["AutoScalingGroups"]
        ]


def _group(found: dict[str, Any]) -> Group:
    return Group(
        found["AutoScalingGroupName"],
        found["DesiredCapacity"],
        tuple(instance["InstanceId"] for instance in found["Instances"]),
        found.get("Status") or "",
        as_dict(found.get("Tags")),
    )


def resize(aws: Aws, names: Names, workers: int, remember: bool = True) -> None:
    """Set the number of workers; remember: for `start`, too."""
    with translated("the workers' group"):
        if remember:
            aws.autoscaling.create_or_update_tags(
                Tags=_tags(names, {BEFORE: str(workers)}, propagate=False)
            )
        aws.autoscaling.update_auto_scaling_group(
            AutoScalingGroupName=names.base,
            MinSize=0,
            MaxSize=workers,
            DesiredCapacity=workers,
        )


def release(aws: Aws, names: Names, workers: list[str], left: int) -> None:
    """Terminate these workers and let the group be so much smaller."""
    with translated("removing workers"):
        for worker in workers:
            try:
                aws.autoscaling.terminate_instance_in_auto_scaling_group(
                    InstanceId=worker, ShouldDecrementDesiredCapacity=True
                )
            except ClientError as error:
                # Gone already, as a worker on spot may be.
                if "not found" not in str(error):
                    raise
    resize(aws, names, left)


def complaints(aws: Aws, names: Names) -> list[str]:
    """Return why AWS could not start workers, the newest reason first."""
    with translated("the group's activities"):
        answer = aws.autoscaling.describe_scaling_activities(
            AutoScalingGroupName=names.base, MaxRecords=20
        )
    found = [
        activity.get("StatusMessage") or activity.get("Description", "")
        for activity in answer["Activities"]
        if activity["StatusCode"] == "Failed"
    ]
    return list(dict.fromkeys(found))


def delete(aws: Aws, names: Names) -> None:
    """Remove the group with its workers and its scheduled action."""
    with translated("the workers' group"):
        try:
            aws.autoscaling.delete_auto_scaling_group(
                AutoScalingGroupName=names.base, ForceDelete=True
            )
        except ClientError as error:
            # Gone, or going already.
            if codes(error) not in (
                "ValidationError",
                "ResourceInUse",
                "ScalingActivityInProgress",
            ):
                raise
