"""What the tests of deploy share: moto's server, an inventory of the account, faults."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError, ReadTimeoutError

from deploy.aws.session import Aws
from deploy.launch import launch
from deploy.names import Names
from deploy.plan import Plan, make_plan
from deploy.s3 import file_digest
from deploy.settings import LaunchSettings

REGION = "us-east-1"
BUCKET = "tests-bucket"
TYPE = "m5.xlarge"
SERVICES = ("ec2", "autoscaling", "iam", "ssm", "s3", "sts")
# Names of calls that change nothing: a fault there is a fault of nothing made.
READING = ("Describe", "List", "Get", "Head")


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto's server in this process, with a network that has a way out; yield its URL."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def fresh_account(endpoint: str) -> Aws:
    """Empty the stand-in, and return clients of an account with a network and a bucket."""
    request = urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(request).close()
    aws = connect(endpoint)
    open_network(aws)
    aws.s3.create_bucket(Bucket=BUCKET)
    return aws


def open_network(aws: Aws) -> None:
    """Give the default VPC the way out that AWS's has."""
    vpc = aws.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    gateway = aws.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    aws.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    table = aws.ec2.describe_route_tables()["RouteTables"][0]["RouteTableId"]
    aws.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)


@functools.cache
def some_image(endpoint: str, architecture: str = "x86_64") -> str:
    """Return an image that moto offers."""
    images = connect(endpoint).ec2.describe_images()["Images"]
    return next(one["ImageId"] for one in images if one["Architecture"] == architecture)


def connect(endpoint: str, attempts: int = 1) -> Aws:
    """Return clients of moto's server."""
    aws = Aws(REGION, endpoint=endpoint, attempts=attempts)
    # Reading the services' models takes a second; they stay with the session.
    aws.session = one_session()
    for service in SERVICES:
        aws.client(service)
    return aws


@functools.cache
def one_session() -> Any:
    """Return the session that all clients in this process come from."""
    return boto3.Session(region_name=REGION)


def few_files(
    architecture: str, python: str, requirements: Sequence[str], directory: Path
) -> Mapping[str, str]:
    """Stand in for the gathering of boot files."""
    (directory / "node.pyz").write_bytes(b"a program")
    return {"node.pyz": file_digest(directory / "node.pyz")}


def settings(endpoint: str, name: str = "one", **more: Any) -> LaunchSettings:
    """Return the settings of a small launch."""
    given: dict[str, Any] = {"instance_type": TYPE, "ami": some_image(endpoint), **more}
    return LaunchSettings(name, BUCKET, **given)


def quiet(text: str) -> None:
    """Hear of progress, and say nothing."""


def launched(
    aws: Aws, endpoint: str, name: str = "one", plan: Plan | None = None, **more: Any
) -> Plan:
    """Launch a cluster without waiting for machines, which moto does not have."""
    plan = plan or make_plan(aws, settings(endpoint, name, **more))
    launch(aws, plan, quiet, few_files, wait=False)
    return plan


def names(name: str) -> Names:
    """Return the names of a cluster's resources."""
    return Names(name, REGION)


def report_ready(aws: Aws, plan: Plan) -> None:
    """Write what the machines of a launch write when they are ready."""
    from deploy.aws import instances
    from deploy.node import layout

    for machine in instances.find(aws, plan.names):
        key = layout.ready_key(plan.settings.prefix, plan.launch_id, machine.id)
        aws.s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")


# ---- inventory ---------------------------------------------------------------------------


