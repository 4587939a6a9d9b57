"""Lines of plain decimal numbers as matrices, thousands of cells at a time. No Spark here.

Arrow's reader takes some 25 ns for a cell, however short: in tables of short numbers that is most
of the work. Here every step goes over all bytes of some lines at once. What is not plain (an empty
cell, a space, an exponent, more digits than a double holds exactly) is left to others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["numbers"]

MOST_DIGITS = 15
"""So many digits are a whole number that a double holds; divided by a power of ten that it holds,
too, they give the double that is nearest to the decimal number."""

NEWLINE, MINUS, POINT, ZERO = b"\n-.0"

TENS = 10 ** np.arange(MOST_DIGITS + 1, dtype=np.uint64)


class _Lexed(NamedTuple):
    """Lines of cells, none of them empty, and as many in each line.

    text: (bytes,). digits: (bytes,) what those are worth that are `is_digit`. is_end: (bytes,)
    what follows a cell; ends: (cells,) where. whole: whether all cells are digits and nothing else.
    """

    text: np.ndarray
    digits: np.ndarray
    is_digit: np.ndarray
    is_end: np.ndarray
    ends: np.ndarray
    whole: bool


def _lexed(text: np.ndarray, width: int, delimiter: str) -> _Lexed | None:
    """Cut lines into cells; None where one is empty, or a line has not `width` of them.

    text: (bytes,) uint8, of lines that end in line feeds.
    """
    line_end = text == NEWLINE
    is_end = text == ord(delimiter)
    is_end |= line_end
    ends = np.flatnonzero(is_end)
    if not len(ends) or not line_end[-1] or len(ends) != width * np.count_nonzero(line_end):
        return None
    if (
        is_end[0]
        or (is_end[1:] & is_end[:-1]).any()
        or not line_end[ends[width - 1 :: width]].all()
    ):
        return None
    digits = text - np.uint8(ZERO)
    is_digit = digits < 10
    whole = np.count_nonzero(is_digit) + len(ends) == len(text)
    return _Lexed(text, digits, is_digit, is_end, ends, whole)


def numbers(text: np.ndarray, width: int, delimiter: str) -> np.ndarray | None:
    """Return lines as (rows, width) unsigned integers or float64, or None where a cell is odd.

    Every number is the double that is nearest to what is written.
    """
    found = _lexed(text, width, delimiter)
    if found is None:
        return None
    worth = _runs(found.digits, found.is_digit)
    if worth is None:
        return None
    if found.whole:
        return worth.take(found.ends - 1).reshape(-1, width)
    values = _decimals(found, worth)
    return None if values is None else values.reshape(-1, width)


def _runs(digits: np.ndarray, is_digit: np.ndarray) -> np.ndarray | None:
    """Return at each digit what the run of digits up to it is worth, (bytes,) unsigned integers.

    From the worth of up to n digits that of up to 2 n follows: the last n, and the n before those
    where there are so many. None where a run has more than MOST_DIGITS.
    """
    worth = digits * is_digit.view(np.uint8)
    # Where the last `step` bytes are all digits.
    full, step = is_digit, 1
    for kind in (np.uint8, np.uint16, np.uint32, np.uint64):
        if not (full[1:] & full[:-1]).any():
            return worth
        before = worth[:-step] * full[step:].view(np.uint8)
        before = before.astype(kind, copy=False)
        before *= kind(10**step)
        worth = worth.astype(kind, copy=False)
        worth[step:] += before
        longer = np.zeros(len(full), bool)
        np.logical_and(full[step:], full[:-step], out=longer[step:])
        full, step = longer, 2 * step
    return None if full.any() else worth


def _decimals(found: _Lexed, runs: np.ndarray) -> np.ndarray | None:
    """Return cells with signs and points as (cells,) float64, or None where one is odd.

    runs: as of `_runs`.
    """
    text, is_digit, is_end, ends = found.text, found.is_digit, found.is_end, found.ends
    point, minus = text == POINT, text == MINUS
    points, signs = np.flatnonzero(point), np.flatnonzero(minus)
    if np.count_nonzero(is_digit) + len(points) + len(signs) + len(ends) != len(text):
        return None
    # A point stands between two digits, a sign before one and behind no part of its cell.
    fine = is_digit[points + 1].all() and is_digit[points - 1].all() and is_digit[signs + 1].all()
    if not fine or not (is_end[signs - 1] | (signs == 0)).all():
        return None
    marks = np.flatnonzero(is_end | point)
    after_whole = point[marks]
    if (after_whole[1:] & after_whole[:-1]).any():
        return None
    last = np.flatnonzero(~after_whole)
    # The first cell's predecessor is the last mark, which is an end.
    fraction = after_whole[last - 1]
    begins = np.concatenate([[0], ends[:-1] + 1])
    negative = minus[begins]
    lengths = ends - begins - fraction - negative
    if lengths.max() > MOST_DIGITS:
        return None
    worth = runs.take(marks - 1).astype(np.uint64)
    values = worth[last].astype(np.float64)
    broken = np.flatnonzero(fraction)
    at = last[broken]
    scale = TENS[marks[at] - marks[at - 1] - 1]
    values[broken] = (worth[at - 1] * scale + worth[at]).astype(np.float64) / scale
    if (values[negative] == 0).any():
        # Whether that is 0 or -0 depends on what the column is.
        return None
    values[negative] *= -1
    return values
