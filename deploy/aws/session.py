"""Clients of AWS's services, and its errors in our words."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import boto3
import botocore.exceptions
from botocore.config import Config

from deploy.errors import (
    AwsError,
    BucketError,
    CapacityError,
    CredentialsError,
    DeployError,
    PermissionsError,
    RegionError,
)

__all__ = ["Aws", "codes", "translated", "until"]

T = TypeVar("T")

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN_KEYS = {
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}
CAPACITY = {"InsufficientInstanceCapacity", "InsufficientHostCapacity", "Unsupported"}
QUOTA = {
    "AddressLimitExceeded",
    "InstanceLimitExceeded",
    "LimitExceeded",
    "LimitExceededException",
    "MaxSpotInstanceCountExceeded",
    "ParameterLimitExceeded",
    "SecurityGroupLimitExceeded",
    "VcpuLimitExceeded",
    "VolumeLimitExceeded",
}


class Aws:
    """One account in one region, seen with one set of credentials.

    Parameters
    ----------
    region : the region, or None: that of the profile.
    profile : of ~/.aws/config, or None: what boto3 finds by itself.
    endpoint : URL of all services, for tests.
    attempts : how often a call is tried before its error counts.
    """

    def __init__(
        self,
        region: str | None = None,
        profile: str | None = None,
        endpoint: str | None = None,
        attempts: int = 6,
    ) -> None:
        # AWS's other tools heed AWS_REGION, boto3 does not.
        region = region or os.environ.get("AWS_REGION")
        with translated():
            self.session = boto3.Session(profile_name=profile, region_name=region)
        if not self.session.region_name:
            raise RegionError("no region is set: add --region, or region = … to cluster.toml")
        self.region = self.session.region_name
        self.endpoint = endpoint
        self.config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=10,
            read_timeout=60,
            user_agent_extra="sparknn-deploy",
        )
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the client of a service, made when it is first asked for."""
        if service not in self._clients:
            with translated():
                self._clients[service] = self.session.client(
                    service, config=self.config, endpoint_url=self.endpoint
                )
        return self._clients[service]

    @property
    def ec2(self) -> Any:
        """EC2: machines, networks, launch templates."""
        return self.client("ec2")

    @property
    def autoscaling(self) -> Any:
        """Auto Scaling: the workers."""
        return self.client("autoscaling")

    @property
    def iam(self) -> Any:
        """IAM: what the machines may do."""
        return self.client("iam")

    @property
    def ssm(self) -> Any:
        """Systems Manager: the secret, image numbers, commands and sessions."""
        return self.client("ssm")

    @property
    def s3(self) -> Any:
        """S3: boot files, data, logs."""
        return self.client("s3")

    @cached_property
    def account(self) -> str:
        """The account's twelve digits."""
        with translated("who am I"):
            return self.client("sts").get_caller_identity()["Account"]

    @cached_property
    def partition(self) -> str:
        """The part of all resource names that differs in China and in GovCloud."""
        return self.session.get_partition_for_region(self.region)

    def pages(self, service: str, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of an answer."""
        yield from self.client(service).get_paginator(operation).paginate(**arguments)


def codes(error: botocore.exceptions.ClientError) -> str:
    """Return AWS's name of an error."""
    return error.response.get("Error", {}).get("Code", "")


@contextmanager
def translated(doing: str = "") -> Iterator[None]:
    """Turn boto3's errors into ours.

    doing: what was tried, for the message.
    """
    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise _translation(error, doing) from error
    except (
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.PartialCredentialsError,
    ) as error:
        raise CredentialsError(
            "no AWS credentials: run `aws configure` or `aws sso login`, or name a profile with "
            "--profile"
        ) from error
    except botocore.exceptions.ProfileNotFound as error:
        raise CredentialsError(f"{error}: `aws configure list-profiles` names yours") from error
    except (
        botocore.exceptions.EndpointConnectionError,
        botocore.exceptions.InvalidRegionError,
    ) as error:
        raise RegionError(
            f"{error}: is the region's name right, and is this machine on the network?"
        ) from error
    except botocore.exceptions.BotoCoreError as error:
        raise AwsError(f"{doing or 'AWS'}: {error}") from error


def _translation(error: botocore.exceptions.ClientError, doing: str) -> DeployError:
    code = codes(error)
    text = error.response.get("Error", {}).get("Message", "") or code
    what = f"{doing or error.operation_name}: {text}"
    if code in EXPIRED:
        return CredentialsError(f"{what}: sign in again, as with `aws sso login`")
    if code in UNKNOWN_KEYS:
        return CredentialsError(f"{what}: AWS does not know these credentials; see `aws configure`")
    if code in DENIED:
        return PermissionsError(
            f"{what}: these credentials lack the right to {error.operation_name}; docs/deploy.md "
            "has the policy that a caller needs",
            code,
        )
    if code in CAPACITY:
        return CapacityError(f"{what}: try another --zone or --instance-type")
    if code in QUOTA:
        return CapacityError(
            f"{what}: ask for more in the console's Service Quotas, or take fewer machines"
        )
    if code in ("NoSuchBucket", "PermanentRedirect", "301"):
        return BucketError(f"{what}: check --bucket, and that it is in --region")
    if code in ("OptInRequired", "InvalidRegion"):
        return RegionError(f"{what}: the region is not enabled in this account")
    return AwsError(f"{what} ({code})", code)


def until(question: Callable[[], T | None], seconds: float, pause: float, overdue: str) -> T:
    """Ask until there is an answer other than None.

    Raises
    ------
    CapacityError
        With `overdue`, when there was none for so many seconds.
    """
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer is not None:
            return answer
        if time.monotonic() >= end:
            raise CapacityError(overdue)
        time.sleep(pause)
