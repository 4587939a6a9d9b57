"""The role of a cluster's machines, and the instance profile that hands it to them."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.policy import TRUST
from deploy.aws.session import Aws, codes, translated
from deploy.errors import NameInUseError
from deploy.names import CLUSTER, LAUNCH, Names, as_dict, tag_list

__all__ = ["create", "delete", "exists", "find", "put_policy"]

MISSING = "NoSuchEntity"
THERE = "EntityAlreadyExists"


def create(aws: Aws, names: Names, policy: dict[str, Any], tags: dict[str, str]) -> None:
    """Make the role with its policy, and the profile."""
    with translated("the machines' role"):
        try:
            aws.iam.create_role(
                RoleName=names.role,
                AssumeRolePolicyDocument=json.dumps(TRUST),
                Description=f"Machines of the sparknn cluster {names.cluster}",
                Tags=tag_list(tags),
            )
        except ClientError as error:
            _adopt(aws, error, names, tags, "role")
    put_policy(aws, names, "machine", policy)
    with translated("the machines' instance profile"):
        try:
            aws.iam.create_instance_profile(InstanceProfileName=names.role, Tags=tag_list(tags))
        except ClientError as error:
            _adopt(aws, error, names, tags, "instance profile")
        try:
            aws.iam.add_role_to_instance_profile(
                InstanceProfileName=names.role, RoleName=names.role
            )
        except ClientError as error:
            # A profile holds one role: asked for again, AWS calls it a limit.
            if codes(error) not in ("LimitExceeded", THERE) or not _roles(aws, names):
                raise


def put_policy(aws: Aws, names: Names, name: str, policy: dict[str, Any]) -> None:
    """Write an inline policy of the role."""
    with translated("the machines' policy"):
        aws.iam.put_role_policy(
            RoleName=names.role, PolicyName=name, PolicyDocument=json.dumps(policy)
        )


def _adopt(aws: Aws, error: ClientError, names: Names, tags: dict[str, str], kind: str) -> None:
    """Go on where the thing is there already and of this launch: an answer got lost."""
    if codes(error) != THERE:
        raise error
    found = _tags(aws, names, kind)
    if found is None or found.get(LAUNCH) != tags[LAUNCH]:
        raise NameInUseError(
            f"there is a {kind} {names.role} already: remove it with `python -m deploy destroy "
            f"{names.cluster}`, or choose another name"
        ) from error


def _tags(aws: Aws, names: Names, kind: str) -> dict[str, str] | None:
    try:
        if kind == "role":
            return as_dict(aws.iam.get_role(RoleName=names.role)["Role"].get("Tags"))
        answer = aws.iam.get_instance_profile(InstanceProfileName=names.role)
        return as_dict(answer["InstanceProfile"].get("Tags"))
    except ClientError as error:
        if codes(error) != MISSING:
            raise
        return None


def _roles(aws: Aws, names: Names) -> list[str]:
    answer = aws.iam.get_instance_profile(InstanceProfileName=names.role)
    return [role["RoleName"] for role in answer["InstanceProfile"]["Roles"]]


def exists(aws: Aws, profile: str) -> bool:
    """Return whether there is an instance profile of this name."""
    with translated("the instance profile"):
        try:
            aws.iam.get_instance_profile(InstanceProfileName=profile)
        except ClientError as error:
            if codes(error) == MISSING:
                return False
            raise
    return True


def find(aws: Aws, names: Names) -> dict[str, dict[str, str]]:
    """Return which of role and instance profile are there and this cluster's, with their tags."""
    with translated("the machines' role"):
        kinds = {kind: _tags(aws, names, kind) for kind in ("instance profile", "role")}
    return {
        kind: tags
        for kind, tags in kinds.items()
        if tags is not None and tags.get(CLUSTER) == names.cluster
    }


def delete(aws: Aws, names: Names, kind: str) -> None:
    """Remove the profile, or the role, that `find` found."""
    with translated(f"the machines' {kind}"):
        try:
            if kind == "instance profile":
                for role in _roles(aws, names):
                    aws.iam.remove_role_from_instance_profile(
                        InstanceProfileName=names.role, RoleName=role
                    )
                aws.iam.delete_instance_profile(InstanceProfileName=names.role)
            else:
                answer = aws.iam.list_role_policies(RoleName=names.role)
                for policy in answer["PolicyNames"]:
                    aws.iam.delete_role_policy(RoleName=names.role, PolicyName=policy)
                aws.iam.delete_role(RoleName=names.role)
        except ClientError as error:
            if codes(error) != MISSING:
                raise
