"""A machine's own requests to AWS, and the fetching of its boot files.

User data carries this module whole, so it imports the standard library alone and is kept short.
Credentials come from the metadata service (version 2: a token first) and stay in memory.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

METADATA = "http://169.254.169.254/latest/"
SETTINGS = "/etc/sparknn/settings.json"
PROGRAM = "/opt/sparknn/node.pyz"

# Metadata and the cluster's own services are never behind a proxy.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_RETRIED = (429, 500, 502, 503, 504)


class RequestError(Exception):
    """A service has refused a request, or could not be reached (status 0)."""

    def __init__(self, status: int, url: str, text: str) -> None:
        super().__init__(f"{url}: {status} {text}")
        self.status = status


def _open(request: urllib.request.Request, timeout: float = 30) -> Any:
    try:
        return _OPENER.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        text = error.read(2000).decode("utf-8", "replace")
        raise RequestError(error.code, request.full_url, text) from None
    except OSError as error:
        raise RequestError(0, request.full_url, str(error)) from None


def metadata(path: str) -> str | None:
    """The text at a path of the metadata service; None where there is nothing (404)."""
    ask = urllib.request.Request(METADATA + "api/token", method="PUT")
    ask.add_header("X-aws-ec2-metadata-token-ttl-seconds", "300")
    with _open(ask, 5) as answer:
        token = answer.read().decode()
    ask = urllib.request.Request(METADATA + path, headers={"X-aws-ec2-metadata-token": token})
    try:
        with _open(ask, 5) as answer:
            return answer.read().decode()
    except RequestError as error:
        if error.status == 404:
            return None
        raise


def address() -> str:
    """This machine's private address."""
    return metadata("meta-data/local-ipv4") or ""


def sign(
    method: str, url: str, region: str, service: str, headers: Mapping[str, str], payload: str,
    credentials: Mapping[str, str], now: float,
) -> dict[str, str]:  # fmt: skip
    """The headers of a request with its signature (AWS Signature Version 4).

    Parameters: `payload` is the SHA-256 of the body in hexadecimal, `credentials` has the
    metadata service's AccessKeyId, SecretAccessKey and Token, `now` is in seconds since the
    epoch. The URL's path is quoted already, once, as S3 wants it.
    """
    parts = urllib.parse.urlsplit(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    headers = {name.lower(): value for name, value in headers.items()}
    headers.update({"host": parts.netloc, "x-amz-date": stamp, "x-amz-content-sha256": payload})
    if credentials.get("Token"):
        headers["x-amz-security-token"] = credentials["Token"]
    names = ";".join(sorted(headers))
    query = sorted(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    canonical = [
        method,
        parts.path or "/",
        urllib.parse.urlencode(query, quote_via=urllib.parse.quote),
    ]
    canonical += [f"{name}:{headers[name].strip()}" for name in sorted(headers)]
    text = "\n".join([*canonical, "", names, payload])
    digest = hashlib.sha256(text.encode()).hexdigest()
    key = ("AWS4" + credentials["SecretAccessKey"]).encode()
    for part in (stamp[:8], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digest])
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials['AccessKeyId']}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    del headers["host"]
    return headers


