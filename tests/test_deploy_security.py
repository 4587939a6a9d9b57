"""What a cluster is open to, and to whom: docs/deploy.md has a table with a line for each test."""

from __future__ import annotations

import base64
import json
import logging
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy_helpers import (
    BUCKET,
    REGION,
    inventory,
    launched,
    names,
    quiet,
    settings,
    watch,
)

from deploy import cluster as clusters
from deploy import errors
from deploy.aws import instances
from deploy.aws.policy import Grants
from deploy.aws.session import Aws
from deploy.destroy import destroy
from deploy.plan import Plan, make_plan
from deploy.settings import LaunchSettings


def template_data(aws: Aws) -> dict[str, Any]:
    found = aws.ec2.describe_launch_template_versions(LaunchTemplateName="sparknn-one")
    return found["LaunchTemplateVersions"][0]["LaunchTemplateData"]


def statements(plan: Plan) -> dict[str, Any]:
    return {one["Sid"]: one for one in plan.policy["Statement"]}


def test_the_metadata_service_is_version_2_only_and_one_hop_away(aws: Aws, endpoint: str) -> None:
    launched(aws, endpoint)
    options = template_data(aws)["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)


def test_all_volumes_are_encrypted_and_go_with_their_machine(aws: Aws, endpoint: str) -> None:
    launched(aws, endpoint, volumes=2)
    volumes = [one["Ebs"] for one in template_data(aws)["BlockDeviceMappings"]]
    assert len(volumes) == 3
    assert all(one["Encrypted"] and one["DeleteOnTermination"] for one in volumes)


def test_a_machine_that_shuts_down_is_terminated(aws: Aws, endpoint: str) -> None:
    launched(aws, endpoint)
    assert template_data(aws)["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_the_security_group_admits_its_members_only(aws: Aws, endpoint: str) -> None:
    launched(aws, endpoint)
    (group,) = aws.ec2.describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["sparknn-one"]}]
    )["SecurityGroups"]
    (rule,) = group["IpPermissions"]
    assert rule["IpProtocol"] == "-1"
    assert [one["GroupId"] for one in rule["UserIdGroupPairs"]] == [group["GroupId"]]
    assert rule["IpRanges"] == rule["Ipv6Ranges"] == rule["PrefixListIds"] == []


def test_ssh_is_open_to_the_address_asked_for_and_never_to_the_world(
    aws: Aws, endpoint: str
) -> None:
    aws.ec2.create_key_pair(KeyName="mine")
    launched(aws, endpoint, ssh_from=("203.0.113.7/32",), key_name="mine")
    (group,) = aws.ec2.describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["sparknn-one"]}]
    )["SecurityGroups"]
    opened = [rule for rule in group["IpPermissions"] if rule["IpRanges"]]
    assert [(one["FromPort"], one["ToPort"], one["IpProtocol"]) for one in opened] == [
        (22, 22, "tcp")
    ]
    assert [one["CidrIp"] for one in opened[0]["IpRanges"]] == ["203.0.113.7/32"]
    for world in ("0.0.0.0/0", "::/0"):
        with pytest.raises(errors.SettingsError, match="the world"):
            LaunchSettings("one", BUCKET, ssh_from=(world,), key_name="mine")


