"""cluster.toml: defaults for the options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from deploy.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["EXAMPLE", "default_map", "locate"]

NAME = "cluster.toml"
# The table [launch] is for the three commands that take a launch's options.
LAUNCHING = ("launch", "run", "plan")

EXAMPLE = """\
# Defaults for `python -m deploy`; what the command line says wins.
# Names are those of the options; what stands here is for every command that has the option.
#region = "eu-west-1"
#profile = "work"
#bucket = "my-bucket"

[launch]
#workers = 8
#instance-type = "m7i.2xlarge"
#spot = true
#min-workers = 4
#auto-terminate = "8h"
#read = ["s3://my-bucket/data"]
#write = ["s3://my-bucket/models"]

[launch.tag]
#team = "forecasts"

[launch.conf]
#"spark.executor.cores" = 4
"""


def locate(given: str | None) -> Path:
    """Return the path of the file: the one given, else the one here, else the user's own."""
    if given:
        return Path(given)
    here = Path(NAME)
    return here if here.is_file() else Path(click.get_app_dir("sparknn")) / NAME


def default_map(group: click.Group, path: Path, required: bool) -> dict[str, dict[str, Any]]:
    """Return click's defaults from a file: a dictionary per command.

    required : whether the file must be there.

    Raises
    ------
    SettingsError
        If it cannot be read, or holds what no command has.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"no file {path}: `configure` makes one") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    launch = values.pop("launch", {})
    if not isinstance(launch, dict):
        raise SettingsError(f"{path}: launch is a table: write [launch]")
    found: dict[str, dict[str, Any]] = {name: {} for name in group.commands}
    _spread(group, path, values, tuple(group.commands), found)
    _spread(group, path, launch, LAUNCHING, found)
    return found


def _spread(
    group: click.Group,
    path: Path,
    values: dict[str, Any],
    commands: tuple[str, ...],
    found: dict[str, dict[str, Any]],
) -> None:
    """Put values into the defaults of those commands that have the option."""
    for key, value in values.items():
        known = False
        for name in commands:
            for option in group.commands[name].params:
                if isinstance(option, click.Option) and f"--{key}" in option.opts:
                    found[name][option.name or ""] = _value(option, value)
                    known = True
        if not known:
            raise SettingsError(f"{path}: no option {key!r}; see `python -m deploy launch --help`")


def _value(option: click.Option, value: Any) -> Any:
    if not option.multiple:
        return value
    if isinstance(value, dict):
        return [f"{key}={_text(one)}" for key, one in value.items()]
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
