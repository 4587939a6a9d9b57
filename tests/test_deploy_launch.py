"""Launching: what is made, in how many calls, once for a name; and that a plan tells all of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from deploy_helpers import (
    BUCKET,
    TYPE,
    calls_of,
    changes,
    connect,
    few_files,
    inventory,
    launched,
    names,
    quiet,
    report_ready,
    settings,
    some_image,
    watch,
)

from deploy import errors
from deploy.aws import group, instances, network
from deploy.aws.session import Aws
from deploy.destroy import destroy
from deploy.launch import launch, wait_until_ready
from deploy.names import LAUNCH
from deploy.plan import make_plan
from deploy.s3 import Folder


def test_a_launch_takes_as_many_calls_for_100_workers_as_for_one(aws: Aws, endpoint: str) -> None:
    counted = {}
    for workers in (1, 8, 100):
        fresh = connect(endpoint)
        calls = calls_of(fresh)
        plan = launched(fresh, endpoint, f"of-{workers}", workers=workers, auto_terminate=3600)
        counted[workers] = list(calls)
        if workers == 8:
            continue
        report_ready(aws, plan)
        master = next(one for one in instances.find(aws, plan.names) if one.role == "master")
        calls.clear()
        assert wait_until_ready(fresh, plan, master.id, quiet) == workers
        found = instances.find(aws, plan.names)
        assert sum(one.role == "worker" for one in found) == workers
        assert sum(one.role == "master" for one in found) == 1
        assert calls == ["s3.ListObjectsV2"]
    assert counted[1] == counted[8] == counted[100]
    assert len(counted[1]) < 30


def test_a_plan_names_everything_that_its_launch_makes(aws: Aws, endpoint: str) -> None:
    before = inventory(aws)
    plan = make_plan(aws, settings(endpoint, auto_terminate=3600))
    assert inventory(aws) == before
    listed = {(one.kind, one.name) for one in plan.resources()}
    launch(aws, plan, quiet, few_files, wait=False)
    after = inventory(aws)

    def new(kind: str, key: str) -> set[str]:
        return {one[key] for one in after[kind] if one not in before[kind]}

    made = {("security group", name) for name in new("groups", "GroupName")}
    made |= {("launch template", name) for name in new("templates", "LaunchTemplateName")}
    made |= {("instance profile", name) for name in new("profiles", "InstanceProfileName")}
    made |= {("parameter", name) for name in new("parameters", "Name")}
    made |= {("scheduled action", name) for name in new("actions", "ScheduledActionName")}
    made |= {("role", name) for name in set(after["roles"]) - set(before["roles"])}
    made |= {("auto scaling group", one[0]) for one in after["auto scaling"]}
    made |= {("objects", f"s3://{BUCKET}/sparknn/one/{one}/") for one in ("boot", "run", "logs")}
    made |= {("instance", "sparknn-one-master")}
    assert made == listed
    assert len(after["instances"]) == 2
    policies = next(one for one in plan.resources() if one.kind == "role").properties["policies"]
    assert set(policies) == set(after["roles"][plan.names.role])
    same = {"buckets", "users", "policies", "key pairs", "addresses"}
    assert {kind: after[kind] for kind in same} == {kind: before[kind] for kind in same}


def test_a_name_in_use_is_refused_and_nothing_changes(aws: Aws, endpoint: str) -> None:
    launched(aws, endpoint)
    before = inventory(aws)
    with pytest.raises(errors.NameInUseError, match="destroy one"):
        launched(aws, endpoint)
    assert inventory(aws) == before


def test_of_two_launches_with_one_name_one_wins_and_keeps_all(aws: Aws, endpoint: str) -> None:
    empty = inventory(aws)
    plans = [make_plan(connect(endpoint), settings(endpoint)) for _ in range(2)]
    callers = [connect(endpoint) for _ in range(2)]
    results: dict[int, Any] = {}
    both = threading.Barrier(2)

    def go(number: int) -> None:
        both.wait()
        try:
            results[number] = launch(callers[number], plans[number], quiet, few_files, wait=False)
        except errors.DeployError as error:
            results[number] = error

    threads = [threading.Thread(target=go, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = [number for number, result in results.items() if result != 1]
    assert len(lost) == 1 and isinstance(results[lost[0]], errors.NameInUseError)
    winner = plans[1 - lost[0]]
    machines = instances.find(aws, winner.names)
    assert [one.launch for one in machines] == [winner.launch_id] * 2
    destroy(aws, winner.names, quiet)
    assert inventory(aws) == empty


def test_a_loser_that_sees_the_name_taken_late_leaves_the_winner_alone(
    aws: Aws, endpoint: str
) -> None:
    late = make_plan(aws, settings(endpoint))
    launched(aws, endpoint)
    before = inventory(aws)
    with pytest.raises(errors.NameInUseError):
        launch(aws, late, quiet, few_files, wait=False)
    assert inventory(aws) == before


def test_answers_that_get_lost_are_asked_for_again_and_nothing_is_made_twice(
    aws: Aws, endpoint: str
) -> None:
    """Each call is done twice, but the two whose repetition moto takes for another machine."""
    empty = inventory(aws)
    patient = connect(endpoint, attempts=2)
    done: set[str] = set()

    def twice(name: str, request: Any, send: Any) -> None:
        once = ("ec2.RunInstances", "auto-scaling.CreateAutoScalingGroup")
        if changes(name) and name not in done and name not in once:
            done.add(name)
            send(request)
            raise ReadTimeoutError(endpoint_url=request.url)

    watch(patient, twice)
    launched(patient, endpoint, auto_terminate=3600)
    assert len(done) >= 10
    after = inventory(aws)
    assert len(after["instances"]) == 2
    assert len(after["groups"]) == len(empty["groups"]) + 1
    destroy(aws, names("one"), quiet)
    assert inventory(aws) == empty


def test_a_group_that_is_there_already_is_adopted_only_by_its_own_launch(
    aws: Aws, endpoint: str
) -> None:
    plan = launched(aws, endpoint)
    faulty = connect(endpoint)

    def there(name: str, request: Any, send: Any) -> None:
        if name.endswith("CreateAutoScalingGroup"):
            raise ClientError({"Error": {"Code": "AlreadyExists", "Message": ""}}, "Create")

    watch(faulty, there)
    group.create(faulty, plan.names, "lt-1", "subnet-1", 1, False, None, plan.own_tags)
    with pytest.raises(errors.NameInUseError, match="Auto Scaling group sparknn-one"):
        others = {**plan.own_tags, LAUNCH: "another"}
        group.create(faulty, plan.names, "lt-1", "subnet-1", 1, False, None, others)


def test_the_master_is_on_demand_where_workers_are_on_spot(aws: Aws, endpoint: str) -> None:
    launched(aws, endpoint, spot=True, spot_price="0.1", workers=2)
    (found,) = aws.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    distribution = found["MixedInstancesPolicy"]["InstancesDistribution"]
    assert distribution["OnDemandPercentageAboveBaseCapacity"] == 0
    assert distribution["SpotMaxPrice"] == "0.1"
    template = aws.ec2.describe_launch_template_versions(LaunchTemplateName="sparknn-one")
    assert (
        "InstanceMarketOptions" not in template["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    )


def test_a_master_of_its_own_type_and_data_volumes(aws: Aws, endpoint: str) -> None:
    launched(aws, endpoint, master_instance_type="m5.large", volumes=2, volume_gb=50)
    found = {one.role: one.type for one in instances.find(aws, names("one"))}
    assert found == {"master": "m5.large", "worker": TYPE}
    template = aws.ec2.describe_launch_template_versions(LaunchTemplateName="sparknn-one")
    data = template["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    volumes = [one["Ebs"]["VolumeSize"] for one in data["BlockDeviceMappings"]]
    assert volumes == [30, 50, 50]


def test_a_new_profile_is_given_time_to_spread(
    aws: Aws, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    # Not `time.sleep` itself: other threads of this process sleep too.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=waits.append)
    monkeypatch.setattr(instances, "time", clock)
    faulty = connect(endpoint)

    def spreading(name: str, request: Any, send: Any) -> None:
        if name == "ec2.RunInstances" and len(waits) < 2:
            words = "Value (sparknn-one-us-east-1) is invalid. Invalid IAM Instance Profile name"
            answer = {"Code": "InvalidParameterValue", "Message": words}
            raise ClientError({"Error": answer}, "RunInstances")

    watch(faulty, spreading)
    launched(faulty, endpoint)
    assert len(waits) == 2
    assert [one.role for one in instances.find(aws, names("one"))].count("master") == 1


def test_with_a_profile_of_the_users_iam_is_not_touched(aws: Aws, endpoint: str) -> None:
    aws.iam.create_instance_profile(InstanceProfileName="theirs")
    calls = calls_of(aws)
    launched(aws, endpoint, instance_profile="theirs")
    destroy(aws, names("one"), quiet)
    assert {call for call in calls if call.startswith("iam.")} == {"iam.GetInstanceProfile"}
    with pytest.raises(errors.SettingsError, match="no instance profile nobodys"):
        launched(aws, endpoint, instance_profile="nobodys")


def test_a_bootstrap_script_is_uploaded_and_its_digest_told(
    aws: Aws, endpoint: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.sh").write_text("#!/bin/sh\ntouch /tmp/here\n")
    launched(aws, endpoint, bootstrap=tmp_path / "mine.sh")
    body = Folder(aws, BUCKET, "sparknn/one").get("boot/bootstrap")
    assert body == (tmp_path / "mine.sh").read_bytes()


# ---- waiting -----------------------------------------------------------------------------


def waiting_plan(aws: Aws, endpoint: str, **more: Any) -> tuple[Any, str]:
    plan = launched(aws, endpoint, workers=3, timeout=0, **more)
    found = instances.find(aws, plan.names)
    return plan, next(one.id for one in found if one.role == "master")


def ready(aws: Aws, plan: Any, *machines: str) -> None:
    for machine in machines:
        key = f"{plan.settings.prefix}/run/{plan.launch_id}/ready/{machine}.json"
        aws.s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")


def test_launch_goes_on_with_the_least_number_of_workers(
    aws: Aws, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, master = waiting_plan(aws, endpoint, min_workers=2)
    ready(aws, plan, master, "i-1", "i-2")
    said: list[str] = []
    monkeypatch.setattr(group, "complaints", lambda *_: ["no m5.xlarge left in us-east-1a"])
    assert wait_until_ready(aws, plan, master, said.append) == 2
    assert "no m5.xlarge left" in said[-1]


def test_too_few_workers_are_an_error_with_auto_scalings_reason(
    aws: Aws, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, master = waiting_plan(aws, endpoint)
    ready(aws, plan, master, "i-1")
    monkeypatch.setattr(group, "complaints", lambda *_: ["no m5.xlarge left"])
    with pytest.raises(errors.CapacityError, match=r"1 workers came up .* no m5.xlarge left"):
        wait_until_ready(aws, plan, master, quiet)


def test_workers_without_a_master_are_not_a_cluster(aws: Aws, endpoint: str) -> None:
    plan, master = waiting_plan(aws, endpoint)
    ready(aws, plan, "i-1", "i-2", "i-3")
    with pytest.raises(errors.CapacityError, match="a master are needed"):
        wait_until_ready(aws, plan, master, quiet)


def test_a_launch_ends_with_the_word_of_a_machine_that_failed_and_cleans_up(
    aws: Aws, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = inventory(aws)
    plan = make_plan(aws, settings(endpoint))
    key = f"sparknn/one/run/{plan.launch_id}/failed/i-9.json"
    aws.s3.put_object(Bucket=BUCKET, Key=key, Body=b'{"role": "worker", "error": "bad digest"}')
    with pytest.raises(errors.RemoteError, match=r"worker .*bad digest"):
        launch(aws, plan, quiet, few_files)
    assert inventory(aws) == before


def test_an_interrupted_launch_cleans_up(aws: Aws, endpoint: str) -> None:
    before = inventory(aws)

    def interrupt(text: str) -> None:
        if "starting" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(aws, make_plan(aws, settings(endpoint)), interrupt, few_files)
    assert inventory(aws) == before


def test_a_cleaning_up_that_fails_says_what_to_do(
    aws: Aws, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise errors.PermissionsError("no right to delete it")

    monkeypatch.setattr(network, "delete_group", refuse)

    def interrupt(text: str) -> None:
        if "starting" in text:
            raise KeyboardInterrupt

    with pytest.raises(errors.LeftoverError, match=r"sg-.*no right to delete.*deploy destroy one"):
        launch(aws, make_plan(aws, settings(endpoint)), interrupt, few_files)


def test_user_data_too_long_stops_a_launch_before_anything_is_made(aws: Aws, endpoint: str) -> None:
    before = inventory(aws)
    conf = {f"spark.some.setting.number.{number}": "x" * 80 for number in range(200)}
    with pytest.raises(errors.UserDataError):
        launched(aws, endpoint, conf=conf)
    assert inventory(aws) == before


# ---- what is looked at before -------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        ({"instance_type": "m9.huge"}, errors.ImageError, "no instance type m9.huge"),
        ({"ami": "ami-12345678"}, errors.ImageError, "no image ami-12345678"),
        ({"instance_type": "m6g.large"}, errors.ImageError, "is for x86_64"),
        ({"master_instance_type": "m6g.large"}, errors.ImageError, "different architectures"),
        ({"subnet": "subnet-12345678"}, errors.NotReachableError, "no subnet for subnet-1"),
        ({"zone": "us-east-1x"}, errors.NotReachableError, "no subnet for us-east-1x"),
        ({"key_name": "k", "ssh_from": ("1.2.3.4/32",)}, errors.SettingsError, "--key-name k"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_made(
    aws: Aws, endpoint: str, more: dict[str, Any], kind: type[Exception], message: str
) -> None:
    before = inventory(aws)
    with pytest.raises(kind, match=message):
        launched(aws, endpoint, **more)
    assert inventory(aws) == before


def test_a_private_subnet_without_endpoints_is_refused_with_their_names(
    aws: Aws, endpoint: str
) -> None:
    vpc = aws.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = aws.ec2.create_subnet(
        VpcId=vpc, CidrBlock="10.9.1.0/24", AvailabilityZone="us-east-1a"
    )["Subnet"]["SubnetId"]
    with pytest.raises(errors.NotReachableError) as refused:
        make_plan(aws, settings(endpoint, subnet=subnet))
    for service in ("s3", "ssm", "ssmmessages", "autoscaling"):
        assert f"com.amazonaws.us-east-1.{service}" in str(refused.value)
    tables = aws.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    aws.ec2.create_vpc_endpoint(
        VpcId=vpc,
        ServiceName="com.amazonaws.us-east-1.s3",
        RouteTableIds=[tables["RouteTables"][0]["RouteTableId"]],
    )
    for service in ("ssm", "ssmmessages"):
        aws.ec2.create_vpc_endpoint(
            VpcId=vpc,
            VpcEndpointType="Interface",
            ServiceName=f"com.amazonaws.us-east-1.{service}",
            SubnetIds=[subnet],
        )
    with pytest.raises(errors.NotReachableError, match=r"endpoint for \S*autoscaling:"):
        make_plan(aws, settings(endpoint, subnet=subnet))
    plan = make_plan(aws, settings(endpoint, subnet=subnet, idle=None))
    assert not plan.public_address


def test_a_private_subnet_behind_a_nat_gateway_will_do(aws: Aws, endpoint: str) -> None:
    subnets = aws.ec2.describe_subnets()["Subnets"]
    vpc = subnets[0]["VpcId"]
    private = aws.ec2.create_subnet(
        VpcId=vpc, CidrBlock="172.31.240.0/20", AvailabilityZone="us-east-1a"
    )["Subnet"]["SubnetId"]
    gateway = aws.ec2.create_nat_gateway(SubnetId=subnets[0]["SubnetId"])
    table = aws.ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    aws.ec2.associate_route_table(RouteTableId=table, SubnetId=private)
    aws.ec2.create_route(
        RouteTableId=table,
        DestinationCidrBlock="0.0.0.0/0",
        NatGatewayId=gateway["NatGateway"]["NatGatewayId"],
    )
    plan = make_plan(aws, settings(endpoint, subnet=private))
    assert not plan.place.public and not plan.public_address


def test_graviton_takes_images_for_arm(aws: Aws, endpoint: str) -> None:
    image = some_image(endpoint, "arm64")
    plan = make_plan(aws, settings(endpoint, ami=image, instance_type="m6g.large"))
    assert plan.image.architecture == "arm64"


def test_a_public_subnet_without_public_addresses_has_no_way_out(aws: Aws, endpoint: str) -> None:
    with pytest.raises(errors.NotReachableError, match="no way out"):
        make_plan(aws, settings(endpoint, public_address=False))


def test_the_newest_image_is_looked_up_by_parameter(aws: Aws, endpoint: str) -> None:
    with pytest.raises(errors.ImageError, match="does not offer ubuntu"):
        make_plan(aws, settings(endpoint, ami=None))
    from moto.ssm.models import Parameter, ssm_backends

    name = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
    kept = ssm_backends[aws.account]["us-east-1"]._parameters
    kept[name].append(
        Parameter(aws.account, name, some_image(endpoint), "String", None, None, None, 0, 1, "text")
    )
    assert make_plan(aws, settings(endpoint, ami=None)).image.id == some_image(endpoint)