def test_the_secret_is_in_parameter_store_encrypted_and_nowhere_else(
    aws: Aws, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sent: list[tuple[str, bytes]] = []
    watch(aws, lambda name, request, send: sent.append((name, _body(request))))
    plan = launched(aws, endpoint)
    answer = aws.ssm.get_parameter(Name=plan.names.secret, WithDecryption=True)["Parameter"]
    assert answer["Type"] == "SecureString"
    secret = answer["Value"]
    assert len(secret) == 64
    assert [name for name, body in sent if secret.encode() in body] == ["ssm.PutParameter"]
    assert secret not in caplog.text
    scripts = [base64.b64decode(template_data(aws)["UserData"])]
    for machine in instances.find(aws, plan.names):
        found = aws.ec2.describe_instance_attribute(InstanceId=machine.id, Attribute="userData")
        scripts.append(base64.b64decode(found["UserData"].get("Value", "")))
    assert all(secret.encode() not in script for script in scripts)
    other = launched(aws, endpoint, "two")
    again = aws.ssm.get_parameter(Name=other.names.secret, WithDecryption=True)["Parameter"]
    assert again["Value"] != secret


def _body(request: Any) -> bytes:
    body = request.body or b""
    if hasattr(body, "read"):
        return b""
    return body.encode() if isinstance(body, str) else bytes(body)


def test_user_data_differs_by_role_alone(aws: Aws, endpoint: str) -> None:
    plan = launched(aws, endpoint)
    worker = base64.b64decode(template_data(aws)["UserData"]).decode()
    master = next(one.id for one in instances.find(aws, plan.names) if one.role == "master")
    found = aws.ec2.describe_instance_attribute(InstanceId=master, Attribute="userData")
    lines = zip(
        base64.b64decode(found["UserData"]["Value"]).decode().splitlines(),
        worker.splitlines(),
        strict=True,
    )
    assert len([pair for pair in lines if pair[0] != pair[1]]) == 1


def test_machines_may_read_boot_and_write_run_and_logs_of_their_own(
    aws: Aws, endpoint: str
) -> None:
    found = statements(make_plan(aws, settings(endpoint)))
    base = f"arn:aws:s3:::{BUCKET}/sparknn/one"
    assert (found["Boot"]["Action"], found["Boot"]["Resource"]) == (
        ["s3:GetObject"],
        [f"{base}/boot/*"],
    )
    assert found["Run"]["Resource"] == [f"{base}/run/*"]
    assert "s3:DeleteObject" not in found["Logs"]["Action"]
    prefixes = found["ListOwn"]["Condition"]["StringLike"]["s3:prefix"]
    assert all(prefix.startswith("sparknn/one/") for prefix in prefixes)


def test_machines_may_read_one_parameter_only(aws: Aws, endpoint: str) -> None:
    plan = make_plan(aws, settings(endpoint))
    found = statements(plan)
    readers = [one for one in found.values() if "ssm:GetParameter" in one["Action"]]
    (reader,) = readers
    assert reader["Resource"] == [
        f"arn:aws:ssm:{REGION}:{plan.account}:parameter/sparknn/one/secret"
    ]
    anywhere = [one["Sid"] for one in found.values() if one["Resource"] == ["*"]]
    assert anywhere == ["SessionManager"]
    actions = [action for one in found.values() for action in one["Action"]]
    assert not any("*" in action for action in actions)


def test_no_machine_may_start_machines_or_touch_iam(aws: Aws, endpoint: str) -> None:
    plan = make_plan(aws, settings(endpoint, grants=Grants(("s3://a/b",), ("s3://a/c",))))
    documents = [plan.policy, plan.idle_policy("i-1")]
    actions = {
        action
        for document in documents
        for one in document["Statement"]
        for action in one["Action"]
    }
    assert {action.split(":")[0] for action in actions} == {
        "autoscaling",
        "ec2messages",
        "s3",
        "ssm",
        "ssmmessages",
    }
    assert {one for one in actions if one.startswith("autoscaling")} == {
        "autoscaling:UpdateAutoScalingGroup"
    }


def test_only_the_master_may_set_the_group_and_only_to_zero(aws: Aws, endpoint: str) -> None:
    plan = launched(aws, endpoint)
    master = next(one.id for one in instances.find(aws, plan.names) if one.role == "master")
    policy = aws.iam.get_role_policy(RoleName=plan.names.role, PolicyName="idle")
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Condition"]["NumericEquals"]["autoscaling:MaxSize"] == "0"
    arn = statement["Condition"]["ArnEquals"]["ec2:SourceInstanceARN"]
    assert arn.endswith(f":instance/{master}")
    assert statement["Resource"][0].endswith("autoScalingGroupName/sparknn-one")


def test_users_data_is_granted_only_where_named(aws: Aws, endpoint: str) -> None:
    found = statements(make_plan(aws, settings(endpoint)))
    assert not {"ReadData", "WriteData", "ListData"} & set(found)
    grants = Grants(("s3://data/in",), ("s3://data/out/",))
    found = statements(make_plan(aws, settings(endpoint, grants=grants)))
    base = "arn:aws:s3:::data"
    assert found["ReadData"]["Resource"] == [f"{base}/in", f"{base}/in/*"]
    # What jobs write beside their output, too.
    written = [f"{base}/out{end}" for end in ("", "/*", ".bad*", ".new-*", ".trial-*")]
    assert found["WriteData"]["Resource"] == written
    assert found["ReadData"]["Action"] == ["s3:GetObject"]


def test_everything_made_is_tagged_with_the_clusters_name(aws: Aws, endpoint: str) -> None:
    before = inventory(aws)
    launched(aws, endpoint)
    after = inventory(aws)
    mark = "'Key': 'sparknn:cluster', 'Value': 'one'"
    for kind in ("groups", "templates", "profiles", "auto scaling"):
        new = [one for one in after[kind] if one not in before[kind]]
        assert new and all(mark in str(one) for one in new), kind
    role = aws.iam.get_role(RoleName=names("one").role)["Role"]
    assert mark in str(role["Tags"])
    machines = aws.ec2.describe_instances()["Reservations"]
    assert all(mark in str(one["Tags"]) for group in machines for one in group["Instances"])


def test_the_owner_of_the_bucket_is_checked_on_every_call(aws: Aws, endpoint: str) -> None:
    unchecked: list[str] = []

    def look(name: str, request: Any, send: Any) -> None:
        if name.startswith("s3.") and "x-amz-expected-bucket-owner" not in request.headers:
            unchecked.append(name)

    watch(aws, look)
    launched(aws, endpoint)
    destroy(aws, names("one"), quiet)
    assert unchecked == []


def test_the_deadline_is_auto_scalings_to_keep(aws: Aws, endpoint: str) -> None:
    plan = launched(aws, endpoint, auto_terminate=3600)
    (action,) = aws.autoscaling.describe_scheduled_actions()["ScheduledUpdateGroupActions"]
    assert (action["MinSize"], action["MaxSize"], action["DesiredCapacity"]) == (0, 0, 0)
    assert int(action["StartTime"].timestamp()) == plan.deadline


# ---- with signatures and policies checked ------------------------------------------------


@pytest.fixture
def checked(aws: Aws, endpoint: str) -> Iterator[Aws]:
    """The account with moto's checks of signatures and policies on, and a user without rights."""
    aws.iam.create_user(UserName="nobody")
    yield aws
    _check(endpoint, "inf")


def _check(endpoint: str, after: str) -> None:
    request = urllib.request.Request(
        f"{endpoint}/moto-api/reset-auth",
        data=after.encode(),
        headers={"content-type": "text/plain"},
        method="POST",
    )
    urllib.request.urlopen(request).close()


def caller(checked: Aws, endpoint: str, actions: list[str]) -> Aws:
    """Return clients of a user who may do these actions only, with the checks on."""
    keys = checked.iam.create_access_key(UserName="nobody")["AccessKey"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    checked.iam.put_user_policy(UserName="nobody", PolicyName="some", PolicyDocument=document)
    found = Aws(REGION, endpoint=endpoint, attempts=1)
    found.session._session.set_credentials(keys["AccessKeyId"], keys["SecretAccessKey"])
    _check(endpoint, "0")
    return found


def test_a_caller_without_rights_is_told_which_one_is_missing(checked: Aws, endpoint: str) -> None:
    given = settings(endpoint)
    aws = caller(checked, endpoint, ["s3:*", "sts:*"])
    with pytest.raises(errors.PermissionsError, match="lack the right to DescribeInstanceTypes"):
        make_plan(aws, given)


def test_the_rights_that_the_docs_name_are_enough_for_a_cluster(
    checked: Aws, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "deploy.md").read_text()
    actions = re.findall(r"^([a-z0-9]+:[A-Z]\w+\*?)$", text, re.M)
    assert len(actions) > 40
    settings(endpoint)
    # moto goes by the call's name where AWS asks for s3:ListBucket.
    aws = caller(checked, endpoint, [*actions, "s3:HeadBucket"])
    plan = launched(aws, endpoint, auto_terminate=3600)
    cluster = clusters.find(aws, "one")
    assert clusters.describe(aws, cluster)["state"] == "running"
    assert [one["name"] for one in clusters.list_all(aws)] == ["one"]
    clusters.add_workers(aws, cluster, 1, quiet, None)
    monkeypatch.setattr(clusters, "on_machines", lambda *_, **__: [])
    clusters.remove_workers(aws, clusters.find(aws, "one"), 1, quiet, force=False)
    clusters.stop(aws, clusters.find(aws, "one"))
    clusters.start(aws, clusters.find(aws, "one"), quiet, None)
    assert destroy(aws, plan.names, quiet)


def test_a_forged_signature_is_refused_in_one_line(checked: Aws, endpoint: str) -> None:
    keys = checked.iam.create_access_key(UserName="nobody")["AccessKey"]
    caller = Aws(REGION, endpoint=endpoint, attempts=1)
    caller.session._session.set_credentials(keys["AccessKeyId"], "another secret")
    _check(endpoint, "0")
    with pytest.raises(errors.CredentialsError, match="AWS does not know these credentials"):
        assert caller.account
