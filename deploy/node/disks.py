"""Instance-store disks: blank at every boot, and then formatted and mounted for Spark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

from . import configuration

MODEL = "Amazon EC2 NVMe Instance Storage"
MOUNTS = "/mnt/sparknn"


def plan(lsblk: str) -> list[tuple[str, str]]:
    """Which device is mounted where: (device, mount point), from lsblk's JSON.

    Only whole disks of instance store which carry nothing: no partition, no mount point.
    """
    devices = json.loads(lsblk)["blockdevices"]
    blank = sorted(
        device["path"]
        for device in devices
        if device["type"] == "disk"
        and (device["model"] or "").strip() == MODEL
        and not device.get("children")
        and not device["mountpoint"]
    )
    return [(path, f"{MOUNTS}/{os.path.basename(path)}") for path in blank]


def mount() -> None:
    """Format and mount, and tell Spark's units which directories are theirs."""
    columns = "PATH,TYPE,MODEL,MOUNTPOINT"
    lsblk = subprocess.run(
        ["lsblk", "--json", "--output", columns], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    for device, folder in plan(lsblk):
        # No reserved blocks and no discarding of a disk that is blank: ready within a second.
        options = ["-F", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1"]
        subprocess.run(["mkfs.ext4", *options, device], check=True)
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-o", "noatime", device, folder], check=True)
    # Those that are mounted already count too: this may run twice in one boot.
    mounted = sorted(os.listdir(MOUNTS)) if os.path.isdir(MOUNTS) else []
    folders = [f"{MOUNTS}/{name}" for name in mounted if os.path.ismount(f"{MOUNTS}/{name}")]
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
