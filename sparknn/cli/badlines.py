"""Lines and rows that cannot be used: counted, shown, set aside, and too many of them refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.checking import Rules, checked, invalid_rows
from sparknn.cli.outputs import write_aside
from sparknn.cli.session import say
from sparknn.cli.text_batches import FAULT, FAULT_TYPE
from sparknn.errors import InvalidDataError
from sparknn.saved import BAD
from sparknn.schema import quoted

__all__ = [
    "Counts",
    "as_faults",
    "bad_path",
    "require_few",
    "settled",
    "without_invalid",
    "write_quarantine",
]

SHOWN = 10
LONGEST = 120
"""Bad lines that are shown, and characters of one."""

ADVICE = "Mend them, or set --bad-lines skip or quarantine to leave them out"


@dataclass
class Counts:
    """What became of an input's rows.

    rows: all of them, with the bad and the missing ones; None where nobody counted. bad:
    malformed or invalid. missing: with an empty cell where there may be none. blank, matched:
    lines that are no rows, as nothing stands in them or --skip-matching found them.
    files_left_out: unreadable ones. faults: the bad rows, in FAULT_TYPE's columns.
    """

    rows: int | None = None
    bad: int = 0
    missing: int = 0
    blank: int = 0
    matched: int = 0
    files_left_out: list[str] = field(default_factory=list)
    faults: list[DataFrame] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        """Rows that were left out, for whatever reason."""
        return self.bad + self.missing

    def as_json(self) -> dict[str, Any]:
        """Return the counts that a job's closing JSON has."""
        counts = {
            name: getattr(self, name) for name in ("rows", "bad", "missing", "blank", "matched")
        }
        return {**counts, "filesLeftOut": self.files_left_out}


def settled(frame: DataFrame, policy: str, most: float) -> tuple[DataFrame, Counts]:
    """Return the rows without the faulty lines, and their counts.

    frame: with the column FAULT. policy: "fail", "skip" or "quarantine". most: the share of rows
    that may be bad.

    Raises InvalidDataError for bad lines that are not to be left out, or too many of them.
    """
    what = F.col(FAULT)["what"]
    found = frame.groupBy(what.alias("what")).agg(
        F.sum(F.coalesce(F.col(FAULT)["count"], F.lit(1))).alias("count")
    )
    numbers = {row["what"]: row["count"] for row in found.collect()}
    good = numbers.get(None, 0)
    counts = Counts(
        good + numbers.get("bad", 0),
        numbers.get("bad", 0),
        blank=numbers.get("blank", 0),
        matched=numbers.get("matched", 0),
    )
    rows = frame.filter(F.col(FAULT).isNull()).drop(FAULT)
    if counts.bad:
        faults = frame.filter(what == "bad").select(f"{FAULT}.*")
        counts.faults.append(faults)
        first = _show(faults)
        if policy == "fail":
            verb = "line is" if counts.bad == 1 else "lines are"
            raise InvalidDataError(f"{counts.bad} {verb} bad; the first: {first}. {ADVICE}")
        require_few(counts, most)
    return rows, counts


def _show(faults: DataFrame) -> str:
    """Say which the first bad lines are; return the first of them."""
    texts = []
    for row in faults.orderBy("file", "line").limit(SHOWN).collect():
        line = "" if row["line"] is None else f" line {row['line']}"
        text = row["text"] if len(row["text"]) <= LONGEST else f"{row['text'][: LONGEST - 3]}..."
        texts.append(f"{row['file']}{line}: {row['reason']}: {text!r}")
        say(f"bad: {texts[-1]}")
    return texts[0]


def require_few(counts: Counts, most: float) -> None:
    """Raise InvalidDataError where more than a share of the rows is bad."""
    if counts.rows and counts.bad > most * counts.rows:
        raise InvalidDataError(
            f"{counts.bad} of {counts.rows} rows are bad, more than --max-bad-fraction {most:g}: "
            "look at the options that say how the input is written, or raise it"
        )


def without_invalid(
    data: DataFrame, rules: Rules, policy: str, most: float, path: str, counts: Counts
) -> DataFrame:
    """Return the rows that keep the rules; the others are counted with the bad ones.

    policy, most: as of `settled`. path: of the input, for what is written of the bad rows.
    """
    valid, bad = checked(data, rules, policy != "fail")
    if bad:
        counts.bad += bad
        counts.faults.append(as_faults(invalid_rows(data, rules), path, "an invalid value"))
        # Typed formats have not been counted before.
        counts.rows = counts.rows or data.count() + counts.missing
        require_few(counts, most)
    return valid


def as_faults(rows: DataFrame, path: str, reason: str) -> DataFrame:
    """Return rows that are invalid as the faults they are, with their values as JSON."""
    columns = F.struct(*[F.col(quoted(name)) for name in rows.columns])
    told = {
        "what": F.lit("bad"),
        "file": F.lit(path),
        "line": F.lit(None),
        "reason": F.lit(reason),
        "text": F.to_json(columns),
        "count": F.lit(1),
    }
    return rows.select(
        *[told[each.name].cast(each.dataType).alias(each.name) for each in FAULT_TYPE.fields]
    )


def bad_path(output: str) -> str:
    """Return where the bad lines of a job with this output are written."""
    return f"{output.rstrip('/')}{BAD}"


def write_quarantine(
    session: SparkSession, counts: Sequence[Counts], output: str, overwrite: bool
) -> None:
    """Write all bad rows as JSON lines beside an output, an empty directory where none is bad."""
    found = session.createDataFrame([], FAULT_TYPE)
    for frame in (frame for each in counts for frame in each.faults):
        found = found.union(frame)
    place = bad_path(output)
    write_aside(
        session,
        place,
        overwrite,
        lambda path: found.select("file", "line", "reason", "text").write.json(path),
        lambda path: session.read.text(path).count(),
    )
    say(f"{sum(each.bad for each in counts)} bad lines written to {place}")
