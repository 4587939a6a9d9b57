"""The laboratory: a bridge in a network namespace, its services, and hosts on it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
GATEWAY = "10.77.0.1"
METADATA = "169.254.169.254"
ENDPOINT = f"http://{GATEWAY}:5000"
ACCOUNT = "123456789012"

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def why_not() -> str | None:
    """Why no test hosts can be made on this machine; None where they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "test hosts need Linux and root"
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"test hosts need the programs {', '.join(missing)} (iproute2, util-linux)"
    script = (
        "set -e; ip link set lo up; ip link add try0 type bridge; "
        "mount -t tmpfs none /mnt; mkdir /mnt/u /mnt/w /mnt/m; "
        "mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/m"
    )
    spaces = ["--mount", "--net", "--pid", "--uts", "--fork"]
    tried = subprocess.run(
        ["unshare", *spaces, "sh", "-c", script], capture_output=True, text=True, check=False
    )
    return f"this machine forbids namespaces: {tried.stderr.strip()}" if tried.returncode else None


def _call(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Host:
    """One host, from its boot on.

    Parameters
    ----------
    lab : where it stands.
    number : its place on the bridge; its address follows from it.
    name : its host name and instance id.
    user_data : what it boots from; None for a host that boots nothing.
    """

    def __init__(self, lab: Lab, number: int, name: str, user_data: str | None) -> None:
        self.lab, self.name, self.address = lab, name, f"10.77.0.{10 + number}"
        self.folder = lab.folder / name
        self.folder.mkdir()
        if user_data is not None:
            (self.folder / "user-data").write_text(user_data)
        # Before its first question to the metadata service.
        lab.register(self)
        spaces = ["--mount", "--pid", "--uts", "--net", "--fork", "--kill-child"]
        init = [sys.executable, str(HERE / "init.py"), str(self.folder), name, self.address]
        with (self.folder / "console").open("wb") as console:
            self.process = subprocess.Popen(
                ["unshare", *spaces, *init],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self.pid = self._first_process()
        (self.folder / "pid").write_text(str(self.pid))
        cable = f"cable{number}"
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0",
             "netns", str(self.pid))  # fmt: skip
        _run("ip", "link", "set", cable, "master", "bridge0", "up")

    def _first_process(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for _ in range(100):
            found = children.read_text().split()
            # unshare's child has its namespace when it has become Python.
            if found and b"init.py" in Path(f"/proc/{found[0]}/cmdline").read_bytes():
                return int(found[0])
            time.sleep(0.05)
        raise RuntimeError(f"host {self.name} did not start: {self.console()}")

    def run(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on the host as root, as Systems Manager's agent would."""
        done = subprocess.run(
            enter(self.pid, command), capture_output=True, text=True, check=False, timeout=300
        )
        if check and done.returncode:
            raise RuntimeError(f"{self.name}: {command}\n{done.stdout}\n{done.stderr}")
        return done

    def read(self, path: str) -> str:
        """A file on the host."""
        return self.run(f"cat {path}").stdout

    def console(self) -> str:
        """What it has printed while it booted."""
        return (self.folder / "console").read_text(errors="replace")

    def is_up(self) -> bool:
        """Whether it has not been shut down."""
        return self.process.poll() is None

    def end(self) -> None:
        """Take its power away."""
        self.process.kill()
        self.process.wait()


def enter(pid: int, command: str) -> list[str]:
    """The command line that runs a shell command on the host whose first process is `pid`."""
    path = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    spaces = ["--mount", "--uts", "--net", "--pid", "--root", "--wdns=/"]
    return ["nsenter", f"--target={pid}", *spaces, "env", "-i", f"PATH={path}", "sh", "-c", command]


class Lab:
    """The bridge, the services and the hosts; all of it is gone after `close`.

    Parameters
    ----------
    folder : for its own files: consoles, and what the services are told.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[Host] = []
        self._roles: dict[str, str] = {}
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _call(_LIBC.unshare(_CLONE_NEWNET))
        self._network = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _run("ip", "link", "set", "lo", "up")
            _run("ip", "link", "add", "bridge0", "type", "bridge")
            _run("ip", "address", "add", f"{GATEWAY}/24", "dev", "bridge0")
            _run("ip", "address", "add", f"{METADATA}/32", "dev", "bridge0")
            _run("ip", "link", "set", "bridge0", "up")
            self.tell("hosts", {})
            self.tell("roles", {})
            self.tell("spot", {})
            with (folder / "services.log").open("wb") as log:
                paths = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
                self.services = subprocess.Popen(
                    [sys.executable, str(HERE / "services.py"), str(folder)],
                    stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths},
                )  # fmt: skip
            self._wait_for_services()
        finally:
            _call(_LIBC.setns(self._home, _CLONE_NEWNET))

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Stand on the bridge with this thread, and with the processes that it starts."""
        _call(_LIBC.setns(self._network, _CLONE_NEWNET))
        try:
            yield
        finally:
            _call(_LIBC.setns(self._home, _CLONE_NEWNET))

    def _wait_for_services(self) -> None:
        for _ in range(300):
            if self.services.poll() is not None:
                break
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{ENDPOINT}/moto-api/data.json", timeout=5).close()
                return
            time.sleep(0.1)
        raise RuntimeError((self.folder / "services.log").read_text())

    def tell(self, name: str, what: object) -> None:
        """Tell the services something: `hosts`, `roles` or `spot`."""
        partial = self.folder / f"{name}.part"
        partial.write_text(json.dumps(what))
        partial.replace(self.folder / f"{name}.json")

    def boot(self, name: str, user_data: str | None, role: str = "node") -> Host:
        """Boot a host whose instance profile is a role of `roles`."""
        self._roles[name] = role
        with self.network():
            host = Host(self, len(self.hosts), name, user_data)
        self.hosts.append(host)
        return host

    def register(self, host: Host) -> None:
        """Have the metadata service know a host."""
        known = {
            one.address: {
                "instance": one.name,
                "role": self._roles[one.name],
                "folder": str(one.folder),
            }
            for one in [*self.hosts, host]
        }
        self.tell("hosts", known)

    def close(self) -> None:
        """End the hosts and the services; the network goes with the last of them."""
        for host in self.hosts:
            host.end()
        self.services.kill()
        self.services.wait()
        os.close(self._network)
        os.close(self._home)
