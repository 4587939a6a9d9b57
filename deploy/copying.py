"""Copying files from this machine to a cluster's, by way of the bucket."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from deploy import ssm
from deploy.aws.session import Aws
from deploy.cluster import Cluster
from deploy.errors import RemoteError, SettingsError
from deploy.s3 import Folder, file_digest

__all__ = ["copy"]


def copy(
    aws: Aws, cluster: Cluster, local: Path, remote: str, machines: Sequence[str]
) -> list[ssm.Answer]:
    """Copy a file, or a directory with all that is in it, to the same path on machines.

    remote : an absolute path; one that ends with a slash takes the file's own name.

    Raises
    ------
    SettingsError
        If a path cannot be used.
    RemoteError
        If a machine could not take it.
    """
    if not remote.startswith("/"):
        raise SettingsError(f"{remote}: name an absolute path on the machines")
    if remote.endswith("/") and not local.is_dir():
        remote += local.name
    targets = {local: remote}
    if local.is_dir():
        inside = sorted(path for path in local.rglob("*") if path.is_file())
        targets = {path: f"{remote.rstrip('/')}/{path.relative_to(local)}" for path in inside}
    if not targets:
        raise SettingsError(f"{local} holds no file")
    lines = ["set -e"]
    folder = Folder(aws, cluster.bucket, "")
    for path, target in targets.items():
        digest = file_digest(path)
        key = f"{cluster.prefix}/run/{cluster.launch_id}/files/{digest}"
        folder.upload(path, key)
        lines.append(f"mkdir -p {shlex.quote(str(Path(target).parent))}")
        lines.append(shlex.join([ssm.NODE, "fetch", key, digest, target]))
    answers = ssm.run(aws, machines, ssm.shell_script("\n".join(lines)), 3600)
    for answer in answers:
        if answer.status != 0:
            raise RemoteError(f"{answer.machine} did not take {local}: {answer.problem}")
    return answers
