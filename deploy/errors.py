"""What can go wrong, a class per situation; every message is one line that says what to do next.

Exit statuses, which scripts may rely on (docs/deploy.md):

0    done
1    AWS or a machine failed in a way that has no class of its own
2    a mistake in the options, or in cluster.toml
3    no such cluster, job or log
4    the name is in use, or the cluster is in a state that forbids the command
5    credentials missing, expired, or without the right that is needed
6    quota or capacity exceeded, or not enough workers in time
7    something on this machine is missing (session-manager-plugin, Java)
8    a job ended with another status than 0 and nothing told which
9    something is left that could not be removed
130  interrupted
"""

from __future__ import annotations

__all__ = [
    "AwsError",
    "BucketError",
    "CapacityError",
    "ClosureError",
    "CredentialsError",
    "DeployError",
    "ImageError",
    "JobError",
    "LeftoverError",
    "MissingToolError",
    "NameInUseError",
    "NoSuchClusterError",
    "NotReachableError",
    "PermissionsError",
    "RegionError",
    "RemoteError",
    "SettingsError",
    "StateError",
    "UserDataError",
]


class DeployError(Exception):
    """Base of all errors of this package; `status` is the exit status of the command."""

    status = 1


class AwsError(DeployError):
    """An answer of AWS that no other class stands for."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class SettingsError(DeployError):
    """An option, or a line of cluster.toml, that cannot be used."""

    status = 2


class UserDataError(SettingsError):
    """User data over EC2's limit, or settings that cannot be put there."""


class ClosureError(DeployError):
    """The boot files (wheels, Java, jars) cannot be gathered."""


class RegionError(SettingsError):
    """No region is set, or there is none of this name."""


class ImageError(SettingsError):
    """No such machine image or instance type, or one that does not fit the other."""


class NotReachableError(SettingsError):
    """Machines in this subnet would not reach what they need to boot."""


class BucketError(SettingsError):
    """A bucket that is missing, in another account or in another region."""


class NoSuchClusterError(DeployError):
    """No cluster, job or log of this name."""

    status = 3


class StateError(DeployError):
    """The cluster is in a state that forbids the command."""

    status = 4


class NameInUseError(StateError):
    """Another launch holds the name."""


class CredentialsError(DeployError):
    """No credentials, or expired ones."""

    status = 5


class PermissionsError(AwsError):
    """Credentials without a right that is needed."""

    status = 5


class CapacityError(DeployError):
    """A quota or AWS's capacity is exceeded, or machines did not come up in time."""

    status = 6


class MissingToolError(DeployError):
    """A program is missing on this machine."""

    status = 7


class JobError(DeployError):
    """A job did not end well, and left no status of its own."""

    status = 8


class LeftoverError(DeployError):
    """Something could not be removed; the message lists it and says how to."""

    status = 9


class RemoteError(DeployError):
    """A command failed on a machine."""
