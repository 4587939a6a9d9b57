"""job.toml: a job's options in a file, under the names that they have on the command line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import Any

import click

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_config"]


def read_config(path: str, params: Iterable[click.Parameter]) -> dict[str, Any]:
    """Return a file's values by the names under which a command takes them: click's default map.

    Parameters
    ----------
    path : str
        TOML: `max-iter = 20`, `hidden = [300, 100]`, `overwrite = true`.
    params : iterable of click.Parameter
        The command's.

    Raises
    ------
    click.UsageError
        If the file cannot be read, or holds a key that is no option, or a value of the wrong kind.
    """
    try:
        with open(path, "rb") as stream:
            values = tomllib.load(stream)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.UsageError(f"--config {path}: {error}") from None
    options = {
        option.opts[0].removeprefix("--"): option
        for option in params
        if isinstance(option, click.Option) and option.name != "config"
    }
    found = {}
    for key, value in values.items():
        if key not in options:
            raise click.UsageError(f"{path}: no option {key!r}{_meant(key, list(options))}")
        option = options[key]
        found[str(option.name)] = _value(path, key, option, value)
    return found


def _meant(key: str, known: list[str]) -> str:
    """Return a hint at the option that a key is like, if one is."""
    near = difflib.get_close_matches(key.replace("_", "-"), known, 1)
    return f": did you mean {near[0]!r}?" if near else "; --help lists the options"


def _value(path: str, key: str, option: click.Option, value: Any) -> Any:
    """Return a value in the form that the option has it on the command line."""
    if isinstance(value, dict):
        raise click.UsageError(f"{path}: {key!r} is a table, and options are single values")
    if option.is_flag != isinstance(value, bool):
        wanted = "true or false" if option.is_flag else "a value, and not true or false"
        raise click.UsageError(f"{path}: {key!r} is {wanted}")
    if option.multiple:
        return [str(each) for each in (value if isinstance(value, list) else [value])]
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if option.is_flag else str(value)
