"""What a model says of its training, and of any other data.

The numbers and curves are computed by MLlib's own summaries in the JVM, from our predictions;
pyspark's classes wrap them. To those of a training come diagnostics (`sparknn.diagnostics`).
Nothing is computed before it is asked for, and nothing is kept but references.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

import pyspark.ml.classification as mllib
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.diagnostics import Diagnostics, Training, valid_features
from sparknn.schema import numeric_column, stage_name

__all__ = [
    "BinaryLogisticRegressionTrainingSummary",
    "Kind",
    "LogisticRegressionTrainingSummary",
    "MultilayerPerceptronClassificationTrainingSummary",
    "evaluation",
    "training_summary",
    "without_invalid",
]


class Kind(NamedTuple):
    """Which of MLlib's summaries: the name that its classes begin with, and their columns.

    The last one is that of the weights, which MLlib looks for by its bare name.
    """

    name: str
    columns: list[str]


class LogisticRegressionTrainingSummary(Diagnostics, mllib.LogisticRegressionTrainingSummary):
    """MLlib's summary of a training, with diagnostics."""


class BinaryLogisticRegressionTrainingSummary(
    Diagnostics, mllib.BinaryLogisticRegressionTrainingSummary
):
    """MLlib's summary of a training with two classes, with diagnostics."""


class MultilayerPerceptronClassificationTrainingSummary(
    Diagnostics, mllib.MultilayerPerceptronClassificationTrainingSummary
):
    """MLlib's summary of a perceptron's training, with diagnostics.

    In pyspark the perceptron's `summary` is a method, and the other models' a property. Both
    ways work: called, a summary returns itself.
    """

    def __call__(self) -> MultilayerPerceptronClassificationTrainingSummary:
        return self


OURS = {
    kind.__name__: kind
    for kind in (
        LogisticRegressionTrainingSummary,
        BinaryLogisticRegressionTrainingSummary,
        MultilayerPerceptronClassificationTrainingSummary,
    )
}


def evaluation(model, dataset: DataFrame):
    """Return the summary, of pyspark's classes, of a model's predictions for `dataset`."""
    if not isinstance(dataset, DataFrame):
        raise TypeError(f"dataset must be a DataFrame but got {type(dataset)}.")
    named = _with_columns(model)
    kind = named._summary_kind()
    name = f"{kind.name}Summary"
    return getattr(mllib, name)(_java(name, named.transform(dataset), kind.columns))


def training_summary(model, training: Training):
    """Return the summary of a training, by the names of columns that it had."""
    named = _with_columns(model.copy()._set(**training.columns))
    kind = named._summary_kind()
    name = f"{kind.name}TrainingSummary"
    history = training.fitted.objective_history
    predictions = named.transform(training.dataset)
    summary = OURS[name](_java(name, predictions, kind.columns, history))
    summary._training = training
    return summary


def _with_columns(model):
    """Return the model, or a copy that has the columns of which MLlib's summaries are made."""
    missing = {
        f"{part}Col": f"{part}_{uuid.uuid4()}"
        for part in ("probability", "prediction")
        if not model.getOrDefault(f"{part}Col")
    }
    return model.copy()._set(**missing) if missing else model


def _java(name: str, predictions: DataFrame, columns: list[str], history: list | None = None):
    """Return MLlib's own summary of `predictions`; it starts no job yet."""
    context = predictions.sparkSession.sparkContext
    kind = getattr(context._jvm.org.apache.spark.ml.classification, f"{name}Impl")
    columns = [*map(stage_name, columns[:-1]), columns[-1]]
    if history is None:
        return kind(predictions._jdf, *columns)
    doubles = context._gateway.new_array(context._gateway.jvm.double, len(history))
    for index, value in enumerate(history):
        doubles[index] = float(value)
    return kind(predictions._jdf, *columns, doubles)


def without_invalid(dataset: DataFrame, model, weight: str | None) -> DataFrame:
    """Return the rows that a fit with handleInvalid="skip" trains on."""
    label = numeric_column(dataset, model.getLabelCol())
    valid = (label >= 0) & (label < model.numClasses) & (label == F.floor(label))
    return dataset.filter(valid & valid_features(dataset, model, weight))
