"""A whole cluster of test hosts: its bucket, its policy, its user data and its machines."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import jvm
from botocore.config import Config

from deploy.aws import policy
from deploy.aws.policy import Grants
from deploy.boot import closure
from deploy.boot.userdata import NodeSettings, render
from deploy.node import layout
from hosts.lab import ACCOUNT, ENDPOINT, Host, Lab

REGION = "eu-west-1"
BUCKET = "lab-bucket"
PREFIX = "sparknn/lab"
SECRET_NAME = "/sparknn/lab/secret"
SECRET = "f00dfeed" * 8
GROUP = "sparknn-lab-workers"

PATIENCE = 600
"""Seconds after which what should happen will not: three machines boot on the cores of one."""


def machine_policy() -> dict[str, Any]:
    """The policy that a launch gives its machines, with the master's own beside it."""
    data = Grants((f"s3://{BUCKET}/input",), (f"s3://{BUCKET}/output",))
    where = ("aws", REGION, ACCOUNT)
    own = policy.machine_policy(*where, BUCKET, PREFIX, SECRET_NAME, data)
    idle = policy.idle_statement(*where, GROUP, "i-master")
    return {**own, "Statement": own["Statement"] + idle["Statement"]}


def python_version() -> str:
    """Of the Python that the hosts have."""
    said = subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True, check=True)
    return re.search(r"3\.\d+", said.stdout).group()


def build_boot_files(directory: Path) -> dict[str, str]:
    """The boot files for hosts on this machine."""
    architecture = "arm64" if platform.machine() == "aarch64" else "x86_64"
    return dict(closure.build(architecture, python_version(), [], directory))


def until(what: Callable[[], Any], seconds: float, why: Callable[[], str] = lambda: "") -> Any:
    """Ask until the answer is true, for so long; returns the answer."""
    limit = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > limit:
            raise TimeoutError(f"nothing after {seconds} s\n{why()}")
        time.sleep(0.5)


class Cluster:
    """A laboratory with the AWS side of one cluster in it.

    Parameters
    ----------
    folder : for the laboratory's files.
    files : the boot files: where they are, and their SHA-256.
    """

    def __init__(self, folder: Path, directory: Path, files: dict[str, str]) -> None:
        self.lab = Lab(folder)
        self.lab.tell("roles", {"node": machine_policy(), "stranger": {"Statement": []}})
        self.settings = NodeSettings(
            role="worker",
            cluster="lab",
            launch_id="launch-1",
            region=REGION,
            bucket=BUCKET,
            prefix=PREFIX,
            secret_parameter=SECRET_NAME,
            files=files,
            account=ACCOUNT,
            group=GROUP,
            endpoints=dict.fromkeys(("s3", "ssm", "autoscaling"), ENDPOINT),
            python_version=python_version(),
        )
        with self.lab.network():
            self._prepare(directory, files)

    def client(self, service: str) -> Any:
        """A caller's client; to be used within `lab.network()`."""
        return boto3.client(
            service, endpoint_url=ENDPOINT, region_name=REGION, aws_access_key_id="caller",
            aws_secret_access_key="caller", config=Config(retries={"max_attempts": 1}),
        )  # fmt: skip

    def _prepare(self, directory: Path, files: dict[str, str]) -> None:
        s3 = self.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        for name in files:
            s3.upload_file(str(directory / name), BUCKET, layout.boot_key(PREFIX, name))
        self.client("ssm").put_parameter(Name=SECRET_NAME, Value=SECRET, Type="SecureString")
        scaling = self.client("autoscaling")
        scaling.create_launch_configuration(
            LaunchConfigurationName="lab", ImageId="ami-1", InstanceType="m7g.large"
        )
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=GROUP, LaunchConfigurationName="lab", MinSize=0, MaxSize=0,
            DesiredCapacity=0, AvailabilityZones=[REGION + "a"],
        )  # fmt: skip
        scaling.update_auto_scaling_group(AutoScalingGroupName=GROUP, MaxSize=2)

    def boot(self, name: str, user: str = "node", **changes: Any) -> Host:
        """Boot a host from user data as `render` makes it; `user` is its instance profile."""
        return self.lab.boot(name, render(dataclasses.replace(self.settings, **changes)), user)

    def get(self, key: str) -> bytes | None:
        """An object of the bucket; None where there is none."""
        with self.lab.network():
            s3 = self.client("s3")
            found = s3.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])
            if key not in [one["Key"] for one in found]:
                return None
            return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def put(self, key: str, body: bytes) -> str:
        """Write an object, and say its SHA-256."""
        with self.lab.network():
            self.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
        return hashlib.sha256(body).hexdigest()

    def keys(self, prefix: str) -> list[str]:
        """The keys of the bucket that begin so."""
        with self.lab.network():
            pages = self.client("s3").get_paginator("list_objects_v2")
            found = pages.paginate(Bucket=BUCKET, Prefix=prefix)
            return [one["Key"] for page in found for one in page.get("Contents", [])]

    def report(self, host: Host, seconds: float = PATIENCE) -> dict[str, Any]:
        """What a host has said of itself, waited for: that it is ready, or has failed."""
        launch = self.settings.launch_id
        keys = [
            layout.ready_key(PREFIX, launch, host.name),
            f"{layout.failed_prefix(PREFIX, launch)}{host.name}.json",
        ]

        def said() -> bytes | None:
            return self.get(keys[0]) or self.get(keys[1])

        return json.loads(until(said, seconds, lambda: self.explain(host)))

    def explain(self, host: Host) -> str:
        """What a host has logged, for a test that fails."""
        if not host.is_up():
            return host.console()
        logs = "tail -n 40 /var/log/cloud-init-output.log /var/log/units/* 2>/dev/null"
        return host.console() + host.run(logs, check=False).stdout

    def submit(self, host: Host, job: str, script: Path, *arguments: str) -> None:
        """Start a job on the master, as the caller's side does."""
        key = layout.upload_key(PREFIX, self.settings.launch_id, job, script.name)
        sha256 = self.put(key, script.read_bytes())
        words = " ".join(f"'{word}'" for word in arguments)
        # Three machines share the cores of one.
        sides = ("driver", "executor")
        quick = " ".join(f"--conf 'spark.{side}.extraJavaOptions={jvm.QUICK}'" for side in sides)
        file = f"--file {script.name} {key} {sha256}"
        host.run(f"sparknn-node submit {job} {file} {quick} -- {words}")

    def wait(self, host: Host, job: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """A job's last status."""

        def ended() -> dict[str, Any] | None:
            about = json.loads(host.run(f"sparknn-node status {job}").stdout)
            return about if about["state"] not in ("submitted", "running") else None

        return until(ended, seconds, lambda: self.explain(host) + self.output(host, job))

    def output(self, host: Host, job: str) -> str:
        """The end of what a job has said."""
        return host.run(f"sparknn-node logs {job} | tail -n 40", check=False).stdout


@contextmanager
def cluster(folder: Path, directory: Path, files: dict[str, str]) -> Iterator[Cluster]:
    """A cluster without machines, which is gone at the end."""
    made = Cluster(folder, directory, files)
    try:
        yield made
    finally:
        made.lab.close()
