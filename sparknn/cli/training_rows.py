"""What a training job reads: its rows, checked and split before anything is computed from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import click
from pyspark.ml import Estimator
from pyspark.ml.feature import StringIndexerModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.badlines import Counts, without_invalid, write_quarantine
from sparknn.cli.checking import (
    Rules,
    Table,
    choose_columns,
    chosen,
    require_label,
    require_seen,
    width_of,
)
from sparknn.cli.encoding import Recipe, category_words, without_missing
from sparknn.cli.inputs import Input, Reading, hold_out, read, reading, split_by
from sparknn.cli.preparation import (
    is_regression,
    label_indexer,
    number_of_classes,
    prediction_columns,
    require_scalable,
    require_unused,
)
from sparknn.cli.saved_columns import InputColumns
from sparknn.errors import InvalidDataError
from sparknn.feature.fine_tuning import FineTuned
from sparknn.readers import Reader
from sparknn.schema import column_type, quoted

__all__ = [
    "Job",
    "Rows",
    "chosen_columns",
    "chosen_rows",
    "read_test",
    "set_aside",
    "split_seen",
    "test_rows",
    "valid_rows",
]


@dataclass
class Job:
    """What every training job was asked; label: "" where there may be none."""

    path: str
    label: str
    features: str | None
    validation: float
    test: str | None
    scale: str
    output: str | None
    overwrite: bool
    explain: bool
    reading: Reading
    recipe: Recipe

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Job:
        """Take these options out of a command's, which leaves the estimator's."""
        how, recipe = Reading.taken_from(options), Recipe.taken_from(options)
        names = set(cls.__dataclass_fields__) - {"reading", "recipe"}
        job = cls(**{name: options.pop(name) for name in names}, reading=how, recipe=recipe)
        if job.validation and recipe.split_column:
            raise click.UsageError("--validation and --split-column both hold rows out: give one")
        if how.bad_lines == "quarantine" and not job.output:
            raise click.UsageError("--bad-lines quarantine writes beside --output: give one")
        return job


@dataclass(frozen=True)
class Rows:
    """Valid rows, read and checked before anything is computed from them.

    rules: what makes them valid. indexer: the stage that numbers labels that are words, or None.
    training, held: rows to train on and those held out. counts: what became of the others.
    words: those of each category, in the training rows. plain: what has read the training rows
    straight into blocks; they are then as the pipeline prepares them: label and vector.
    """

    rules: Rules
    indexer: StringIndexerModel | None
    training: DataFrame
    held: DataFrame | None
    counts: Counts
    words: dict[str, list[str]]
    plain: Reader | None = None

    def close(self) -> None:
        """Delete what was packed ahead and is not wanted any more."""
        if self.plain:
            self.plain.close()


def valid_rows(
    session: SparkSession, job: Job, estimator: Estimator, layers: list[int] | None
) -> Rows:
    """Read the input, check all of it, and split it.

    layers: the sizes of all layers, if they are known.
    """
    found = read(session, job.path, job.reading, words=job.recipe.words)
    with reading(job.path):
        data, rules = chosen_rows(found, job, estimator, layers)
        indexer = None
        if rules.classes is not None:
            # Of all rows: which of them are held out is not to decide what the classes are.
            indexer = label_indexer(data, job.label, rules.classes)
            rules = replace(rules, words=tuple(indexer.labels) if indexer else None)
        data = without_invalid(
            data, rules, job.reading.bad_lines, job.reading.max_bad_fraction, job.path, found.counts
        )
        if rules.classes is not None:
            rules = _with_labels(rules, data, job.label, indexer)
        _, training, held, words = split_seen(
            data, rules.table, job, estimator.getSeed(), found.counts
        )
        if held is not None:
            held = chosen(held, rules.table)
            if rules.nullable:
                # Without a label there is nothing to measure.
                held = held.filter(F.col(quoted(job.label)).isNotNull())
    return Rows(rules, indexer, chosen(training, rules.table), held, found.counts, words)


def chosen_rows(
    found: Input, job: Job, estimator: Estimator, layers: list[int] | None
) -> tuple[DataFrame, Rules]:
    """Return the rows that have all they need, and what makes them valid.

    layers: the sizes of all layers, if they are known.
    """
    recipe, weight = job.recipe, None
    if estimator.hasParam("weightCol") and estimator.isSet("weightCol"):
        weight = estimator.getOrDefault("weightCol")
    regression = is_regression(estimator)
    data, table = chosen_columns(found, job, job.label, weight, regression)
    require_unused(table.names, prediction_columns(estimator))
    nullable = isinstance(estimator, FineTuned)
    data, missing = without_missing(data, table, recipe.missing, recipe.fills, nullable)
    found.counts.missing += missing
    classes = max(2, layers[-1]) if layers else 0
    plain = not (table.categories or recipe.bins)
    width = layers[0] if layers and plain else width_of(data, table)
    known = None if regression else classes
    return data, Rules(table, width, known, nullable=nullable, filled=recipe.fills)


def chosen_columns(
    found: Input, job: Job, label: str | None, weight: str | None, numeric: bool
) -> tuple[DataFrame, Table]:
    """Return an input's rows without the columns to leave aside, and the columns to train on.

    label: None where there is none to learn; numeric: it is a number, not a class.
    """
    recipe, data = job.recipe, found.rows
    for name in recipe.words:
        column_type(data, name)
    data = data.drop(*recipe.drop)
    aside = [recipe.split_column[0]] if recipe.split_column else []
    if label is None and job.label:
        column_type(data, job.label)
        aside.append(job.label)
    table = choose_columns(data, label, job.features, weight, numeric, recipe.categorical, aside)
    if job.scale != "none":
        require_scalable(data, table)
    return data, replace(table, kinds=tuple(found.columns or ()))


def held_out(data: DataFrame, job: Job, seed: int) -> tuple[DataFrame, DataFrame | None]:
    """Split rows into those to train on and those held out, if any; seed: of a random split."""
    if job.recipe.split_column:
        return split_by(data, *job.recipe.split_column)
    if job.validation:
        return hold_out(data, job.validation, seed)
    return data, None


def split_seen(
    data: DataFrame, table: Table, job: Job, seed: int, counts: Counts
) -> tuple[DataFrame, DataFrame, DataFrame | None, dict[str, list[str]]]:
    """Split rows as `held_out` does, where those held out with unseen categories are invalid.

    Returns all rows that are left, both parts of them, and each category's words in those to
    train on.
    """
    training, held = held_out(data, job, seed)
    words = category_words(training, table.categories)
    if held is not None and words and job.recipe.unseen == "fail":
        how = job.reading
        if how.bad_lines == "fail":
            require_seen(data, words)
        else:
            # All rows are looked at, of which the bad ones are to be no more than a share.
            rules = Rules(Table((), categories=table.categories), 0, seen=words)
            data = without_invalid(
                data, rules, how.bad_lines, how.max_bad_fraction, job.path, counts
            )
            training, held = held_out(data, job, seed)
    return data, training, held, words


def set_aside(session: SparkSession, job: Job, *counts: Counts) -> None:
    """Write the bad lines of these inputs beside the output, where that was asked."""
    if job.reading.bad_lines == "quarantine" and job.output:
        write_quarantine(session, counts, job.output, job.overwrite)


def _with_labels(
    rules: Rules, data: DataFrame, label: str, indexer: StringIndexerModel | None
) -> Rules:
    """Complete the rules by the classes that the valid rows' labels are."""
    found = number_of_classes(data, label, indexer)
    if rules.classes and found > rules.classes:
        raise InvalidDataError(
            f"column {label!r} holds {found} different words, and --layers ends in "
            f"{rules.classes} outputs"
        )
    return replace(rules, classes=rules.classes or found)


def test_rows(session: SparkSession, job: Job, rows: Rows) -> tuple[DataFrame, Counts] | None:
    """Return the valid rows of --test, if any, and what became of the others."""
    if not job.test:
        return None
    table, recipe = replace(rows.rules.table, weight=None), job.recipe
    seen = rows.words if recipe.unseen == "fail" else {}
    rules = replace(rows.rules, table=table, nullable=False, seen=seen)
    found = read_test(session, job, rules)
    with reading(job.test):
        require_label(found.rows, rules)
        data, missing = without_missing(found.rows, table, recipe.missing, recipe.fills)
        found.counts.missing += missing
        data = without_invalid(
            data, rules, job.reading.bad_lines, job.reading.max_bad_fraction, job.test, found.counts
        )
    return chosen(data, table), found.counts


def read_test(session: SparkSession, job: Job, rules: Rules) -> Input:
    """Read --test; its columns are what they are in the training input."""
    known = InputColumns(rules.table, rules.width, rules.classes is not None).kinds
    return read(
        session,
        str(job.test),
        job.reading,
        words=job.recipe.words,
        known=known,
        width=rules.width,
        part="test",
    )
