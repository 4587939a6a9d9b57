"""Buckets: whose they are, and making one."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, codes, translated
from deploy.errors import BucketError

__all__ = ["make_bucket", "require_bucket"]


def require_bucket(aws: Aws, bucket: str) -> None:
    """Raise BucketError unless a bucket is there, of this account and in this region."""
    with translated(f"bucket {bucket}"):
        try:
            answer = aws.s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=aws.account)
        except ClientError as error:
            # HEAD has no body: the status is all that is told.
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            region = _header(error.response, "x-amz-bucket-region")
            if status == 404:
                raise BucketError(
                    f"no bucket {bucket}: make it with `python -m deploy make-bucket {bucket}`"
                ) from error
            if status in (301, 400):
                raise BucketError(
                    f"bucket {bucket} is in {region or 'another region'}: launch there with "
                    "--region, or choose another --bucket"
                ) from error
            if status == 403:
                raise BucketError(
                    f"bucket {bucket} is of another account than {aws.account}, or closed to these "
                    "credentials: choose another --bucket"
                ) from error
            raise
    region = _header(answer, "x-amz-bucket-region") or aws.region
    if region != aws.region:
        raise BucketError(
            f"bucket {bucket} is in {region}, not in {aws.region}: launch there with --region, or "
            "choose another --bucket"
        )


def _header(response: dict, name: str) -> str:
    return response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(name, "")


def make_bucket(aws: Aws, bucket: str) -> None:
    """Make a bucket that is closed to the public, takes TLS only, and encrypts.

    A bucket of this account that is there already gets those settings that it lacks.

    Raises
    ------
    BucketError
        If another account has it.
    """
    where = {} if aws.region == "us-east-1" else {"LocationConstraint": aws.region}
    request = {"CreateBucketConfiguration": where} if where else {}
    with translated(f"bucket {bucket}"):
        try:
            aws.s3.create_bucket(Bucket=bucket, ObjectOwnership="BucketOwnerEnforced", **request)
        except ClientError as error:
            if codes(error) == "BucketAlreadyExists":
                raise BucketError(
                    f"bucket {bucket} is another account's: names are the world's, choose another"
                ) from error
            if codes(error) != "BucketAlreadyOwnedByYou":
                raise
        _fill_in(aws, bucket)


def _fill_in(aws: Aws, bucket: str) -> None:
    """Make the settings that a bucket does not have; what its owner has set stays."""
    policy = tls_only(aws.partition, bucket)
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    encryption = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    rule = {
        "ID": "unfinished uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    settings: list[tuple[str, str, str, Any]] = [
        (
            "public_access_block",
            "NoSuchPublicAccessBlockConfiguration",
            "PublicAccessBlockConfiguration",
            dict.fromkeys(closed, True),
        ),
        (
            "bucket_encryption",
            "ServerSideEncryptionConfigurationNotFoundError",
            "ServerSideEncryptionConfiguration",
            {"Rules": [encryption]},
        ),
        ("bucket_policy", "NoSuchBucketPolicy", "Policy", json.dumps(policy)),
        (
            "bucket_lifecycle_configuration",
            "NoSuchLifecycleConfiguration",
            "LifecycleConfiguration",
            {"Rules": [rule]},
        ),
    ]
    owner = {"Bucket": bucket, "ExpectedBucketOwner": aws.account}
    for name, missing, argument, value in settings:
        try:
            getattr(aws.s3, f"get_{name}")(**owner)
        except ClientError as error:
            if codes(error) != missing:
                raise
            getattr(aws.s3, f"put_{name}")(**owner, **{argument: value})


def tls_only(partition: str, bucket: str) -> dict:
    """Return a bucket policy that refuses whatever comes without TLS."""
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
