"""What AWS does before it serves a request: checks its signature, then the caller's policy."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import urllib.parse
from collections.abc import Mapping
from xml.etree import ElementTree

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

# What stands in place of a body's hash where the body is signed piece by piece, or not at all.
UNHASHED = ("STREAMING-", "UNSIGNED-")


class Denied(Exception):
    """The request is refused; `code` is the service's word for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def scope(headers: Mapping[str, str]) -> tuple[str, str, str] | None:
    """(access key, region, service) of a signed request; None for one without a signature."""
    found = re.match(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request",
        headers.get("authorization", ""),
    )
    return found.groups() if found else None


def check_signature(
    method: str, url: str, headers: Mapping[str, str], body: bytes, credentials: Mapping[str, str]
) -> None:
    """Compute the signature with botocore and compare; headers have lower-case names."""
    given = headers["authorization"]
    signed = re.search(r"SignedHeaders=([^,]+)", given).group(1).split(";")
    _, region, service = scope(headers)
    token = credentials["Token"]
    if headers.get("x-amz-security-token") != token or "x-amz-security-token" not in signed:
        raise Denied("InvalidToken", "the session token is missing, wrong or unsigned")
    payload = headers.get("x-amz-content-sha256", "")
    if not payload.startswith(UNHASHED) and payload != hashlib.sha256(body).hexdigest():
        raise Denied("XAmzContentSHA256Mismatch", "the body is not the one that was signed")
    request = AWSRequest(method, url, {name: headers[name] for name in signed}, body)
    request.context["timestamp"] = headers["x-amz-date"]
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    keys = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], token)
    auth = kind(keys, service, region)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if auth.signature(text, request) != re.search(r"Signature=(\w+)", given).group(1):
        raise Denied("SignatureDoesNotMatch", "the signature is not that of this request")


def wanted(
    method: str, url: str, headers: Mapping[str, str], body: bytes, account: str
) -> list[tuple[str, str, dict[str, str]]]:
    """What a request asks for: (action, resource, condition keys), one or more."""
    _, region, service = scope(headers)
    if service == "s3":
        return _wanted_of_s3(method, url, body)
    place = f"{region}:{account}"
    if service == "ssm":
        action = headers["x-amz-target"].split(".")[1]
        name = re.search(rb'"Name"\s*:\s*"([^"]+)"', body)
        parameter = name.group(1).decode().lstrip("/") if name else ""
        return [(f"ssm:{action}", f"arn:aws:ssm:{place}:parameter/{parameter}", {})]
    fields = dict(urllib.parse.parse_qsl(body.decode()))
    conditions = {f"{service}:{key}": value for key, value in fields.items()}
    group = fields.get("AutoScalingGroupName", "")
    resource = f"arn:aws:autoscaling:{place}:autoScalingGroup:1:autoScalingGroupName/{group}"
    return [(f"{service}:{fields['Action']}", resource, conditions)]


def _wanted_of_s3(method: str, url: str, body: bytes) -> list[tuple[str, str, dict[str, str]]]:
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    bucket, _, key = urllib.parse.unquote(parts.path.lstrip("/")).partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if method == "POST" and "delete" in query:
        names = [one.text for one in ElementTree.fromstring(body).iter() if one.tag.endswith("Key")]
        return [("s3:DeleteObject", f"{arn}/{name}", {}) for name in names]
    if not key:
        if method == "GET":
            action = "ListBucketMultipartUploads" if "uploads" in query else "ListBucket"
            return [(f"s3:{action}", arn, {"s3:prefix": query.get("prefix", "")})]
        return [("s3:ListBucket" if method == "HEAD" else "s3:Other", arn, {})]
    if method == "DELETE" and "uploadId" in query:
        return [("s3:AbortMultipartUpload", f"{arn}/{key}", {})]
    action = {"GET": "GetObject", "HEAD": "GetObject", "DELETE": "DeleteObject"}
    return [(f"s3:{action.get(method, 'PutObject')}", f"{arn}/{key}", {})]


def check_policy(policy: Mapping, asked: list[tuple[str, str, dict[str, str]]]) -> None:
    """Raise where a policy does not allow all that is asked for."""
    for action, resource, conditions in asked:
        effects = {
            statement["Effect"]
            for statement in policy["Statement"]
            if _matches(statement["Action"], action)
            and _matches(statement["Resource"], resource)
            and _holds(statement.get("Condition", {}), conditions)
        }
        if effects != {"Allow"}:
            raise Denied("AccessDenied", f"not authorized to perform {action} on {resource}")


def _matches(patterns: str | list[str], text: str) -> bool:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def _holds(condition: Mapping, have: Mapping[str, str]) -> bool:
    for operator, keys in condition.items():
        if_there = operator.endswith("IfExists")
        for key, values in keys.items():
            if key not in have:
                # Keys that this laboratory does not compute (TLS, tags) are taken as they are.
                if if_there or key.startswith(("aws:", "s3:ResourceAccount")):
                    continue
                return False
            if not _matches(
                [str(one) for one in ([values] if not isinstance(values, list) else values)],
                have[key],
            ):
                return False
    return True
