"""User data: small, the same for all but its role, and without anything secret."""

import ast
import dataclasses
import hashlib
import json
import zipfile

import pytest

from deploy.boot.closure import pack_node
from deploy.boot.userdata import LIMIT, NodeSettings, render
from deploy.errors import UserDataError


def settings(files: int = 25, **changes) -> NodeSettings:
    wheel = "a-package-{}-1.2.3-cp312-cp312-manylinux_2_17_x86_64.whl"
    digests = {wheel.format(i): hashlib.sha256(str(i).encode()).hexdigest() for i in range(files)}
    return dataclasses.replace(
        NodeSettings(
            role="worker",
            cluster="night",
            launch_id="20260101-abcdef",
            region="eu-west-1",
            bucket="bucket",
            prefix="sparknn/night",
            secret_parameter="/sparknn/night/secret",
            files=digests,
            account="123456789012",
            group="sparknn-night-workers",
        ),
        **changes,
    )


def test_master_and_worker_differ_in_one_line():
    worker, master = (render(settings(role=role)).splitlines() for role in ("worker", "master"))
    different = [pair for pair in zip(worker, master, strict=True) if pair[0] != pair[1]]
    assert different == [('ROLE = "worker"', 'ROLE = "master"')]


def test_it_is_a_script_that_python_39_reads_and_fits_ec2s_limit():
    text = render(settings(spark_conf={"spark.x": 'a "quoted" \\ value'}))
    assert text.startswith("#!/usr/bin/python3\n")
    assert len(text.encode()) < LIMIT
    tree = ast.parse(text, feature_version=(3, 9))
    values = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    carried = json.loads(values["SETTINGS"])
    assert carried["spark_conf"]["spark.x"] == 'a "quoted" \\ value'
    assert carried["files"] == settings().files


def test_too_many_files_are_refused_before_ec2_does():
    with pytest.raises(UserDataError, match="--requirements"):
        render(settings(files=150))


def test_every_program_of_a_machine_is_read_by_python_39(tmp_path):
    with zipfile.ZipFile(pack_node(tmp_path / "node.pyz")) as archive:
        names = archive.namelist()
        for name in names:
            ast.parse(archive.read(name), name, feature_version=(3, 9))
    assert "__main__.py" in names and "deploy/node/aws.py" in names


def test_the_machines_program_is_the_same_bytes_every_time(tmp_path):
    first, second = (pack_node(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second
