"""Features from columns: gaps filled, numbers cut into bins, categories spread, numbers scaled.

All of it by Spark's own feature transformers, fitted on the rows that train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pyspark.ml import Estimator
from pyspark.ml.feature import (
    Bucketizer,
    Imputer,
    MinMaxScaler,
    OneHotEncoder,
    QuantileDiscretizer,
    StandardScaler,
    StringIndexerModel,
    VectorAssembler,
)
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.cli.checking import Table, complaint
from sparknn.errors import InvalidDataError
from sparknn.schema import quoted, stage_name

__all__ = [
    "ABSENT",
    "Recipe",
    "category_words",
    "feature_stages",
    "require_fillable",
    "unused",
    "without_missing",
]

FILLING = ("mean", "median", "mode")

ABSENT = "(missing)"
"""The category of a cell without a word, where gaps are filled."""

MOST_CATEGORIES = 10_000
"""Words that a category may have: each becomes a column."""


@dataclass(frozen=True)
class Recipe:
    """What features are made of: options of the training jobs, by their names.

    categorical, drop: columns. bins: columns, each with the inner bounds of its bins, or how many
    quantiles. split_column: a column, and the words in it of rows that are held out.
    """

    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    bins: tuple[tuple[str, list[float] | int], ...] = ()
    missing: str = "fail"
    unseen: str = "fail"
    split_column: tuple[str, list[str]] | None = None

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Recipe:
        """Take these options out of a command's."""
        return cls(**{each.name: options.pop(each.name) for each in fields(cls)})

    @property
    def fills(self) -> bool:
        """Whether gaps in single numbers and categories are filled."""
        return self.missing in FILLING

    @property
    def words(self) -> list[str]:
        """Columns in which no number needs to be."""
        split = [self.split_column[0]] if self.split_column else []
        return [*self.categorical, *self.drop, *split]


def feature_stages(
    table: Table,
    vector: bool,
    scale: str,
    recipe: Recipe,
    taken: Sequence[str],
    words: Mapping[str, Sequence[str]],
) -> tuple[list[Any], str]:
    """Return stages to fit in this order, and the name of the column of features that they make.

    vector: whether a single vector or array column holds the features. taken: names that their
    columns must not have. words: of each category.
    """
    names = _Names(taken)
    stages: list[Any] = []
    numbers, spread = list(table.features), []
    if recipe.fills and numbers and not vector:
        filled = [names.new(f"{name}_filled") for name in numbers]
        # Spark fills numbers of any type, but whole ones with whole ones.
        given = [stage_name(name) for name in numbers]
        stages.append(Imputer(strategy=recipe.missing, inputCols=given, outputCols=filled))
        numbers = filled
    if recipe.bins:
        made = dict(zip(table.features, numbers, strict=True))
        binned, bins = _bins(recipe, made, names)
        stages += binned
        spread += bins
        numbers = [name for name in numbers if name not in {made[each] for each, _ in recipe.bins}]
    if table.categories:
        indexed = [names.new(f"{name}_index") for name in table.categories]
        keep = "keep" if recipe.unseen == "keep" else "error"
        given = [stage_name(name) for name in table.categories]
        known = [words[name] for name in table.categories]
        stages.append(StringIndexerModel.from_arrays_of_labels(known, given, indexed, keep))
        spread += indexed
    return _joined(stages, numbers, spread, vector, scale, names)


def _joined(
    stages: list[Any],
    numbers: list[str],
    spread: list[str],
    vector: bool,
    scale: str,
    names: _Names,
) -> tuple[list[Any], str]:
    """Add what makes one vector: numbers, scaled, then a column for each bin and category."""
    parts: list[str] = []
    if vector:
        parts = numbers
    elif numbers:
        parts = [names.new("numbers" if spread else "features")]
        given = [stage_name(name) for name in numbers]
        stages.append(VectorAssembler(inputCols=given, outputCol=parts[0]))
    if parts and scale != "none":
        scaled = names.new("scaled_numbers" if spread else "scaled_features")
        stages.append(_scaler(scale, stage_name(parts[0]), scaled))
        parts = [scaled]
    if spread:
        flags = [names.new(f"{name}_flags") for name in spread]
        # All categories: a penalty would treat one without a column unlike the others.
        stages.append(OneHotEncoder(inputCols=spread, outputCols=flags, dropLast=False))
        features = names.new("features")
        given = [*map(stage_name, parts), *flags]
        stages.append(VectorAssembler(inputCols=given, outputCol=features))
        parts = [features]
    return stages, parts[0]


