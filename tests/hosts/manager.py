"""A stand-in for systemd on test hosts: just what the node's programs ask of it, no more.

`manager` is the service; `systemctl` and `systemd-run` send it their command line over a socket.
Units are read from /etc/systemd/system as systemd reads them, with these keys only: User,
Type, EnvironmentFile, ExecStartPre, ExecStart, Restart, RestartSec, KillMode, TimeoutStopSec,
OnCalendar.
Requirements and orders among units are taken from the order in which they are started. A unit's
processes are its session, since there are no cgroups.
"""

from __future__ import annotations

import calendar
import json
import os
import pwd
import shlex
import signal
import socket
import string
import struct
import subprocess
import sys
import threading
import time

SOCKET = "/run/stand-in.socket"
UNITS = "/etc/systemd/system"
LOGS = "/var/log/units"
USER_DATA = "/var/lib/cloud/user-data"


def parse(text):
    """A unit's keys, each with its values in order."""
    keys = {}
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith(("#", "[")):
            keys.setdefault(name.strip(), []).append(value.strip())
    return keys


def environment_of(unit):
    """What a unit's processes have in their environment."""
    variables = dict(os.environ)
    for path in unit.get("EnvironmentFile", []):
        try:
            with open(path.lstrip("-")) as file:
                variables.update(line.split("=", 1) for line in file.read().splitlines())
        except FileNotFoundError:
            if not path.startswith("-"):
                raise
    return variables


class Unit:
    """One unit: its processes are begun, begun again and ended by a thread of its own."""

    def __init__(self, name, keys, command=None):
        self.name, self.keys, self.command = name, keys, command
        self.process = None
        self.state = "inactive"
        self.stopping = threading.Event()
        self.ended = threading.Event()

    def start(self):
        if self.state in ("inactive", "failed"):
            self.state = "activating"
            self.stopping.clear()
            self.ended.clear()
            threading.Thread(target=self._live, daemon=True).start()

    def _live(self):
        try:
            while not self.stopping.is_set():
                code = self._once()
                if "always" not in self.keys.get("Restart", []):
                    one_shot = "oneshot" in self.keys.get("Type", [])
                    self.state = "failed" if code else "active" if one_shot else "inactive"
                    return
                self.stopping.wait(float(self.keys.get("RestartSec", ["0.1"])[0]))
            self.state = "inactive"
        finally:
            self.ended.set()

    def _once(self):
        for line in self.keys.get("ExecStartPre", []):
            self._begin(shlex.split(line.lstrip("+")), root=line.startswith("+"))
            if self.process.wait():
                return 1
        commands = [self.command] if self.command else map(shlex.split, self.keys["ExecStart"])
        code = 0
        for command in commands:
            self._begin(command)
            if "oneshot" not in self.keys.get("Type", []):
                self.state = "active"
            code = self.process.wait() or code
        return code

    def _begin(self, command, root=False):
        variables = environment_of(self.keys)
        if self.command is None:
            command = [string.Template(word).safe_substitute(variables) for word in command]
        options = {}
        user = self.keys.get("User", [None])[0]
        if user and not root:
            about = pwd.getpwnam(user)
            options = {"user": about.pw_uid, "group": about.pw_gid, "extra_groups": []}
            variables.update(HOME=about.pw_dir, USER=user, LOGNAME=user)
        with open(f"{LOGS}/{self.name}", "ab") as log:
            self.process = subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd="/", start_new_session=True, **options,
            )  # fmt: skip

    def kill(self, number, everything=False):
        if self.process is not None and self.process.poll() is None:
            (os.killpg if everything else os.kill)(self.process.pid, number)

    def stop(self):
        self.stopping.set()
        self.kill(signal.SIGTERM, everything="mixed" not in self.keys.get("KillMode", []))
        if not self.ended.wait(float(self.keys.get("TimeoutStopSec", ["90"])[0])):
            self.kill(signal.SIGKILL, everything=True)
            self.ended.wait()
        self.state = "inactive"


