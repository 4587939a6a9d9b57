"""Types of options that click has no word for."""

from __future__ import annotations

import re

import click

__all__ = [
    "Bins",
    "Delimiter",
    "Names",
    "Numbers",
    "Pattern",
    "Several",
    "Split",
    "Words",
    "names_in",
]


class Numbers(click.ParamType):
    """Numbers with commas between them."""

    def __init__(self, kind: type):
        self.kind, self.name = kind, f"{kind.__name__},…"

    def convert(self, value, param, ctx):
        try:
            return [self.kind(part) for part in value.split(",")] if value else []
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 300,100", param, ctx)


class Names(click.ParamType):
    """One of some names, or several with commas between them."""

    name = "name,…"

    def __init__(self, known):
        self.known = known

    def convert(self, value, param, ctx):
        names = value.split(",")
        for name in names:
            if name not in self.known:
                self.fail(f"{name!r} is not one of {', '.join(self.known)}", param, ctx)
        return names if len(names) > 1 else names[0]


class Several(Names):
    """Some of some names, with commas between them: always a list, each once."""

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        found = super().convert(value, param, ctx)
        return list(dict.fromkeys([found] if isinstance(found, str) else found))


def names_in(text: str) -> list[str]:
    """Return the names of columns that stand in a text with commas between them."""
    return [name for part in text.split(",") if (name := part.strip())]


class Words(click.ParamType):
    """Words with commas between them, as a tuple."""

    name = "word,…"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())


class Delimiter(click.ParamType):
    """One character, or the name of one that is hard to type."""

    name = "character"

    def convert(self, value, param, ctx):
        found = {"tab": "\t", "\\t": "\t", "space": " "}.get(value, value)
        if len(found) != 1 or found in '"\n\r' or ord(found) > 127:
            self.fail(f"{value!r} is not one character, tab or space", param, ctx)
        return found


class Pattern(click.ParamType):
    """A regular expression."""

    name = "expression"

    def convert(self, value, param, ctx):
        try:
            re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is no regular expression: {error}", param, ctx)
        return value


class Split(click.ParamType):
    """A column and words in it, such as `Usage=PublicTest,PrivateTest`, as a pair."""

    name = "column=word,…"

    def convert(self, value, param, ctx):
        name, found, words = value.partition("=")
        if not (name and found and words):
            self.fail(f"{value!r} is not of the form Usage=PublicTest", param, ctx)
        return name, words.split(",")


class Bins(click.ParamType):
    """A column, and the bounds between its bins or a number of quantiles, as a pair."""

    name = "column=bound,…"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        name, _, text = value.partition("=")
        found = _bounds(text)
        if not name or found is None:
            self.fail(
                f"{value!r} is not of the form age=50,60,70, rising, or age=quantiles:4", param, ctx
            )
        return name, found


def _bounds(text: str) -> list[float] | int | None:
    """Return bounds, or how many quantiles; None for anything else."""
    try:
        if text.startswith("quantiles:"):
            count = int(text.removeprefix("quantiles:"))
            return count if count >= 2 else None
        bounds = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return bounds if bounds == sorted(set(bounds)) else None