def _bins(recipe: Recipe, made: Mapping[str, str], names: _Names) -> tuple[list[Any], list[str]]:
    """Return the stages that cut columns into bins, and the columns of the bins' numbers."""
    stages: list[Any] = []
    outputs = []
    for name, bounds in recipe.bins:
        if name not in made:
            raise InvalidDataError(f"--bins {name}: that is no single number among the features")
        given, output = stage_name(made[name]), names.new(f"{name}_bin")
        if isinstance(bounds, int):
            cut = QuantileDiscretizer(
                numBuckets=bounds, inputCol=given, outputCol=output, relativeError=0.0
            )
            stages.append(cut)
        else:
            splits = [float("-inf"), *bounds, float("inf")]
            stages.append(Bucketizer(splits=splits, inputCol=given, outputCol=output))
        outputs.append(output)
    return stages, outputs


class _Names:
    """Names of new columns: Spark takes names for one that differ in case alone."""

    def __init__(self, taken: Sequence[str]):
        self.taken = {name.lower() for name in taken}

    def new(self, name: str) -> str:
        """Return a name that no other column has and MLlib takes as it is, and keep it."""
        name = name.replace(".", "_").replace("`", "_")
        while name.lower() in self.taken:
            name += "_"
        self.taken.add(name.lower())
        return name


def unused(taken: Sequence[str], name: str) -> str:
    """Return a name that is not taken."""
    return _Names(taken).new(name)


def _scaler(kind: str, features: str, scaled: str) -> Estimator:
    if kind == "standard":
        return StandardScaler(withMean=True, withStd=True, inputCol=features, outputCol=scaled)
    return MinMaxScaler(inputCol=features, outputCol=scaled)


def without_missing(
    data: DataFrame, table: Table, missing: str, fills: bool, nullable: bool = False
) -> tuple[DataFrame, int]:
    """Return the rows that have all they need, and how many have not.

    missing: "fail", or else rows with gaps that nothing fills are left out. fills: gaps in single
    numbers and categories are filled. nullable: a label may be missing.

    Raises InvalidDataError for rows with gaps, unless they may be left out or filled.
    """
    needed = [name for name in (table.label, table.weight) if name is not None]
    if nullable and table.label is not None:
        needed.remove(table.label)
    if fills:
        for name in table.categories:
            cell = F.col(quoted(name)).cast("string")
            data = data.withColumn(name, F.coalesce(cell, F.lit(ABSENT)))
    else:
        needed += table.categories
    if not fills or table.vector(data):
        needed += table.features
    if not needed:
        return data, 0
    gaps = [F.col(quoted(name)).isNull() for name in needed]
    gap = F.exists(F.array(*gaps), lambda found: found)
    count = data.filter(gap).count()
    if count and missing == "fail":
        raise InvalidDataError(_gaps_told(data, needed, gaps))
    return (data.filter(~gap), count) if count else (data, 0)


def require_fillable(data: DataFrame, numbers: Sequence[str]) -> None:
    """Raise InvalidDataError for columns without any number, which nothing can be filled with."""
    cells = [F.col(quoted(name)).cast("double") for name in numbers]
    # Spark's Imputer fills NaN, too.
    counts = [F.count(F.nanvl(cell, F.lit(None).cast("double"))) for cell in cells]
    found = data.agg(*counts).first() or ()
    empty = [name for name, count in zip(numbers, found, strict=True) if not count]
    if empty:
        raise InvalidDataError(
            f"column {empty[0]!r} is empty in all rows that train, and cannot be filled: leave it "
            f"out with --drop '{','.join(empty)}'"
        )


def _gaps_told(data: DataFrame, needed: Sequence[str], gaps: Sequence[Any]) -> str:
    """Return which of some columns have gaps, and how to go on."""
    found = data.agg(*[F.count_if(gap) for gap in gaps]).first() or ()
    empty = [(name, gap) for name, gap, count in zip(needed, gaps, found, strict=True) if count]
    advice = (
        "Rows count from 0. --missing drop leaves such rows out; mean, median and mode fill "
        "single numbers"
    )
    told = []
    for number, (name, gap) in enumerate(empty[:3], 1):
        last = number == min(3, len(empty))
        text = complaint(data, gap, "null, or empty", F.lit(None), advice if last else "")
        told.append(f"column {name!r}: {text.strip()}")
    return " ".join(told)


def category_words(data: DataFrame, categories: Sequence[str]) -> dict[str, list[str]]:
    """Return the different words in each category, in alphabetical order.

    Raises InvalidDataError for a column of too many.
    """
    words = {}
    for name in categories:
        cell = F.col(quoted(name)).cast("string").alias("word")
        found = data.select(cell).distinct().limit(MOST_CATEGORIES + 1).collect()
        if len(found) > MOST_CATEGORIES:
            raise InvalidDataError(
                f"column {name!r} holds more than {MOST_CATEGORIES} different words, too many for "
                "--categorical, which makes a column of each: --drop it"
            )
        words[name] = sorted(row["word"] for row in found)
    return words