class Manager:
    """All units of the host."""

    def __init__(self):
        self.units = {}
        self.off = threading.Event()

    def unit(self, name):
        name = name if "." in name else name + ".service"
        known = self.units.get(name)
        path = f"{UNITS}/{name}"
        if os.path.exists(path) and (known is None or known.state in ("inactive", "failed")):
            with open(path) as file:
                self.units[name] = Unit(name, parse(file.read()))
        return self.units.get(name) or Unit(name, {})

    def start(self, names, wait):
        for name in names:
            unit = self.unit(name)
            if name.endswith(".timer"):
                when = unit.keys["OnCalendar"][0]
                then = calendar.timegm(time.strptime(when, "%Y-%m-%d %H:%M:%S UTC"))
                service = name.replace(".timer", ".service")
                self.later(then - time.time(), lambda service=service: self.unit(service).start())
                continue
            unit.start()
            # A unit that others need first, whether waited for or not.
            if wait or "oneshot" in unit.keys.get("Type", []):
                while unit.state == "activating" and not unit.ended.is_set():
                    time.sleep(0.02)

    def later(self, seconds, action):
        timer = threading.Timer(max(0, seconds), action)
        timer.daemon = True
        timer.start()

    def systemctl(self, words):
        flags = [word for word in words if word.startswith("-")]
        action, *names = [word for word in words if not word.startswith("-")]
        if action == "poweroff":
            self.off.set()
        elif action in ("start", "enable"):
            if action == "start" or "--now" in flags:
                self.start(names, wait="--no-block" not in flags)
        elif action == "stop":
            for name in names:
                self.unit(name).stop()
        elif action == "kill":
            numbers = [flag.split("=")[1] for flag in flags if flag.startswith("--signal=")]
            for name in names:
                self.unit(name).kill(signal.Signals[numbers[0]])
        elif action == "is-active":
            return 0 if self.unit(names[0]).state in ("active", "activating") else 3
        elif action != "daemon-reload":
            raise ValueError(f"the stand-in for systemctl knows no {action}")
        return 0

    def systemd_run(self, words):
        options = {}
        while words[0].startswith("--"):
            name, _, value = words.pop(0)[2:].partition("=")
            options.setdefault(name, []).append(value)
        keys = parse("\n".join(options.get("property", [])))
        if "uid" in options:
            keys["User"] = options["uid"]
        name = options.get("unit", [f"run-{time.monotonic_ns()}.service"])[0]
        unit = self.units[name] = Unit(name, keys, words)
        if "on-active" in options:
            self.later(float(options["on-active"][0]), unit.start)
        else:
            unit.start()
        return 0

    def answer(self, connection):
        about = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, user, _ = struct.unpack("3i", about)
        with connection, connection.makefile("rw") as stream:
            command, *words = json.loads(stream.readline())
            try:
                if user != 0 and (command, words[0]) != ("systemctl", "is-active"):
                    raise PermissionError("for root only")
                code, said = getattr(self, command.replace("-", "_"))(words), ""
            except Exception as error:
                code, said = 1, f"{command}: {type(error).__name__}: {error}"
            stream.write(json.dumps([code, said]) + "\n")

    def serve(self):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(SOCKET)
        os.chmod(SOCKET, 0o666)
        listening.listen(16)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def run(self):
        os.makedirs(LOGS, exist_ok=True)
        threading.Thread(target=self.serve, daemon=True).start()
        if os.path.exists(USER_DATA):
            with open("/var/log/cloud-init-output.log", "wb") as log:
                boot = subprocess.Popen([USER_DATA], stdout=log, stderr=log, cwd="/")
            threading.Thread(target=boot.wait, daemon=True).start()
        self.off.wait()


def ask(words):
    """Send a command line to the manager; ends with its status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        with connection.makefile("rw") as stream:
            stream.write(json.dumps(words) + "\n")
            stream.flush()
            code, said = json.loads(stream.readline())
    if said:
        print(said, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "manager":
        Manager().run()
    else:
        ask(sys.argv[1:])
