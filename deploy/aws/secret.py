"""Spark's secret in Parameter Store: the first thing that a launch makes, and the last to go.

Its name is the lock of the cluster's name: Parameter Store makes a parameter for one of two
callers only. Its tags tell `destroy` what it must know when the caller was killed right after.
"""

from __future__ import annotations

import secrets

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, codes, translated
from deploy.errors import NameInUseError
from deploy.names import LAUNCH, Names, as_dict, tag_list

__all__ = ["create", "delete", "tags"]


def create(aws: Aws, names: Names, tags_: dict[str, str]) -> None:
    """Make the secret, and so take the name.

    Raises
    ------
    NameInUseError
        If another launch holds it.
    """
    with translated("the cluster's secret"):
        try:
            aws.ssm.put_parameter(
                Name=names.secret,
                Description="spark.authenticate.secret of a sparknn cluster",
                # 256 bits; nobody but the machines ever reads it.
                Value=secrets.token_hex(32),
                Type="SecureString",
                Overwrite=False,
                Tags=tag_list(tags_),
            )
        except ClientError as error:
            if codes(error) != "ParameterAlreadyExists":
                raise
    # An answer that was lost and asked for again: then the parameter is there, and ours.
    found = tags(aws, names)
    if found is None or found.get(LAUNCH) != tags_[LAUNCH]:
        raise NameInUseError(
            f"the name {names.cluster!r} is in use in {names.region}: choose another, or remove "
            f"that cluster with `python -m deploy destroy {names.cluster}`"
        )


def tags(aws: Aws, names: Names) -> dict[str, str] | None:
    """Return the tags of the secret, None where there is no secret."""
    with translated("the cluster's secret"):
        try:
            answer = aws.ssm.list_tags_for_resource(
                ResourceType="Parameter", ResourceId=names.secret
            )
        except ClientError as error:
            if codes(error) == "InvalidResourceId":
                return None
            raise
    return as_dict(answer["TagList"])


def delete(aws: Aws, names: Names) -> None:
    """Remove the secret, if it is there."""
    with translated("the cluster's secret"):
        try:
            aws.ssm.delete_parameter(Name=names.secret)
        except ClientError as error:
            if codes(error) != "ParameterNotFound":
                raise
