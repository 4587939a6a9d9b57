"""User data: the script with which every machine of a cluster boots.

It carries the launch's settings, the SHA-256 of every boot file and the code that fetches them;
everything else is in the files. See docs/deploy-nodes.md.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.errors import UserDataError
from sparknn.cli.jars import committing

# EC2's limit, before base64.
LIMIT = 16384

NODE = Path(__file__).resolve().parent.parent / "node"


@dataclass(frozen=True)
class NodeSettings:
    """What a machine must know to come up: nothing in it is secret.

    Parameters
    ----------
    role : "master" or "worker".
    cluster : the cluster's name.
    launch_id : tells this launch's machines from those of an earlier one of the same name.
    region : the AWS region.
    bucket, prefix : where the cluster's `boot/`, `run/` and `logs/` lie (see `deploy.node.layout`).
    secret_parameter : name of the SecureString parameter that holds Spark's secret.
    files : boot file → SHA-256 in hexadecimal.
    account : the twelve digits of the account that must own the bucket.
    group : the name of the workers' Auto Scaling group.
    spark_conf : lines of spark-defaults.conf that the user adds; they win over ours.
    idle_seconds : how long nothing may happen before the cluster ends itself; None for ever.
    deadline : when every machine shuts down, in seconds since the epoch; None for never.
    endpoints : service ("s3", "ssm", "autoscaling") → URL, instead of the public endpoints.
    python_version : the Python for which the wheels are, as "3.12".
    """

    role: str
    cluster: str
    launch_id: str
    region: str
    bucket: str
    prefix: str
    secret_parameter: str
    files: Mapping[str, str]
    account: str
    group: str
    spark_conf: Mapping[str, str] = field(default_factory=dict)
    idle_seconds: int | None = 3600
    deadline: int | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    python_version: str = "3.12"


def render(settings: NodeSettings) -> str:
    """The user data of a machine: a script for cloud-init, the same for all but one line, the role.

    Raises
    ------
    UserDataError
        When it is over EC2's 16 KB, which it is at some sixty boot files.
    """
    shared = dataclasses.asdict(settings)
    role = shared.pop("role")
    shared["spark_conf"] = committing() | shared["spark_conf"]
    if role not in ("master", "worker"):
        raise ValueError(f"role must be 'master' or 'worker', not {role!r}")
    program = zlib.compress((NODE / "aws.py").read_bytes(), 9)
    text = Path(__file__).with_name("userdata.py.in").read_text(encoding="utf-8")
    for name, value in (
        ("ROLE", role),
        ("SETTINGS", json.dumps(shared, indent=0, sort_keys=True)),
        ("PROGRAM", base64.encodebytes(program).decode().strip()),
    ):
        text = text.replace(f"@{name}@", value)
    if len(text.encode()) > LIMIT:
        raise UserDataError(
            f"the user data has {len(text.encode())} bytes with {len(settings.files)} boot files, "
            f"and EC2 takes {LIMIT}: name fewer packages in --requirements, or fewer --conf"
        )
    return text
