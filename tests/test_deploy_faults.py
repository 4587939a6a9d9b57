"""Faults at each call to AWS in turn: whatever happens, `destroy` leaves the account as it was.

The inventory is of the whole account, tagged or not. Another cluster, whose name begins with this
one's, is there all the time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deploy_helpers import (
    Fault,
    changes,
    connect,
    inventory,
    launched,
    names,
    quiet,
    settings,
)

from deploy import errors
from deploy.aws.session import Aws
from deploy.destroy import destroy, leftovers
from deploy.plan import make_plan

NEIGHBOUR = "one-more"
MOST = 60


@pytest.fixture
def before(aws: Aws, endpoint: str) -> dict[str, Any]:
    """The account with another cluster in it."""
    launched(aws, endpoint, NEIGHBOUR)
    return inventory(aws)


def destroy_twice(aws: Aws) -> None:
    """Destroy the cluster, and see that a second time there is nothing to do."""
    destroy(aws, names("one"), quiet)
    assert destroy(aws, names("one"), quiet) == []


@pytest.mark.parametrize("way", ["refused", "lost"])
def test_a_launch_in_which_any_one_change_fails_cleans_up_after_itself(
    aws: Aws, endpoint: str, before: dict[str, Any], way: str
) -> None:
    hit = []
    plan = make_plan(aws, settings(endpoint, auto_terminate=3600))
    for number in range(MOST):
        faulty = connect(endpoint)
        fault = Fault(faulty, number, way)
        try:
            launched(faulty, endpoint, plan=plan)
        except errors.DeployError:
            assert fault.hit
        if not fault.hit:
            destroy_twice(aws)
            break
        hit.append(fault.hit)
        assert inventory(aws) == before, f"{fault.hit} {way}"
        assert destroy(aws, names("one"), quiet) == [], f"{fault.hit} {way}"
    assert inventory(aws) == before
    assert {"ssm.PutParameter", "ec2.RunInstances", "iam.CreateRole"} <= set(hit)
    assert "auto-scaling.PutScheduledUpdateGroupAction" in hit


def test_a_launch_in_which_any_one_question_is_refused_leaves_nothing(
    aws: Aws, endpoint: str, before: dict[str, Any]
) -> None:
    for number in range(MOST):
        faulty = connect(endpoint)
        fault = Fault(faulty, number, "refused", counts=lambda call: not changes(call))
        try:
            launched(faulty, endpoint)
        except errors.DeployError:
            assert fault.hit
        if not fault.hit:
            break
        assert inventory(aws) == before, fault.hit
    assert number > 8


@pytest.fixture
def killer(aws: Aws, endpoint: str) -> Iterator[Callable[[int], int]]:
    """A function that has a launch killed after its n-th change, and returns its exit status."""
    tests = Path(__file__).resolve().parent
    path = os.pathsep.join([str(tests), str(tests.parent)])
    process = subprocess.Popen(
        [sys.executable, str(tests / "scripts" / "deploy_killed.py"), endpoint],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    to, back = process.stdin, process.stdout

    def kill(number: int) -> int:
        print(number, file=to, flush=True)
        return int(back.readline())

    yield kill
    to.close()
    back.close()
    assert process.wait(30) == 0


def test_a_launch_killed_after_any_change_is_removed_by_destroy(
    aws: Aws, before: dict[str, Any], killer: Callable[[int], int]
) -> None:
    for number in range(MOST):
        status = killer(number)
        if status == 7:
            break
        assert status == -signal.SIGKILL
        assert leftovers(aws, names("one")), number
        destroy_twice(aws)
        assert inventory(aws) == before, number
    assert number >= 13
    destroy_twice(aws)
    assert inventory(aws) == before


@pytest.mark.parametrize("way", ["refused", "lost"])
def test_a_destroy_in_which_any_one_change_fails_can_be_repeated(
    aws: Aws, endpoint: str, before: dict[str, Any], way: str
) -> None:
    plan = make_plan(aws, settings(endpoint, auto_terminate=3600))
    for number in range(MOST):
        launched(aws, endpoint, plan=plan)
        faulty = connect(endpoint)
        fault = Fault(faulty, number, way)
        try:
            destroy(faulty, names("one"), quiet)
        except errors.LeftoverError as error:
            assert "deploy destroy one" in str(error)
        destroy_twice(aws)
        assert inventory(aws) == before, f"{fault.hit} {way}"
        if not fault.hit:
            break
    assert number >= 9


def test_the_name_stays_taken_while_anything_is_left(aws: Aws, endpoint: str) -> None:
    launched(aws, endpoint)
    faulty = connect(endpoint)
    Fault(faulty, 0, "refused", counts=lambda call: call == "ec2.DeleteSecurityGroup")
    with pytest.raises(errors.LeftoverError, match="sg-"):
        destroy(faulty, names("one"), quiet)
    with pytest.raises(errors.NameInUseError):
        launched(aws, endpoint)
    assert [one.kind for one in leftovers(aws, names("one"))] == ["security group", "parameter"]


def test_destroy_empties_versioned_folders_and_unfinished_uploads_but_keeps_logs(
    aws: Aws, endpoint: str
) -> None:
    aws.s3.put_bucket_versioning(
        Bucket="tests-bucket", VersioningConfiguration={"Status": "Enabled"}
    )
    before = inventory(aws)
    launched(aws, endpoint)
    base = "sparknn/one"
    aws.s3.put_object(Bucket="tests-bucket", Key=f"{base}/boot/node.pyz", Body=b"anew")
    aws.s3.create_multipart_upload(Bucket="tests-bucket", Key=f"{base}/boot/large.whl")
    aws.s3.put_object(Bucket="tests-bucket", Key=f"{base}/run/x/master.json", Body=b"{}")
    aws.s3.put_object(Bucket="tests-bucket", Key=f"{base}/logs/job/status.json", Body=b"{}")
    aws.s3.put_object(Bucket="tests-bucket", Key="sparknn/one-more/boot/kept", Body=b"")
    destroy_twice(aws)
    keys = [key for key, _ in inventory(aws)["objects of tests-bucket"]]
    assert keys == ["sparknn/one-more/boot/kept", f"{base}/logs/job/status.json"]
    aws.s3.delete_objects(
        Bucket="tests-bucket",
        Delete={
            "Objects": [
                {"Key": one["Key"], "VersionId": one["VersionId"]}
                for one in aws.s3.list_object_versions(Bucket="tests-bucket")["Versions"]
            ]
        },
    )
    assert inventory(aws) == before
