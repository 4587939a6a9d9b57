"""What the columns of a table of text are: numbers, words, or many numbers in one cell.

Decided once, on the training input, and kept with the model: from what `tally` counted in each
column, by the rule that a column is one of numbers when 99 % of its cells that are not empty are.
No Spark here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparknn.errors import InvalidDataError

__all__ = [
    "INTEGER",
    "NUMBER",
    "NUMBERS",
    "SHARE",
    "WORD",
    "Column",
    "Tally",
    "are_numbers",
    "decide",
    "is_number",
    "numbers_of",
    "tally",
]

NUMBER, INTEGER, WORD, NUMBERS = "number", "integer", "word", "numbers"
"""Kinds of columns: any numbers, whole ones, text, and several numbers a cell, as of an image."""

SHARE = 0.99
"""Of a column's cells that are not empty: so many are numbers in a column of numbers."""

EXACT = 2**53
"""Up to here every whole number is a double, and so stays whole."""

_ONE = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = rf"^\s*{_ONE}\s*$"
_LIST = rf"^\s*{_ONE}(?:\s+{_ONE})+\s*$"


class Column(NamedTuple):
    """A column's name and kind, and how many numbers a cell of the kind "numbers" holds."""

    name: str
    kind: str
    width: int = 0


@dataclass
class Tally:
    """Counts of a column's cells: filled ones, those that are one number, a whole one, several.

    widths: how many cells hold how many numbers, of those that hold several.
    """

    filled: int = 0
    numbers: int = 0
    whole: int = 0
    lists: int = 0
    widths: Counter[int] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add the counts of other rows."""
        self.filled += other.filled
        self.numbers += other.numbers
        self.whole += other.whole
        self.lists += other.lists
        self.widths.update(other.widths)


def is_number(text: str) -> bool:
    """Return whether text is a finite number in decimal notation."""
    return are_numbers([text])[0]


def are_numbers(texts: Sequence[str]) -> list[bool]:
    """Return which texts are finite numbers in decimal notation."""
    return pc.match_substring_regex(pa.array(texts, pa.string()), _NUMBER).to_pylist()


def numbers_of(cells: pa.Array) -> tuple[pa.DoubleArray, pa.BooleanArray | None]:
    """Return cells as numbers, and which cells are filled with something else, null there; None
    where none is.

    Cells that are numbers already are finite ones.
    """
    if pa.types.is_floating(cells.type):
        return cells, None
    try:
        values = cells.cast(pa.float64())
        if pc.all(pc.is_finite(values)).as_py() is not False:
            return values, None
    except pa.ArrowInvalid:
        pass  # A cell that is no number, or has spaces round it: looked at one by one.
    fine = pc.match_substring_regex(cells, _NUMBER)
    trimmed = pc.utf8_trim_whitespace(cells)
    # Arrow knows no sign + and no bare point at either end.
    plain = pc.replace_substring_regex(trimmed, r"^\+", "")
    # To RE2 that is group 1 and a zero: it reads one digit.
    plain = pc.replace_substring_regex(plain, r"^(-?)\.", r"\10.")
    values = pc.if_else(fine, plain, pa.scalar(None, pa.string())).cast(pa.float64())
    return values, pc.and_(pc.is_valid(cells), pc.invert(pc.fill_null(fine, False)))


def tally(cells: pa.Array) -> Tally:
    """Count what the cells of a column are; null is an empty one."""
    filled = len(cells) - cells.null_count
    values, other = numbers_of(cells)
    strange = 0 if other is None else pc.sum(other).as_py() or 0
    found = Tally(filled, filled - strange, _whole(values))
    if strange:
        lists = cells.filter(pc.fill_null(pc.match_substring_regex(cells, _LIST), False))
        found.lists = len(lists)
        parts = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(lists))
        widths = pc.value_counts(pc.list_value_length(parts))
        found.widths.update({each["values"].as_py(): each["counts"].as_py() for each in widths})
    return found


def _whole(values: pa.DoubleArray) -> int:
    """Return how many values are whole numbers that a double holds exactly."""
    found = values.drop_null().to_numpy()
    return int(np.count_nonzero((np.floor(found) == found) & (np.abs(found) <= EXACT)))


def decide(
    names: Sequence[str],
    tallies: Sequence[Tally],
    given: Mapping[str, str],
    words: Sequence[str] = (),
    lists: Sequence[str] = (),
) -> list[Column]:
    """Return what each column is.

    given: kinds that a schema names. words: columns that are categories, whatever their cells
    look like. lists: columns said to hold several numbers a cell.

    Raises
    ------
    InvalidDataError
        If a column said to hold several numbers a cell does not.
    """
    columns = []
    for name, counts in zip(names, tallies, strict=True):
        kind = given.get(name)
        if name in lists:
            kind = NUMBERS
        elif kind is None and name in words:
            kind = WORD
        if kind is None:
            kind = _kind(counts)
        width = 0
        if kind == NUMBERS:
            if not counts.widths:
                raise InvalidDataError(
                    f"column {name!r} is to hold many numbers with spaces between them, and no "
                    "cell does"
                )
            width = counts.widths.most_common(1)[0][0]
        columns.append(Column(name, kind, width))
    return columns


def _kind(counts: Tally) -> str:
    if counts.numbers >= SHARE * counts.filled:
        # A column without a single value counts as numbers: it has nothing against it.
        return INTEGER if counts.whole == counts.numbers else NUMBER
    return NUMBERS if counts.lists >= SHARE * counts.filled else WORD
