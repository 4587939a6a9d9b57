"""Columns as the kinds of naive Bayes can take them: counts, or zeros and ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pyspark.ml import Transformer
from pyspark.ml.feature import Binarizer, MinMaxScaler
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparknn.cli.encoding import unused
from sparknn.cli.train import prepared
from sparknn.cli.training_rows import Job, Rows
from sparknn.schema import column_type, quoted, stage_name

__all__ = ["Prepared", "suited_to"]

MADE = "naive_bayes_features"


class Prepared(NamedTuple):
    """Fitted stages, the features column that they make, and what they make of training rows."""

    stages: list[Transformer]
    features: str
    data: DataFrame


def suited_to(
    kind: str, rows: Rows, job: Job, plain: Prepared, quantiles: int
) -> tuple[Prepared, list[str]]:
    """Fit, where the rows ask for it, a preprocessing that a kind of naive Bayes can work on.

    Parameters
    ----------
    kind : str
        "gaussian" takes any numbers; "multinomial" whole ones from 0, for others a column is cut
        into bins, each of which is counted; "bernoulli" zeros and ones, or such bins. A vector is
        not taken apart: for multinomial it is brought into [0, 1] where something is negative,
        for Bernoulli each element is asked whether it is above 0.
    rows : Rows
        With those to train on.
    job : Job
        What was asked; its own bins stay.
    plain : Prepared
        The preprocessing that others take.
    quantiles : int
        Bins of about equally many rows.

    Returns
    -------
    Prepared, list of str
        The preprocessing, and the columns that were changed for this kind alone.
    """
    if kind == "gaussian":
        return plain, []
    table, recipe = rows.rules.table, job.recipe
    if table.vector(rows.training):
        stage = _of_vectors(kind, plain)
        if stage is None:
            return plain, []
        data = stage.transform(plain.data)
        return Prepared([*plain.stages, stage], stage.getOutputCol(), data), [*table.features]
    binned = [name for name, _ in recipe.bins]
    names = [name for name in table.features if name not in binned]
    unfit = _unfit(kind, rows.training, names, recipe.missing in ("mean", "median"))
    if not unfit:
        return plain, []
    bins = (*recipe.bins, *((name, quantiles) for name in unfit))
    other = replace(job, recipe=replace(recipe, bins=bins))
    return Prepared(*prepared(rows, rows.training, other)), unfit


def _unfit(kind: str, data: DataFrame, names: Sequence[str], filled: bool) -> list[str]:
    """Return the columns that hold what a kind cannot take as it is.

    filled: gaps are, by a number that may be any between the others.
    """
    marks = []
    for name in names:
        number = F.col(quoted(name)).cast("double")
        odd = F.coalesce(_odd(kind, number), F.lit(filled))
        marks.append(F.max(odd))
    found = data.agg(F.count("*"), *marks).first() or (0,)
    return [name for name, odd in zip(names, found[1:], strict=True) if odd]


def _odd(kind: str, value: Column) -> Column:
    """Return whether a number is none that a kind takes."""
    if kind == "bernoulli":
        return (value != 0) & (value != 1)
    return (value < 0) | (value != F.floor(value))


def _of_vectors(kind: str, plain: Prepared) -> Transformer | None:
    """Return a stage that makes features in one column fit; None where they are."""
    data, name = plain.data, plain.features
    values = F.col(quoted(name))
    if isinstance(column_type(data, name), VectorUDT):
        values = vector_to_array(values)
    bernoulli = kind == "bernoulli"
    odd = F.exists(values, lambda x: _odd(kind, x) if bernoulli else x < 0)
    if data.filter(odd).isEmpty():
        return None
    made = unused(data.columns, MADE)
    if bernoulli:
        return Binarizer(threshold=0.0, inputCol=stage_name(name), outputCol=made)
    return MinMaxScaler(inputCol=stage_name(name), outputCol=made).fit(data)
