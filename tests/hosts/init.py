"""The first process of a test host: makes its root, then hands over to the stand-in for systemd.

python init.py FOLDER NAME ADDRESS, in new mount, PID, host-name and network namespaces.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def make_root(folder: Path) -> None:
    """A copy-on-write root over this machine's, and become its inhabitant.

    What the machine has mounted elsewhere is not there: /proc, /dev, /run and /tmp are new.
    """
    mount("--make-rprivate", "/")
    space = folder / "space"
    space.mkdir()
    mount("-t", "tmpfs", "-o", "size=6g", "space", str(space))
    for name in ("upper", "work", "root"):
        (space / name).mkdir()
    layers = f"lowerdir=/,upperdir={space}/upper,workdir={space}/work"
    root = space / "root"
    mount("-t", "overlay", "overlay", "-o", layers, str(root))
    for name in ("run", "tmp"):
        mount("-t", "tmpfs", name, str(root / name))
    (root / "tmp").chmod(0o1777)
    mount("-t", "tmpfs", "-o", "mode=755", "dev", str(root / "dev"))
    for name in DEVICES:
        (root / "dev" / name).touch()
        mount("--bind", f"/dev/{name}", str(root / "dev" / name))
    for name in ("shm", "pts"):
        (root / "dev" / name).mkdir()
    mount("-t", "tmpfs", "shm", str(root / "dev/shm"))
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666", "pts", str(root / "dev/pts"))
    os.symlink("pts/ptmx", root / "dev/ptmx")
    os.symlink("/proc/self/fd", root / "dev/fd")
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("-t", "sysfs", "-o", "ro", "sysfs", str(root / "sys"))
    install_stand_ins(root)
    user_data = folder / "user-data"
    if user_data.exists():
        target = root / "var/lib/cloud/user-data"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(user_data.read_bytes())
        target.chmod(0o700)
    old = root / "mnt"
    subprocess.run(["pivot_root", str(root), str(old)], check=True)
    os.chdir("/")
    subprocess.run(["umount", "--lazy", "/mnt"], check=True)


def install_stand_ins(root: Path) -> None:
    """The manager and its two commands, in front of the real ones in PATH."""
    library = root / "opt/stand-in"
    library.mkdir(parents=True)
    (library / "manager.py").write_bytes((HERE / "manager.py").read_bytes())
    for name in ("systemctl", "systemd-run"):
        command = root / "usr/local/bin" / name
        command.unlink(missing_ok=True)
        command.write_text(
            f'#!/bin/sh\nexec /usr/bin/python3 /opt/stand-in/manager.py {name} "$@"\n'
        )
        command.chmod(0o755)


def set_network(name: str, address: str) -> None:
    """Wait for the cable, then take the address; the names of the machine's own network go."""
    socket.sethostname(name)
    Path("/etc/hostname").write_text(name + "\n")
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
    # A link elsewhere, on some machines.
    Path("/etc/resolv.conf").unlink(missing_ok=True)
    Path("/etc/resolv.conf").write_text("")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    while not Path("/sys/class/net/eth0").exists():
        time.sleep(0.05)
    subprocess.run(["ip", "address", "add", f"{address}/24", "dev", "eth0"], check=True)
    subprocess.run(["ip", "link", "set", "eth0", "up"], check=True)
    subprocess.run(["ip", "route", "add", "default", "via", "10.77.0.1"], check=True)


def reap(manager: int) -> None:
    """Bury orphans until the manager ends, and with it the host."""
    while True:
        child, _ = os.wait()
        if child == manager:
            return


def main() -> None:
    folder, name, address = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    make_root(folder)
    set_network(name, address)
    environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    manager = os.fork()
    if manager == 0:
        command = ["/usr/bin/python3", "/opt/stand-in/manager.py", "manager"]
        os.execve(command[0], command, environment)
    reap(manager)


if __name__ == "__main__":
    main()