class Services:
    """The AWS services as one machine of a launch uses them; `settings` is user data's JSON."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._credentials: dict[str, str] = {}
        self._until = 0.0

    def credentials(self) -> dict[str, str]:
        """The instance profile's credentials, asked for anew every five minutes."""
        if time.time() > self._until:
            folder = "meta-data/iam/security-credentials/"
            role = metadata(folder)
            if not role:
                raise RequestError(404, METADATA + folder, "no instance profile yet")
            found = json.loads(metadata(folder + role.split()[0]) or "{}")
            if not found.get("SecretAccessKey"):
                raise RequestError(404, METADATA + folder, f"no keys yet: {found.get('Code')}")
            self._credentials, self._until = found, time.time() + 300
        return self._credentials

    def url(self, service: str) -> str:
        """The endpoint of a service, without a slash at the end."""
        override = self.settings["endpoints"].get(service)
        if override:
            return override.rstrip("/")
        region = self.settings["region"]
        return f"https://{service}.{region}.amazonaws.com" + (".cn" * region.startswith("cn-"))

    def open(
        self, service: str, method: str, path: str = "/", body: bytes = b"",
        headers: Mapping[str, str] | None = None, attempts: int = 5,
    ) -> Any:  # fmt: skip
        """Send a signed request, again where that may help; the answer is open for reading."""
        url = self.url(service) + path
        for attempt in range(attempts):
            try:
                payload = hashlib.sha256(body).hexdigest()
                signed = sign(
                    method, url, self.settings["region"], service, headers or {}, payload,
                    self.credentials(), time.time(),
                )  # fmt: skip
                data = body if method in ("PUT", "POST") else None
                return _open(urllib.request.Request(url, data, signed, method=method), 60)
            except RequestError as error:
                if error.status not in (0, *_RETRIED) or attempt == attempts - 1:
                    raise
                time.sleep(min(2**attempt, 10))

    def object(self, method: str, key: str, body: bytes = b"") -> Any:
        """A request for an object of the cluster's bucket; the answer is open for reading."""
        path = f"/{self.settings['bucket']}/" + urllib.parse.quote(key, safe="/-_.~")
        headers = {"x-amz-expected-bucket-owner": self.settings["account"]}
        if method == "PUT":
            headers["content-type"] = "application/octet-stream"
        return self.open("s3", method, path, body, headers)

    def get(self, key: str) -> bytes | None:
        """An object's bytes; None where there is none."""
        try:
            with self.object("GET", key) as answer:
                return answer.read()
        except RequestError as error:
            if error.status == 404:
                return None
            raise

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        self.object("PUT", key, body).close()

    def download(self, key: str, path: str, sha256: str) -> None:
        """Fetch an object to a file, and raise ValueError if it is not the one meant."""
        digest = hashlib.sha256()
        partial = f"{path}.part"
        with self.object("GET", key) as answer, open(partial, "wb") as file:
            for piece in iter(lambda: answer.read(1 << 20), b""):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != sha256:
            os.remove(partial)
            raise ValueError(f"{key} has been changed: SHA-256 {digest.hexdigest()}, not {sha256}")
        os.replace(partial, path)

    def parameter(self, name: str) -> str:
        """The value of a SecureString parameter."""
        body = json.dumps({"Name": name, "WithDecryption": True}).encode()
        kind = {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": "AmazonSSM.GetParameter",
        }
        with self.open("ssm", "POST", body=body, headers=kind) as answer:
            return json.loads(answer.read())["Parameter"]["Value"]

    def end_group(self) -> None:
        """Take the workers' Auto Scaling group to zero, for good."""
        fields = {"Action": "UpdateAutoScalingGroup", "Version": "2011-01-01"}
        fields.update(AutoScalingGroupName=self.settings["group"])
        fields.update(MinSize="0", MaxSize="0", DesiredCapacity="0")
        kind = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        body = urllib.parse.urlencode(fields).encode()
        self.open("autoscaling", "POST", body=body, headers=kind).close()

    def report(self, role: str, state: str, error: str = "") -> None:
        """Write this machine's ready, or failed, object."""
        settings, instance = self.settings, metadata("meta-data/instance-id")
        about = {
            "role": role,
            "instance": instance,
            "address": address(),
            "state": state,
            "error": error,
            "time": int(time.time()),
        }
        key = f"{settings['prefix']}/run/{settings['launch_id']}/{state}/{instance}.json"
        self.put(key.lstrip("/"), json.dumps(about).encode())


def patiently(action: Callable[[], Any], seconds: float) -> Any:
    """Call until it works, for so long: a new instance profile takes a while to spread."""
    until = time.monotonic() + seconds
    while True:
        try:
            return action()
        except RequestError as error:
            if error.status not in (0, 401, 403, 404) or time.monotonic() > until:
                raise
            time.sleep(2)


def set_deadline(deadline: float) -> None:
    """Have systemd shut this machine down at a time, also after it was started again."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(deadline))
    folder = "/etc/systemd/system/sparknn-deadline"
    with open(folder + ".service", "w") as file:
        file.write("[Service]\nType=oneshot\nExecStart=/usr/bin/env systemctl poweroff\n")
    with open(folder + ".timer", "w") as file:
        file.write(f"[Timer]\nOnCalendar={when}\nAccuracySec=1s\nPersistent=true\n")
        file.write("[Install]\nWantedBy=timers.target\n")
    subprocess.run(["systemctl", "enable", "--now", "sparknn-deadline.timer"], check=True)


def give_up(services: Services, role: str, error: Exception) -> None:
    """Say why this machine cannot boot, and end it after the time that idleness would take."""
    settings = services.settings
    try:
        services.report(role, "failed", f"{type(error).__name__}: {error}")
    finally:
        if settings["idle_seconds"] is not None:
            delay = f"--on-active={settings['idle_seconds']}"
            subprocess.run(["systemd-run", delay, "systemctl", "poweroff"], check=True)
            if role == "master":
                services.end_group()


def boot(role: str, settings: Mapping[str, Any]) -> None:
    """Fetch the program of this machine and start it: what user data does."""
    services = Services(settings)
    os.umask(0o022)
    if settings["deadline"] is not None:
        set_deadline(settings["deadline"])
    try:
        for path in (SETTINGS, PROGRAM):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        name = os.path.basename(PROGRAM)
        key = f"{settings['prefix']}/boot/{name}".lstrip("/")
        sha256 = settings["files"][name]
        patiently(lambda: services.download(key, PROGRAM, sha256), 120)
        with open(os.open(SETTINGS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(dict(settings, role=role), file)
    except Exception as error:
        give_up(services, role, error)
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", PROGRAM, "set-up"])
