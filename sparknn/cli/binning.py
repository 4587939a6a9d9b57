"""Columns as the kinds of naive Bayes can take them: counts, or zeros and ones."""

from __future__ import annotations

from pyspark.ml import Pipeline, Transformer
from pyspark.ml.feature import (
    Binarizer,
    MinMaxScaler,
    OneHotEncoder,
    QuantileDiscretizer,
    StringIndexerModel,
    VectorAssembler,
)
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparknn.cli.checking import Table
from sparknn.schema import column_type, quoted

__all__ = ["suited_to"]

MADE = "naive_bayes_features"


def suited_to(
    kind: str,
    data: DataFrame,
    table: Table,
    stages: list[Transformer],
    quantiles: int,
) -> tuple[list[Transformer], str | None, list[str]]:
    """Fit, where the rows ask for it, a preprocessing that a kind of naive Bayes can work on.

    Parameters
    ----------
    kind : str
        "gaussian" takes any numbers; "multinomial" whole ones from 0, for others a column is cut
        into bins, each of which is counted; "bernoulli" zeros and ones, or such bins. A vector is
        not taken apart: for multinomial it is brought into [0, 1] where something is negative,
        for Bernoulli each element is asked whether it is above 0.
    data : DataFrame
        The rows to train on.
    table : Table
        Their columns.
    stages : list of Transformer
        The preprocessing that others take.
    quantiles : int
        Bins of about equally many rows.

    Returns
    -------
    list of Transformer, str or None, list of str
        The stages, the features column that they make (None: that of `stages`), and the columns
        that were changed.
    """
    if kind == "gaussian":
        return stages, None, []
    if table.vector(data):
        return _of_vectors(kind, data, table.features[0], stages)
    unfit = _unfit(kind, data, table.features)
    if not unfit:
        return stages, None, []
    indexers = [stage for stage in stages if isinstance(stage, StringIndexerModel)]
    bins, places = ([f"{name}_{made}" for name in unfit] for made in ("bin", "bins"))
    instead = dict(zip(unfit, places, strict=True))
    made = [
        QuantileDiscretizer(inputCols=unfit, outputCols=bins, numBuckets=quantiles),
        OneHotEncoder(inputCols=bins, outputCols=places, dropLast=False),
        VectorAssembler(
            inputCols=[instead.get(name, name) for name in table.features], outputCol=MADE
        ),
    ]
    return [*indexers, *Pipeline(stages=made).fit(data).stages], MADE, unfit


def _unfit(kind: str, data: DataFrame, names: tuple[str, ...]) -> list[str]:
    """Return the columns that hold what a kind cannot take as it is."""
    marks = [F.max(_odd(kind, F.col(quoted(name)).cast("double"))) for name in names]
    found = data.agg(*marks).first() or ()
    return [name for name, odd in zip(names, found, strict=True) if odd]


def _odd(kind: str, value: Column) -> Column:
    """Return whether a number is none that a kind takes."""
    if kind == "bernoulli":
        return (value != 0) & (value != 1)
    return (value < 0) | (value != F.floor(value))


def _of_vectors(
    kind: str, data: DataFrame, name: str, stages: list[Transformer]
) -> tuple[list[Transformer], str | None, list[str]]:
    """Return what `suited_to` does, for features in one vector or array column."""
    values = F.col(quoted(name))
    if isinstance(column_type(data, name), VectorUDT):
        values = vector_to_array(values)
    bernoulli = kind == "bernoulli"
    unfit = F.exists(values, lambda x: _odd(kind, x) if bernoulli else x < 0)
    if data.filter(unfit).isEmpty():
        return stages, None, []
    if bernoulli:
        stage: Transformer = Binarizer(threshold=0.0, inputCol=name, outputCol=MADE)
    else:
        stage = MinMaxScaler(inputCol=name, outputCol=MADE).fit(data)
    return [*stages, stage], MADE, [name]
