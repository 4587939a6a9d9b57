"""The boot files: everything that a machine needs, gathered on the caller's machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def build(
    architecture: str, python_version: str, requirements: Sequence[str], directory: Path
) -> Mapping[str, str]:
    """Gather the boot files in a directory, and say their SHA-256.

    Parameters
    ----------
    architecture : "x86_64" or "arm64", as EC2 names them.
    python_version : of the image, as "3.12".
    requirements : further packages, as pip's requirement lines.
    directory : where the files go; what is there already and fits is kept.

    Returns
    -------
    mapping : file name → SHA-256 in hexadecimal, ready for `NodeSettings.files`.
    """
    raise NotImplementedError
