"""Which settings a search tries: all combinations of listed values, or random draws from ranges.

Values are written as on a training job's command line and converted by the same options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import click
import numpy as np

from sparknn.cli.types import Numbers

__all__ = ["Range", "Setting", "Values", "settings_of"]

DRAWS = 100
"""How often to draw, for each setting that is wanted, before there seem to be no more."""


class Setting(NamedTuple):
    """One setting of a search.

    shown: each option's value as it is written, by the option's name. options: the values
    themselves, by the name under which a command takes them.
    """

    shown: dict[str, str]
    options: dict[str, Any]


class Drawn(NamedTuple):
    """A range to draw from. kind: "linear", "log", or "int", which includes both ends."""

    kind: str
    low: float
    high: float

    def draw(self, random: np.random.Generator) -> str:
        """Return a number of the range, in digits that can be typed again."""
        if self.kind == "int":
            return str(random.integers(int(self.low), int(self.high), endpoint=True))
        if self.kind == "log":
            return f"{math.exp(random.uniform(math.log(self.low), math.log(self.high))):.6g}"
        return f"{random.uniform(self.low, self.high):.6g}"


class Values(click.ParamType):
    """An option's name and the values to try, such as `step-size=0.01,0.1`."""

    name = "name=value,…"

    def convert(self, value, param, ctx):
        name, found, values = value.partition("=")
        listed = values.split(",")
        if not (name and found and all(listed)):
            self.fail(f"{value!r} is not of the form step-size=0.01,0.1", param, ctx)
        return name.removeprefix("--"), list(dict.fromkeys(listed))


class Range(click.ParamType):
    """An option's name and the range to draw from, such as `step-size=log:0.001:0.1`."""

    name = "name=kind:low:high"

    def convert(self, value, param, ctx):
        name, _, text = value.partition("=")
        kind, *ends = text.split(":")
        try:
            low, high = map(int if kind == "int" else float, ends)
        except ValueError:
            low = high = math.nan
        if not name or kind not in ("linear", "log", "int") or not low < high < math.inf:
            self.fail(
                f"{value!r} is not of the form step-size=log:0.001:0.1, where log may be linear "
                "or int, and the first number is below the second",
                param,
                ctx,
            )
        if low == -math.inf or (kind == "log" and low <= 0):
            self.fail(f"{value!r}: a log range begins above 0, any other at a number", param, ctx)
        return name.removeprefix("--"), Drawn(kind, low, high)


def settings_of(
    options: Mapping[str, click.Option],
    values: Sequence[tuple[str, list[str]]],
    ranges: Sequence[tuple[str, Drawn]],
    samples: int | None,
    seed: int,
) -> list[Setting]:
    """Return the settings to try, each once.

    Parameters
    ----------
    options : mapping of str to click.Option
        What may be searched, by name without dashes.
    values, ranges : sequences of (name, what the name may be)
    samples : int, optional
        How many settings to draw, fewer where there are fewer; by default every combination of
        the values.
    seed : int
        Of the draws.

    Raises
    ------
    click.UsageError
        For a name that is unknown or there twice, a value that its option does not take, a range
        without `samples`, nothing to search.
    """
    names = [name for name, _ in [*values, *ranges]]
    for name in names:
        if name not in options:
            raise click.UsageError(f"{name!r} cannot be searched; there are {', '.join(options)}")
        if names.count(name) > 1:
            raise click.UsageError(f"{name!r} is there more than once: list its values in one go")
    if not names:
        raise click.UsageError("nothing to search: give --grid NAME=VALUES or --range")
    if samples is None:
        if ranges:
            raise click.UsageError("--range is drawn from: say with --samples how many settings")
        chosen = list(product(*(listed for _, listed in values)))
    else:
        chosen = _draws([*values, *ranges], samples, seed)
    return [_setting(options, dict(zip(names, each, strict=True))) for each in chosen]


def _draws(
    spaces: Sequence[tuple[str, list[str] | Drawn]], samples: int, seed: int
) -> list[tuple[str, ...]]:
    """Return up to `samples` different draws."""
    random = np.random.default_rng(seed % 2**64)
    found: dict[tuple[str, ...], None] = {}
    for _ in range(DRAWS * samples):
        draw = (
            space.draw(random) if isinstance(space, Drawn) else str(random.choice(space))
            for _, space in spaces
        )
        found[tuple(draw)] = None
        if len(found) == samples:
            break
    return list(found)


def _setting(options: Mapping[str, click.Option], shown: dict[str, str]) -> Setting:
    """Convert the values as a command line would."""
    converted = {}
    for name, text in shown.items():
        option = options[name]
        # Commas stand between values here, so sizes have another sign between them.
        written = text.replace("x", ",") if isinstance(option.type, Numbers) else text
        converted[str(option.name)] = option.type.convert(written, option, None)
    return Setting(shown, converted)
