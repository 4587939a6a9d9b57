"""What answers on the hosts' bridge: the AWS services, and each host's metadata service.

python services.py FOLDER. The folder has what the laboratory tells (hosts.json: address →
instance, role and folder; roles.json: role → policy; spot.json: instance → notice), and is where
pid files and logs go. AWS is moto's server; in front of it every request that is signed by a host's
role is checked as AWS would (`policy`), and one that a host does not sign is refused. Commands
sent through Systems Manager are carried out on the hosts (`commands`).
"""

from __future__ import annotations

import io
import json
import secrets
import sys
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from hosts import policy
from hosts.commands import CommandStandIn
from hosts.lab import ACCOUNT, GATEWAY, METADATA

FOLDER = Path(sys.argv[1])


def told(name: str) -> dict:
    """What the laboratory has told."""
    return json.loads((FOLDER / f"{name}.json").read_text())


class Keys:
    """The temporary credentials that instance profiles give out, one set a role."""

    def __init__(self) -> None:
        self._of_role: dict[str, dict[str, str]] = {}

    def of(self, role: str) -> dict[str, str]:
        """A role's credentials, as the metadata service puts them."""
        if role not in self._of_role:
            self._of_role[role] = {
                "Code": "Success",
                "Type": "AWS-HMAC",
                "AccessKeyId": "ASIA" + secrets.token_hex(8).upper(),
                "SecretAccessKey": secrets.token_urlsafe(30),
                "Token": secrets.token_urlsafe(60),
                "LastUpdated": "2020-01-01T00:00:00Z",
                "Expiration": "2099-01-01T00:00:00Z",
            }
        return self._of_role[role]

    def role(self, access_key: str) -> str | None:
        """Whose access key it is."""
        for role, keys in self._of_role.items():
            if keys["AccessKeyId"] == access_key:
                return role
        return None


KEYS = Keys()


class Metadata(BaseHTTPRequestHandler):
    """The metadata service, version 2 only: a question without a token is refused."""

    tokens: dict[str, str] = {}  # noqa: RUF012

    def do_PUT(self) -> None:
        """Give out a token, which holds for the address that has asked."""
        lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        if self.path != "/latest/api/token" or not lifetime:
            self._answer(400, "")
            return
        token = secrets.token_urlsafe(20)
        self.tokens[token] = self.client_address[0]
        self._answer(200, token, {"X-aws-ec2-metadata-token-ttl-seconds": lifetime})

    def do_GET(self) -> None:
        """Answer a question about the host that asks."""
        address = self.client_address[0]
        if self.tokens.get(self.headers.get("X-aws-ec2-metadata-token", "")) != address:
            self._answer(401, "")
            return
        text = self._look_up(self.path.removeprefix("/latest/"), address)
        self._answer(404 if text is None else 200, text or "")

    def _look_up(self, path: str, address: str) -> str | None:
        host = told("hosts").get(address)
        if host is None:
            return None
        profile = "meta-data/iam/security-credentials/"
        identity = {"region": "eu-west-1", "accountId": ACCOUNT, "instanceId": host["instance"]}
        known: dict[str, Callable[[], str | None]] = {
            "meta-data/instance-id": lambda: host["instance"],
            "meta-data/local-ipv4": lambda: address,
            "meta-data/placement/region": lambda: "eu-west-1",
            "dynamic/instance-identity/document": lambda: json.dumps(identity),
            "meta-data/spot/instance-action": lambda: told("spot").get(host["instance"]),
            profile: lambda: host["role"],
            profile + host["role"]: lambda: json.dumps(KEYS.of(host["role"])),
        }
        return known[path]() if path in known else None

    def _answer(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet, but for refusals."""
        if len(arguments) > 1 and str(arguments[1]) in ("401", "400"):
            print("metadata", self.client_address[0], *arguments, flush=True)


class Front:
    """moto's server behind checks, as a WSGI application."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.commands = CommandStandIn(FOLDER)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        headers = {
            name[5:].replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        length = environ.get("CONTENT_LENGTH", "")
        headers["content-length"] = length
        try:
            self._check(environ, headers)
        except policy.Denied as denied:
            print("refused", environ["REQUEST_METHOD"], environ["PATH_INFO"], denied, flush=True)
            return refuse(environ, headers, denied, start)
        answered = self.commands.answer(headers, environ)
        if answered is not None:
            start("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
            return [json.dumps(answered).encode()]
        return self.moto(environ, start)

    def _check(self, environ: WSGIEnvironment, headers: dict[str, str]) -> None:
        if environ["REMOTE_ADDR"] not in told("hosts"):
            return  # the test itself, which stands on the bridge
        scope = policy.scope(headers)
        role = KEYS.role(scope[0]) if scope else None
        if role is None:
            raise policy.Denied("AccessDenied", "a request that no role has signed")
        streamed = headers.get("x-amz-content-sha256", "").startswith(policy.UNHASHED)
        body = b"" if streamed else read_body(environ)
        url = "http://" + headers["host"] + environ["RAW_URI"]
        method = environ["REQUEST_METHOD"]
        policy.check_signature(method, url, headers, body, KEYS.of(role))
        asked = policy.wanted(method, url, headers, body, ACCOUNT)
        instance = told("hosts")[environ["REMOTE_ADDR"]]["instance"]
        for _, _, conditions in asked:
            arn = f"arn:aws:ec2:{scope[1]}:{ACCOUNT}:instance/{instance}"
            conditions["ec2:SourceInstanceARN"] = arn
        policy.check_policy(told("roles")[role], asked)


def read_body(environ: WSGIEnvironment) -> bytes:
    """A request's body, put back for who reads it next."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def refuse(
    environ: WSGIEnvironment, headers: dict[str, str], denied: policy.Denied, start: StartResponse
) -> list[bytes]:
    """A service's answer to a request that it refuses: XML, of Systems Manager JSON."""
    if "x-amz-target" in headers:
        body = json.dumps({"__type": denied.code, "message": str(denied)})
        start("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1")])
    else:
        body = f"<Error><Code>{denied.code}</Code><Message>{denied}</Message></Error>"
        start("403 Forbidden", [("Content-Type", "application/xml")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body.encode()]


def main() -> None:
    """Serve until killed."""
    metadata = ThreadingHTTPServer((METADATA, 80), Metadata)
    threading.Thread(target=metadata.serve_forever, daemon=True).start()
    make_server(GATEWAY, 5000, Front(), threaded=True).serve_forever()


if __name__ == "__main__":
    main()