def inventory(aws: Aws) -> dict[str, Any]:
    """Return everything in the account that a launch could have made, tagged or not."""
    ec2, iam = aws.ec2, aws.iam
    live = [
        one["InstanceId"]
        for reservation in ec2.describe_instances()["Reservations"]
        for one in reservation["Instances"]
        if one["State"]["Name"] != "terminated"
    ]
    found: dict[str, Any] = {
        "instances": live,
        # Those of machines that are gone moto keeps; AWS does not, by DeleteOnTermination, for
        # which there is a test of its own.
        "volumes": [
            one["VolumeId"]
            for one in ec2.describe_volumes()["Volumes"]
            if not one["Attachments"] or one["Attachments"][0]["InstanceId"] in live
        ],
        "interfaces": [
            one["NetworkInterfaceId"]
            for one in ec2.describe_network_interfaces()["NetworkInterfaces"]
            if "Attachment" not in one or one["Attachment"].get("InstanceId") in live
        ],
        "groups": ec2.describe_security_groups()["SecurityGroups"],
        "templates": ec2.describe_launch_templates()["LaunchTemplates"],
        "key pairs": ec2.describe_key_pairs()["KeyPairs"],
        "addresses": ec2.describe_addresses()["Addresses"],
        "spot requests": ec2.describe_spot_instance_requests()["SpotInstanceRequests"],
        "auto scaling": [
            (one["AutoScalingGroupName"], one["DesiredCapacity"], sorted(map(str, one["Tags"])))
            for one in aws.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
        ],
        "actions": aws.autoscaling.describe_scheduled_actions()["ScheduledUpdateGroupActions"],
        "configurations": aws.autoscaling.describe_launch_configurations()["LaunchConfigurations"],
        "roles": {
            role["RoleName"]: iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
            for role in iam.list_roles()["Roles"]
        },
        "policies": iam.list_policies(Scope="Local")["Policies"],
        "profiles": iam.list_instance_profiles()["InstanceProfiles"],
        "users": iam.list_users()["Users"],
        "parameters": aws.ssm.describe_parameters()["Parameters"],
        "buckets": [one["Name"] for one in aws.s3.list_buckets()["Buckets"]],
    }
    # moto keeps the actions of groups that are gone, too.
    groups = {one[0] for one in found["auto scaling"]}
    found["actions"] = [one for one in found["actions"] if one["AutoScalingGroupName"] in groups]
    for bucket in found["buckets"]:
        pages = aws.s3.list_object_versions(Bucket=bucket)
        versions = pages.get("Versions", []) + pages.get("DeleteMarkers", [])
        found[f"objects of {bucket}"] = [(one["Key"], one["VersionId"]) for one in versions]
        uploads = aws.s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        found[f"uploads of {bucket}"] = [one["Key"] for one in uploads]
    return json.loads(json.dumps(found, default=str, sort_keys=True))


# ---- faults and counts -------------------------------------------------------------------


def watch(aws: Aws, seen: Callable[[str, Any, Any], Any]) -> None:
    """Call a function with each request before it is sent.

    seen : takes the call's name, "service.Operation", the request, and a function that sends it.
    """
    for service in SERVICES:
        client = aws.client(service)
        prefix = {"autoscaling": "auto-scaling"}.get(service, service)

        def before(event_name: str, request: Any, client: Any = client, **rest: Any) -> None:
            name = event_name.removeprefix("before-send.")
            seen(name, request, client._endpoint.http_session.send)

        client.meta.events.register(f"before-send.{prefix}", before)


def calls_of(aws: Aws) -> list[str]:
    """Return a list that the names of all further calls will be added to."""
    calls: list[str] = []
    watch(aws, lambda name, request, send: calls.append(name))
    return calls


def changes(call: str) -> bool:
    """Return whether a call can change something."""
    return not call.split(".")[1].startswith(READING)


class Fault:
    """Makes the n-th call that `counts` go wrong, in one of three ways.

    "refused": it is not done. "lost": it is done, and its answer does not arrive. "killed": it is
    done, and the caller is gone. `hit` is the call's name then; "" when there was no n-th.
    """

    def __init__(
        self, aws: Aws, number: int, way: str, counts: Callable[[str], bool] = changes
    ) -> None:
        self.number, self.way, self.counts, self.seen, self.hit = number, way, counts, 0, ""
        watch(aws, self.before)

    def before(self, name: str, request: Any, send: Callable[[Any], Any]) -> None:
        """See a request, and let it go wrong if it is its turn."""
        if not self.counts(name):
            return
        self.seen += 1
        if self.seen != self.number + 1:
            return
        self.hit = name
        if self.way == "refused":
            answer = {"Code": "UnauthorizedOperation", "Message": "not you"}
            about = {"HTTPStatusCode": 403, "HTTPHeaders": {}}
            raise ClientError({"Error": answer, "ResponseMetadata": about}, name.split(".")[1])
        send(request)
        if self.way == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ReadTimeoutError(endpoint_url=request.url)
