"""The options that say how an input is written, and what features are made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from sparknn.cli.inputs import FORMATS
from sparknn.cli.types import Bins, Delimiter, Pattern, Split, Words

__all__ = ["Decorator", "group", "input_options", "recipe_options"]

Decorator = Callable[[Any], Any]


def group(*options: Decorator) -> Decorator:
    """Return one decorator for several options, shown in this order."""

    def decorate(command):
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


input_options = group(
    click.option("--input", "path", required=True, help="A file, a directory or a glob."),
    click.option(
        "--format",
        "kind",
        type=click.Choice(FORMATS),
        help="By default what the file names end in.",
    ),
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether CSV files begin with a line of names; by default their first lines tell.",
    ),
    click.option(
        "--delimiter",
        type=Delimiter(),
        help="Of CSV: one character, or tab; by default what the first line has most of.",
    ),
    click.option(
        "--schema",
        help="What columns are, such as 'age DOUBLE, city STRING, pixels ARRAY<DOUBLE>', and "
        "what they are called where there is no header. By default a column is one of numbers "
        "where 99 % of its cells are.",
    ),
    click.option(
        "--numbers-column",
        multiple=True,
        help="A column of which a cell holds many numbers with spaces between them, such as the "
        "pixels of an image; by default found by itself.",
    ),
    click.option(
        "--null-values",
        type=Words(),
        default=(),
        help="What stands for a missing value beside an empty cell, such as NA,?.",
    ),
    click.option("--multiline", is_flag=True, help="Quoted cells may hold line breaks."),
    click.option(
        "--skip-matching", type=Pattern(), help="Leave out lines in which this expression is found."
    ),
    click.option(
        "--bad-lines",
        type=click.Choice(["fail", "skip", "quarantine"]),
        default="fail",
        show_default=True,
        help="What to do about lines and rows that are malformed, NaN, infinite or out of range: "
        "stop, leave them out and count them, or write them beside the output, too.",
    ),
    click.option(
        "--max-bad-fraction",
        type=click.FloatRange(0, 1),
        default=0.5,
        show_default=True,
        help="Share of bad rows above which the job stops all the same.",
    ),
    click.option(
        "--bad-files",
        type=click.Choice(["fail", "skip"]),
        default="fail",
        show_default=True,
        help="What to do about a file that cannot be read to its end: stop, or leave it out whole.",
    ),
)

recipe_options = group(
    click.option(
        "--categorical",
        type=Words(),
        default=(),
        help="Columns of words, or of numbers that stand for them, to be made one column a word.",
    ),
    click.option("--drop", type=Words(), default=(), help="Columns to leave aside."),
    click.option(
        "--bins",
        type=Bins(),
        multiple=True,
        help="Cut a column of numbers into bins, a column each: age=50,60,70 or age=quantiles:4.",
    ),
    click.option(
        "--missing",
        type=click.Choice(["fail", "drop", "mean", "median", "mode"]),
        default="fail",
        show_default=True,
        help="What to do about empty cells: stop, leave their rows out, or fill single numbers.",
    ),
    click.option(
        "--unseen",
        type=click.Choice(["fail", "keep"]),
        default="fail",
        show_default=True,
        help="What to do about categories that are not in the training rows: treat their rows as "
        "bad lines, or give them a column of their own.",
    ),
    click.option(
        "--split-column",
        type=Split(),
        help="Hold out rows by a column, such as Usage=PublicTest, to measure the model.",
    ),
)
