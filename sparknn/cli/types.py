"""Types of options that click has no word for."""

from __future__ import annotations

import click

__all__ = ["Names", "Numbers", "Several", "names_in"]


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
