"""What a cluster's machines may do: one policy, written out in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.errors import SettingsError
from sparknn.saved import BAD, NEW, TRIAL

__all__ = ["TRUST", "Grants", "idle_statement", "machine_policy", "parse_s3"]

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}

# What the Session Manager agent calls. AWS's managed policy for it has, beside these,
# ssm:GetParameter(s) on every parameter of the account, and the inventory's actions.
AGENT = [
    "ssm:UpdateInstanceInformation",
    "ssm:ListAssociations",
    "ssm:ListInstanceAssociations",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "ec2messages:AcknowledgeMessage",
    "ec2messages:DeleteMessage",
    "ec2messages:FailMessage",
    "ec2messages:GetEndpoint",
    "ec2messages:GetMessages",
    "ec2messages:SendReply",
]

READ = ["s3:GetObject"]
WRITE = [*READ, "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]


def parse_s3(url: str) -> tuple[str, str]:
    """Return bucket and key of s3://bucket/key or s3a://bucket/key, without closing slashes.

    Raises
    ------
    SettingsError
        If it is no such address, or has what a policy would read as a pattern.
    """
    scheme, mark, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme not in ("s3", "s3a") or not mark or not bucket:
        raise SettingsError(f"{url!r} is no address on S3: write s3://bucket/path")
    if any(character in rest for character in "*?$"):
        raise SettingsError(f"{url!r}: name a path on S3 without *, ? or $")
    return bucket, key.strip("/")


@dataclass(frozen=True)
class Grants:
    """Users' data that the machines may touch: addresses such as s3://bucket/path.

    What may be written may be read, too. A path stands for itself and for all that is below it;
    one that may be written also for what a job writes beside it: what is to take its place, and the
    bad lines of its input.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    def covers(self, url: str, writing: bool) -> bool:
        """Return whether a path may be read, or written."""
        bucket, key = parse_s3(url)
        for granted in self.write if writing else (*self.read, *self.write):
            owner, path = parse_s3(granted)
            if bucket == owner and (not path or key == path or key.startswith(path + "/")):
                return True
        return False


def machine_policy(
    partition: str,
    region: str,
    account: str,
    bucket: str,
    prefix: str,
    secret: str,
    grants: Grants,
) -> dict[str, Any]:
    """Return the whole policy of the machines, as IAM takes it.

    partition : "aws" outside China and GovCloud. prefix : of the cluster's objects in the bucket.
    secret : name of the parameter with Spark's secret.
    """
    objects = f"arn:{partition}:s3:::{bucket}/{prefix}"
    parameter = f"arn:{partition}:ssm:{region}:{account}:parameter{secret}"
    folders = [f"{prefix}/{folder}/*" for folder in ("boot", "run", "logs")]
    statements = [
        _statement("Boot", READ, [f"{objects}/boot/*"]),
        _statement("Run", WRITE, [f"{objects}/run/*"]),
        # Jobs' output and event logs: written as they grow, and never deleted.
        _statement("Logs", ["s3:GetObject", "s3:PutObject"], [f"{objects}/logs/*"]),
        {
            **_statement("ListOwn", ["s3:ListBucket"], [f"arn:{partition}:s3:::{bucket}"]),
            "Condition": {"StringLike": {"s3:prefix": folders}},
        },
        _statement("Secret", ["ssm:GetParameter"], [parameter]),
        _statement("SessionManager", AGENT, ["*"]),
    ]
    return {"Version": "2012-10-17", "Statement": statements + _data(partition, grants)}


def _data(partition: str, grants: Grants) -> list[dict[str, Any]]:
    """Return the statements for users' data."""
    statements = []
    writing = [*WRITE, "s3:ListMultipartUploadParts"]
    for sid, actions, urls, beside in (
        ("ReadData", READ, grants.read, ()),
        ("WriteData", writing, grants.write, (BAD, NEW, TRIAL)),
    ):
        resources = []
        for bucket, key in map(parse_s3, urls):
            base = f"arn:{partition}:s3:::{bucket}"
            resources += [f"{base}/{key}", f"{base}/{key}/*"] if key else [f"{base}/*"]
            if key:
                resources += [f"{base}/{key}{mark}*" for mark in beside]
        if resources:
            statements.append(_statement(sid, actions, resources))
    buckets = sorted({parse_s3(url)[0] for url in (*grants.read, *grants.write)})
    if buckets:
        # The names in these buckets, not only below the paths: for a key that is not there S3
        # answers "forbidden" to whoever may not list the bucket, and Spark, which asks for many
        # keys that are not there, would stop at it.
        resources = [f"arn:{partition}:s3:::{bucket}" for bucket in buckets]
        actions = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
        statements.append(_statement("ListData", actions, resources))
    return statements


def idle_statement(
    partition: str, region: str, account: str, group: str, master: str
) -> dict[str, Any]:
    """Return what lets one machine set the group to zero, and do nothing else with it.

    master : the instance's id. With a largest size of 0 no other setting can start a machine.
    """
    service = f"arn:{partition}:autoscaling:{region}:{account}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                **_statement(
                    "GroupToZero",
                    ["autoscaling:UpdateAutoScalingGroup"],
                    [f"{service}:autoScalingGroup:*:autoScalingGroupName/{group}"],
                ),
                "Condition": {
                    "NumericEquals": {"autoscaling:MaxSize": "0", "autoscaling:MinSize": "0"},
                    "ArnEquals": {
                        "ec2:SourceInstanceARN": (
                            f"arn:{partition}:ec2:{region}:{account}:instance/{master}"
                        )
                    },
                },
            }
        ],
    }


def _statement(sid: str, actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
