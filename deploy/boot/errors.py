"""What can go wrong while boot files and user data are made."""


class BootFilesError(Exception):
    """A boot file cannot be had."""


class UserDataError(ValueError):
    """The user data is larger than EC2 takes."""
