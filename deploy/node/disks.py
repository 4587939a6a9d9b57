"""Disks beside the root: formatted where they are blank, and mounted for Spark at every boot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

from . import configuration

INSTANCE_STORE = "Amazon EC2 NVMe Instance Storage"
VOLUME = "Amazon Elastic Block Store"
# Tells our file systems from others, which are left alone.
LABEL = "sparknn"
MOUNTS = "/mnt/sparknn"


def plan(lsblk: str) -> list[tuple[str, str, bool]]:
    """What is done with which disk, from lsblk's JSON: (device, mount point, whether to format).

    Only whole disks of EC2's without partitions and mount point. Instance store comes back blank
    after a stop, a volume with the file system that the first boot has given it.
    """
    found = []
    for disk in json.loads(lsblk)["blockdevices"]:
        model = (disk["model"] or "").strip()
        if disk["type"] != "disk" or model not in (INSTANCE_STORE, VOLUME):
            continue
        if disk.get("children") or disk["mountpoint"]:
            continue
        if not disk["fstype"] or disk["label"] == LABEL:
            path = disk["path"]
            found.append((path, f"{MOUNTS}/{os.path.basename(path)}", not disk["fstype"]))
    return sorted(found)


def mount() -> None:
    """Format and mount, and tell Spark's units which directories are theirs."""
    columns = "PATH,TYPE,MODEL,MOUNTPOINT,FSTYPE,LABEL"
    lsblk = subprocess.run(
        ["lsblk", "--json", "--output", columns], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    for device, folder, blank in plan(lsblk):
        if blank:
            # No reserved blocks and no discarding of what is blank: ready within a second.
            options = ["-F", "-q", "-m", "0", "-L", LABEL, "-E", "nodiscard,lazy_itable_init=1"]
            subprocess.run(["mkfs.ext4", *options, device], check=True)
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-o", "noatime", device, folder], check=True)
    # Those that are mounted already count too: this may run twice in one boot.
    names = sorted(os.listdir(MOUNTS)) if os.path.isdir(MOUNTS) else []
    folders = [f"{MOUNTS}/{name}/local" for name in names if os.path.ismount(f"{MOUNTS}/{name}")]
    write_local_directories(folders or [configuration.STATE + "/local"])


def write_local_directories(folders: list[str]) -> None:
    """Make the directories, give them to Spark's account, and name them for its units."""
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        shutil.chown(folder, configuration.ACCOUNT, configuration.ACCOUNT)
        os.chmod(folder, 0o700)
    os.makedirs(configuration.RUNTIME, exist_ok=True)
    with open(configuration.RUNTIME + "/disks.env", "w") as file:
        file.write(configuration.environment_file({"SPARK_LOCAL_DIRS": ",".join(folders)}))
