"""The commands about clusters, from the command line to the stand-in for AWS and back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from deploy_helpers import (
    BUCKET,
    TYPE,
    few_files,
    inventory,
    launched,
    names,
    one_session,
    some_image,
)

from deploy import ssm
from deploy.aws import group, instances
from deploy.aws.session import Aws
from deploy.boot import closure
from deploy.cli import cli

Run = Callable[..., Result]


@pytest.fixture
def run(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A function that calls `python -m deploy` with words, in an empty directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(closure, "build", few_files)
    session = boto3.Session

    def shared(profile_name: str | None, region_name: str | None) -> Any:
        # Without what it goes by, a session must fail by itself.
        usual = profile_name is None and region_name and "AWS_ACCESS_KEY_ID" in os.environ
        return (
            one_session() if usual else session(profile_name=profile_name, region_name=region_name)
        )

    monkeypatch.setattr(boto3, "Session", shared)

    def call(*words: str) -> Result:
        return CliRunner().invoke(cli, [str(word) for word in words])

    return call


def answer(result: Result) -> Any:
    """Return the JSON of a call that went well."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def error(result: Result, status: int) -> str:
    """Return the one line of a call that went wrong with a status."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("deploy: ")]
    return line


def launch_words(endpoint: str, name: str = "one", *more: str) -> list[str]:
    image = some_image(endpoint)
    words = ["launch", name, "--bucket", BUCKET, "--ami", image, "--instance-type", TYPE]
    return [*words, "--no-wait", *more]


def test_launch_list_describe_destroy(aws: Aws, endpoint: str, run: Run) -> None:
    before = inventory(aws)
    made = answer(run(*launch_words(endpoint, "one", "--workers", "2", "--json")))
    assert (made["name"], made["workers_wanted"], len(made["workers"])) == ("one", 2, 2)
    launched(aws, endpoint, "one-more")
    listed = answer(run("list", "--json"))
    assert [(one["name"], one["master"], one["workers"]) for one in listed] == [
        ("one", "running", 2),
        ("one-more", "running", 1),
    ]
    about = answer(run("describe", "one", "--json"))
    assert about["state"] == "running"
    assert about["master"]["type"] == TYPE
    assert about["dollars_an_hour"] > 3 * 0.192
    address = run("describe", "one", "--master-address").stdout.strip()
    assert address in (about["master"]["public"], about["master"]["private"])
    assert "master: i-" in run("describe", "one").stdout

    assert "add --yes" in error(run("destroy", "one"), 2)
    gone = answer(run("destroy", "one", "--yes", "--json"))
    assert {"parameter /sparknn/one/secret", "role sparknn-one-us-east-1"} <= set(gone["removed"])
    assert answer(run("destroy", "one", "--yes", "--json"))["removed"] == []
    assert [one["name"] for one in answer(run("list", "--json"))] == ["one-more"]
    assert run("destroy", "one-more", "--yes").exit_code == 0
    assert inventory(aws) == before


def test_plan_and_dry_run_print_all_and_make_nothing(aws: Aws, endpoint: str, run: Run) -> None:
    before = inventory(aws)
    words = launch_words(endpoint, "one", "--dry-run", "--read", "s3://data/in")
    text = run(*words).stdout
    assert "security group sparknn-one" in text
    assert '"arn:aws:s3:::data/in/*"' in text
    assert "dollars an hour (us-east-1, " in text
    image = some_image(endpoint)
    planned = run("plan", "one", "--bucket", BUCKET, "--ami", image, "--instance-type", TYPE)
    assert planned.exit_code == 0 and "auto scaling group sparknn-one" in planned.stdout
    assert inventory(aws) == before


def test_workers_are_added_removed_stopped_and_brought_back(
    aws: Aws, endpoint: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(aws, endpoint, workers=2)
    assert answer(run("add-workers", "one", "2", "--no-wait", "--json"))["workers"] == 4
    workers = [one for one in instances.find(aws, names("one")) if one.role == "worker"]
    told: list[tuple[list[str], list[str]]] = []

    def on_machines(aws: Aws, machines: list[str], words: list[str], seconds: int) -> list[Any]:
        told.append((machines, words))
        # What a machine prints that Spark has not let go of in time.
        said = ["late\n", *[""] * len(machines)]
        return [ssm.Answer(machine, 0, said.pop(0), "", "Success") for machine in machines]

    monkeypatch.setattr("deploy.cluster.on_machines", on_machines)
    removed = run("remove-workers", "one", "2", "--yes", "--json")
    assert answer(removed)["workers"] == 2
    ((machines, words),) = told
    assert f"{machines[0]} late" in removed.stderr and machines[1] not in removed.stderr
    assert words == ["decommission"] and len(machines) == 2
    left = {one.id for one in instances.find(aws, names("one")) if one.role == "worker"}
    assert left == {one.id for one in workers} - set(machines)
    oldest = min(one.launched for one in workers if one.id in machines)
    assert all(one.launched <= oldest for one in workers if one.id in left)

    assert answer(run("stop", "one", "--yes", "--json"))["state"] == "stopping"
    about = answer(run("describe", "one", "--json"))
    assert (about["state"], about["workers"]) == ("stopped", [])
    assert "deploy start one" in error(run("kill", "one", "j"), 4)
    assert answer(run("start", "one", "--no-wait", "--json"))["workers"] == 2
    about = answer(run("describe", "one", "--json"))
    assert (about["state"], len(about["workers"])) == ("running", 2)
    assert answer(run("reboot-workers", "one", "--yes", "--json"))["rebooted"] == 2


def test_a_worker_that_does_not_let_go_is_not_removed_without_force(
    aws: Aws, endpoint: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(aws, endpoint, workers=2)

    def fail(aws: Aws, machines: list[str], words: list[str], seconds: int) -> list[Any]:
        return [ssm.Answer(machine, 1, "", "no such unit", "Failed") for machine in machines]

    monkeypatch.setattr("deploy.cluster.on_machines", fail)
    assert "no such unit" in error(run("remove-workers", "one", "1", "--yes"), 1)
    assert (found := group.find(aws, names("one"))) and found.desired == 2
    assert run("remove-workers", "one", "1", "--yes", "--force").exit_code == 0
    assert "has 1 workers" in error(run("remove-workers", "one", "2", "--yes"), 4)


def test_destroy_keeps_logs_and_purges_them_when_told_to(aws: Aws, endpoint: str, run: Run) -> None:
    before = inventory(aws)
    launched(aws, endpoint)
    key = "sparknn/one/logs/job/status.json"
    status = {"job": "job", "state": "finished", "exit": 0}
    aws.s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(status).encode())
    out = "sparknn/one/logs/job/stdout/000000"
    aws.s3.put_object(Bucket=BUCKET, Key=out, Body=b"hello\n")
    gone = answer(run("destroy", "one", "--yes", "--json"))
    assert gone["kept"] == [f"s3://{BUCKET}/sparknn/one/logs/"]
    assert "--bucket" in error(run("jobs", "one"), 3)
    assert answer(run("jobs", "one", "--bucket", BUCKET, "--json")) == [status]
    assert run("logs", "one", "--bucket", BUCKET, "--stream", "stdout").stdout == "hello\n"
    gone = answer(run("destroy", "one", "--bucket", BUCKET, "--purge", "--yes", "--json"))
    assert gone["removed"] == [f"s3://{BUCKET}/sparknn/one/logs/"]
    assert inventory(aws) == before


def test_errors_are_one_line_with_a_status(aws: Aws, endpoint: str, run: Run) -> None:
    assert "no cluster 'two'" in error(run("describe", "two"), 3)
    launched(aws, endpoint)
    assert "'one' is in use" in error(run(*launch_words(endpoint)), 4)
    assert "cannot name a cluster" in error(run("describe", "One_Two"), 2)
    result = run("describe", "two", "--json")
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (3, 3)
    words = [*launch_words(endpoint, "three")[:2], "--bucket", "no-such-bucket"]
    assert "make-bucket no-such-bucket" in error(run(*words, "--instance-type", TYPE), 2)


def test_without_credentials_or_region_it_says_what_to_do(
    aws: Aws, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "aws configure" in error(run("list"), 5)
    assert "list-profiles" in error(run("list", "--profile", "nobody"), 5)
    monkeypatch.delenv("AWS_REGION")
    assert "--region" in error(run("list"), 2)


def test_cluster_toml_sets_defaults_and_the_command_line_wins(
    aws: Aws, endpoint: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "cluster.toml").write_text(
        f"""
        bucket = "{BUCKET}"
        [launch]
        ami = "{some_image(endpoint)}"
        instance-type = "{TYPE}"
        workers = 3
        read = ["s3://data/in"]
        [launch.tag]
        team = "forecasts"
        """
    )
    plan = answer(run("plan", "one", "--workers", "2", "--json"))
    found = {one["kind"]: one["properties"] for one in plan["resources"]}
    assert found["auto scaling group"]["workers"] == 2
    assert "arn:aws:s3:::data/in" in json.dumps(found["role"])
    assert run("launch", "one", "--no-wait").exit_code == 0
    (made,) = aws.autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert ("team", "forecasts") in [(tag["Key"], tag["Value"]) for tag in made["Tags"]]
    (tmp_path / "cluster.toml").write_text("wrokers = 3")
    assert "no option 'wrokers'" in error(run("list"), 2)


def test_configure_makes_the_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    path = tmp_path / "mine.toml"
    located = run("--config", str(path), "configure", "--locate")
    assert located.stdout.strip() == str(path) and not path.exists()
    assert run("--config", str(path), "configure").exit_code == 0
    assert "[launch]" in path.read_text()


def test_run_destroys_the_cluster_and_ends_with_the_jobs_status(
    aws: Aws, endpoint: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machines are played: they report ready, and the job has ended when it is asked for."""
    from deploy import launch

    before = inventory(aws)
    script = tmp_path / "job.py"
    script.write_text("print('{}')")
    monkeypatch.setattr(launch, "wait_until_ready", lambda *_: 1)

    def played(aws: Aws, master: str, words: list[str]) -> str:
        job = words[1]
        base = f"sparknn/one/logs/{job}"
        body = json.dumps({"job": job, "state": "failed", "exit": 7}).encode()
        aws.s3.put_object(Bucket=BUCKET, Key=f"{base}/stdout/000000", Body=b'{"accuracy": 1}\n')
        aws.s3.put_object(Bucket=BUCKET, Key=f"{base}/status.json", Body=body)
        return ""

    monkeypatch.setattr(ssm, "on_master", played)
    words = launch_words(endpoint)[2:]
    words.remove("--no-wait")
    result = run("run", "one", script, *words)
    assert (result.exit_code, result.stdout) == (7, '{"accuracy": 1}\n')
    assert inventory(aws)["instances"] == before["instances"]
    result = run("run", "one", script, *words, "--keep-on-failure")
    assert result.exit_code == 7 and "deploy destroy one" in result.stderr
    assert len(inventory(aws)["instances"]) == 2

    def interrupted(aws: Aws, master: str, words: list[str]) -> str:
        raise KeyboardInterrupt

    assert run("destroy", "one", "--yes").exit_code == 0
    monkeypatch.setattr(ssm, "on_master", interrupted)
    assert run("run", "one", script, *words).exit_code == 130
    assert inventory(aws)["instances"] == before["instances"]
    refused = run("run", "one", script, *words, "--", "--input", "s3a://other/in")
    assert "s3a://other/in may not be read" in error(refused, 2)
    (tmp_path / "job.toml").write_text('input = "s3a://other/in"')
    refused = run("run", "one", script, *words, "--file", "job.toml", "--", "--config", "job.toml")
    assert "s3a://other/in may not be read" in error(refused, 2)
