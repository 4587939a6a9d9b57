"""What the first lines of CSV files tell: the delimiter, and whether they are names. No Spark here.

Files of one input must agree: all begin with the same line of names, or none does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sparknn.cli.column_kinds import are_numbers
from sparknn.cli.lines import split_line
from sparknn.errors import InvalidDataError

__all__ = ["agreed_header", "delimiter_of", "looks_like_names", "names_of"]

DELIMITERS = ",\t;|"


def delimiter_of(line: str) -> str:
    """Return the delimiter that a line has most of, outside quotes; a comma where it has none."""
    bare = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=bare.count)


def looks_like_names(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether a file's first line is a header, judged by it and the line after it.

    It is one where a column of numbers begins with something else; or, without such a column,
    where its cells are all filled, all different and none a number.
    """
    numeric, below = are_numbers(first), are_numbers(second)
    if any(word and cell and number for word, cell, number in _pairs(numeric, first, below)):
        return True
    return not any(numeric) and all(first) and len(set(first)) == len(first)


def _pairs(numeric, first, below):
    return zip([not each for each in numeric], first, below)


def agreed_header(heads: Mapping[str, Sequence[str]], delimiter: str, header: bool | None) -> bool:
    """Return whether the files begin with names.

    Parameters
    ----------
    heads : mapping of str to sequence of str
        The first two lines of every file, by its path.
    header : bool, optional
        What was said of it; by default the lines tell.

    Raises
    ------
    InvalidDataError
        If some files begin with names and some do not, or with other names.
    """
    if header is False:
        return False
    rows = {
        path: [split_line(line, delimiter) for line in [*lines, ""][:2]]
        for path, lines in heads.items()
        if lines
    }
    if header is None:
        found = {path: looks_like_names(first, below) for path, (first, below) in rows.items()}
        with_names = [path for path, named in found.items() if named]
        without = [path for path, named in found.items() if not named]
        # A file of words may begin with a line that only looks like names: one without numbers.
        if with_names and without:
            raise InvalidDataError(_disagreement(with_names, without))
        header = bool(with_names)
    if header:
        _require_same([(path, first) for path, (first, _) in rows.items()])
    return header


def _disagreement(with_names: list[str], without: list[str]) -> str:
    few, many = sorted((with_names, without), key=len)
    begins = "begins with a header and the" if few is with_names else "has no header and the"
    others = f"other {len(many)} file{'s' * (len(many) > 1)}"
    verb = "do not" if few is with_names else "begin with one"
    return (
        f"{_listed(few)} {begins} {others} {verb}: files of one input must agree; mend the file, "
        "or give --header or --no-header if this is a misjudgement"
    )


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


def _require_same(rows: list[tuple[str, list[str]]]) -> None:
    standard, names = rows[0]
    for path, found in rows[1:]:
        if found == names:
            continue
        differ = sorted(set(names) ^ set(found)) or ["their order"]
        raise InvalidDataError(
            f"{path} begins with other names than {standard}: {', '.join(differ[:5])}; files of "
            "one input must agree"
        )


def names_of(cells: Sequence[str], header: bool) -> tuple[str, ...]:
    """Return the columns' names: those of the header, stripped, or c0, c1 and so on.

    Raises InvalidDataError for names that are empty or there twice.
    """
    if not header:
        return tuple(f"c{index}" for index in range(len(cells)))
    names = [cell.strip() for cell in cells]
    for index, name in enumerate(names):
        if not name:
            # Tables written with their row numbers have no name over these.
            names[index] = f"c{index}"
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidDataError(f"the header has {', '.join(map(repr, twice))} more than once")
    return tuple(names)
