"""Whether the rows that a job was given are valid, asked before anything is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType

from sparknn.blocks import inspect
from sparknn.cli.column_kinds import Column
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError
from sparknn.rows import LARGEST, MOST_CLASSES, Layout
from sparknn.schema import column_type, feature_columns, is_numeric, numeric_column, quoted

__all__ = [
    "Rules",
    "Table",
    "checked",
    "choose_columns",
    "chosen",
    "chosen_names",
    "complaint",
    "invalid_rows",
    "is_word",
    "require_label",
    "require_seen",
    "width_of",
]

ADVICE = "Rows count from 0. Mend the rows, or set --bad-lines skip to leave them out"

STRAY = (
    "Rows count from 0. A column of words is to be named in --categorical or --drop; what stands "
    "for a missing value in --null-values"
)


@dataclass(frozen=True)
class Table:
    """Which columns are used.

    features: one vector or array column, or several numeric ones. label, weight: names, or None
    where there is none. categories: columns of words, and of numbers that stand for them. kinds:
    what columns of text were found to be.
    """

    features: tuple[str, ...]
    label: str | None = None
    weight: str | None = None
    categories: tuple[str, ...] = ()
    kinds: tuple[Column, ...] = ()

    @property
    def names(self) -> list[str]:
        """All columns, each once."""
        others = filter(None, [self.label, self.weight])
        return list(dict.fromkeys([*self.features, *self.categories, *others]))

    def vector(self, data: DataFrame) -> bool:
        """Return whether a single vector or array column holds the features."""
        if len(self.features) != 1:
            return False
        return isinstance(column_type(data, self.features[0]), (VectorUDT, ArrayType))


@dataclass(frozen=True)
class Rules:
    """What makes a row of a table valid, beside that no value is null, NaN or infinite.

    width: the features that it must have, categories apart. classes: labels are whole numbers
    below this, or, at 0, below any sensible bound; None: any number, as for a regression. words:
    the labels known where they are words; None: any. nullable: a number that is null is no fault
    in a label. filled: nor is one in single features, because the pipeline fills them. seen: the
    words that each category may hold; any, in one that is not there.
    """

    table: Table
    width: int
    classes: int | None = 0
    words: tuple[str, ...] | None = None
    nullable: bool = False
    filled: bool = False
    seen: Mapping[str, Sequence[str]] = field(default_factory=dict)


def choose_columns(
    data: DataFrame,
    label: str | None,
    features: str | None,
    weight: str | None = None,
    numeric: bool = False,
    categories: Sequence[str] = (),
    aside: Sequence[str] = (),
) -> Table:
    """Return the columns to train on; by default all but the label and the weight.

    features: comma-separated names, or None: a vector or array column called "features", else
    every other column. numeric: the label is a number, not a class that may be a word.
    categories: those among the features that hold words, or numbers that stand for them. aside:
    columns that are no features unless named.

    Raises
    ------
    InvalidDataError
        If a column is missing or of a type that cannot be used.
    """
    if label is not None:
        column_type(data, label)
        if numeric:
            _look_for_stray_text(data, label)
        if numeric or not is_word(data, label):
            numeric_column(data, label)
    if weight:
        numeric_column(data, weight)
    names = chosen_names(data.columns, label, features, weight, aside)
    if not names:
        raise InvalidDataError("there are no columns to train on but the label's")
    for name in categories:
        column_type(data, name)
    measured = tuple(name for name in names if name not in categories)
    table = Table(measured, label, weight, tuple(categories))
    _require_numbers(data, table)
    return table


def chosen_names(
    columns: Sequence[str],
    label: str | None,
    features: str | None,
    weight: str | None = None,
    aside: Sequence[str] = (),
) -> list[str]:
    """Return which of some columns are features; all arguments as of `choose_columns`."""
    if features:
        return [name.strip() for name in features.split(",")]
    if "features" in columns and label != "features":
        return ["features"]
    return [name for name in columns if name not in (label, weight, *aside)]


def is_word(data: DataFrame, name: str) -> bool:
    """Return whether a column holds strings."""
    return isinstance(column_type(data, name), StringType)


def width_of(data: DataFrame, table: Table) -> int:
    """Return the number of features that the first row has."""
    if not table.vector(data):
        return len(table.features)
    values, width = _values(data, Rules(table, 0))
    found = data.filter(values.isNotNull()).select(width).first()
    if found is None:
        raise InvalidDataError(f"column {table.features[0]!r}: every row is null")
    return found[0]


def require_label(data: DataFrame, rules: Rules) -> None:
    """Raise InvalidDataError unless there are labels such as the model was trained on."""
    label = rules.table.label or ""
    if label not in data.columns:
        raise InvalidDataError(
            f"no column {label!r}, the label that the model was trained on; there are "
            f"{', '.join(data.columns)}"
        )
    if rules.words is None:
        _look_for_stray_text(data, label)
        numeric_column(data, label)


def require_seen(data: DataFrame, words: Mapping[str, Sequence[str]]) -> None:
    """Raise InvalidDataError for categories that are not among the words of the training rows."""
    for name, known in words.items():
        cell, advice = F.col(quoted(name)), f"{ADVICE}, or train with --unseen keep"
        unseen = _is_unseen(name, known)
        found = complaint(data, unseen, "not in the training rows", cell.cast("string"), advice)
        if found:
            raise InvalidDataError(f"column {name!r}: {found}")


def _is_unseen(name: str, words: Sequence[str]) -> SparkColumn:
    return ~F.col(quoted(name)).cast("string").isin(list(words))


def chosen(data: DataFrame, table: Table) -> DataFrame:
    """Return the columns of a table alone."""
    return data.select(*[F.col(quoted(name)) for name in table.names])


def checked(data: DataFrame, rules: Rules, skip: bool) -> tuple[DataFrame, int]:
    """Return the valid rows, and how many others were left out.

    skip: leave invalid rows out; else they are an error.

    Raises
    ------
    InvalidDataError
        If rows are invalid and not to be skipped, with the column, their number and the first
        one; if no row is left; if a column is missing or of another type.
    """
    _require_numbers(data, rules.table)
    label = rules.table.label
    if label is not None and rules.words is None and not is_word(data, label):
        numeric_column(data, label)
    if not skip:
        _require_valid(data, rules)
        return data, 0
    invalid = _invalid(data, rules)
    rows, skipped = data.agg(F.count("*"), F.count_if(invalid)).first() or (0, 0)
    if skipped == rows:
        raise InvalidDataError(f"no valid row is left of {rows}")
    return data.filter(~invalid), skipped


def invalid_rows(data: DataFrame, rules: Rules) -> DataFrame:
    """Return the rows that `checked` leaves out."""
    return data.filter(_invalid(data, rules))


def complaint(
    data: DataFrame, invalid: SparkColumn, reason: str, shown: SparkColumn, advice: str = ADVICE
) -> str:
    """Return how many rows are `invalid`, and which is the first; "" where none is.

    Rows count from 0 through all partitions, as in sparknn's other messages.
    """
    place = F.monotonically_increasing_id().alias("place")
    rows = data.select(place, invalid.alias("invalid"), shown.cast("string").alias("shown"))
    found = rows.filter("invalid").agg(
        F.count("*").alias("rows"), F.min("place").alias("place"), F.min_by("shown", "place")
    )
    count, place, example = found.first() or (0, None, None)
    if place is None:
        return ""
    # The upper bits number the partition, the lower 33 the row in it.
    partition, position = place >> 33, place & (2**33 - 1)
    first = data.filter(F.spark_partition_id() < partition).count() + position
    value = "" if example is None else f" ({example})"
    verb = "row is" if count == 1 else "rows are"
    return f"{count} {verb} {reason}; the first is row {first}{value}. {advice}"


def _require_numbers(data: DataFrame, table: Table) -> None:
    """Raise InvalidDataError unless the feature columns are there and hold numbers."""
    if table.vector(data):
        feature_columns(data, table.features[0])
        return
    words = [name for name in table.features if not is_numeric(data, name)]
    for name in words:
        _look_for_stray_text(data, name)
    for name in words:
        kind = column_type(data, name)
        if isinstance(kind, (VectorUDT, ArrayType)):
            raise InvalidDataError(
                f"column {name!r} holds many numbers, and cannot stand beside single ones: name "
                "it alone with --features, or leave the others out with --drop"
            )
        if not isinstance(kind, StringType):
            raise InvalidDataError(
                f"column {name!r} is {kind.typeName()}, and features are numbers: leave it "
                f"out with --drop {name}, or store a number"
            )
    if words:
        raise InvalidDataError(
            f"features are numbers, and {', '.join(words)} are none: name columns of words in "
            "--categorical or --drop, or the columns to use in --features"
        )


def _look_for_stray_text(data: DataFrame, name: str) -> None:
    """Raise InvalidDataError for a column of words that is one of numbers but for some cells."""
    if not is_word(data, name):
        return
    column = F.col(quoted(name))
    number = F.coalesce(F.abs(column.try_cast("double")) <= LARGEST, F.lit(False))
    if data.filter(number).isEmpty():
        return
    found = complaint(data, column.isNotNull() & ~number, "no number", column, STRAY)
    raise InvalidDataError(f"column {name!r}: {found or 'numbers as text; store them as numbers'}")


def _require_valid(data: DataFrame, rules: Rules) -> None:
    """Raise InvalidDataError for the first invalid column."""
    table = rules.table
    _require_words(data, rules)
    require_seen(data, rules.seen)
    vector = table.vector(data)
    columns, single = _features(data, rules)
    targets: tuple[str, ...] = ()
    if table.label is not None and rules.words is None and not is_word(data, table.label):
        targets = (table.label,)
        columns.append(numeric_column(data, table.label))
    if table.weight is not None:
        columns.append(numeric_column(data, table.weight))
    layout = Layout(
        table.features[0] if len(table.features) == 1 else "features",
        single,
        targets,
        rules.classes,
        table.weight,
        rules.width if table.features else 1,
        names=() if vector else table.features,
        nullable=rules.nullable,
    )
    try:
        inspect(Cluster(data.sparkSession), data, layout, columns)
    except InvalidDataError as error:
        if single:
            _require_all(data, table)
        message = str(error).replace("handleInvalid='skip'", "--bad-lines skip")
        raise InvalidDataError(message) from None


def _require_words(data: DataFrame, rules: Rules) -> None:
    """Raise InvalidDataError where labels that are words are missing or unknown."""
    label = rules.table.label
    if label is None or (rules.words is None and not is_word(data, label)):
        return
    column = F.col(quoted(label)).cast("string")
    found = complaint(data, column.isNull(), "null", F.lit(None))
    if not found and rules.words is not None:
        unknown = ~column.isin(list(rules.words))
        found = complaint(data, unknown, "a label that was not in the training rows", column)
    if found:
        raise InvalidDataError(f"column {label!r}: {found}")


def _require_all(data: DataFrame, table: Table) -> None:
    """Raise InvalidDataError that names the first of several feature columns with a null."""
    nulls = [F.count_if(F.col(quoted(name)).isNull()) for name in table.features]
    for name, count in zip(table.features, data.agg(*nulls).first() or (), strict=True):
        if count:
            found = complaint(data, F.col(quoted(name)).isNull(), "null", F.lit(None))
            raise InvalidDataError(f"column {name!r}: {found}")


def _invalid(data: DataFrame, rules: Rules) -> SparkColumn:
    """Return the condition of an invalid row: what `_require_valid` looks for, in the JVM."""
    table = rules.table
    values, width = _values(data, rules)
    odd = F.exists(values, lambda x: x.isNull() | F.isnan(x) | (F.abs(x) > LARGEST))
    invalid = (width != (rules.width if table.features else 1)) | odd
    if table.label is not None:
        if rules.words is not None:
            known = F.col(quoted(table.label)).cast("string").isin(list(rules.words))
        elif is_word(data, table.label):
            known = F.col(quoted(table.label)).isNotNull()
        else:
            label = numeric_column(data, table.label)
            known = F.abs(label) <= LARGEST
            if rules.classes is not None:
                known = (label >= 0) & (label < (rules.classes or MOST_CLASSES))
                known = known & (label == F.floor(label))
            if rules.nullable:
                known = F.coalesce(known, label.isNull())
        invalid = invalid | ~known
    if table.weight is not None:
        weight = numeric_column(data, table.weight)
        invalid = invalid | ~((weight >= 0) & (weight <= LARGEST))
    for name, words in rules.seen.items():
        invalid = invalid | _is_unseen(name, words)
    # What is null on the way is null in the row.
    return F.coalesce(invalid, F.lit(True))


def _features(data: DataFrame, rules: Rules) -> tuple[list[SparkColumn], int]:
    """Return the columns of the features, and how many single ones they are, or 0 for a vector."""
    table = rules.table
    if table.vector(data):
        return feature_columns(data, table.features[0])
    # Where there are categories alone, a number that is in order stands in for the features.
    columns = feature_columns(data, table.features)[0] or [F.lit(0.0)]
    if rules.filled:
        columns = [F.coalesce(column, F.lit(0.0)) for column in columns]
    return columns, len(columns)


def _values(data: DataFrame, rules: Rules) -> tuple[SparkColumn, SparkColumn]:
    """Return a row's features that may be invalid, as an array, and how many it has in all."""
    columns, single = _features(data, rules)
    if single:
        return F.array(*columns), F.lit(single)
    (column,) = columns
    if isinstance(column_type(data, rules.table.features[0]), ArrayType):
        return column, F.size(column)
    # A sparse vector (type 0) holds some of its values; the others are 0.
    length = F.when(column["type"] == 0, column["size"]).otherwise(F.size(column["values"]))
    return column["values"], length
