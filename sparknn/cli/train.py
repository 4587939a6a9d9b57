"""The training jobs: read, prepare, fit, measure, save."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import click
from pyspark.ml import Estimator, Pipeline, PipelineModel, Transformer
from pyspark.ml.feature import (
    IndexToString,
    MinMaxScaler,
    StandardScaler,
    StringIndexer,
    VectorAssembler,
)
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.blocks import inspect
from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.cli.inputs import Table, choose_columns, hold_out, is_word, read
from sparknn.cli.metrics import measure
from sparknn.cli.options import (
    estimator_params,
    logistic_options,
    perceptron_options,
    training_options,
)
from sparknn.cli.outputs import require_free, save_model
from sparknn.cli.session import say, start_session
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError
from sparknn.rows import LARGEST, Layout
from sparknn.schema import feature_columns, quoted

__all__ = ["train_logistic", "train_mlp"]


@dataclass
class Job:
    """What every training job was asked."""

    path: str
    kind: str | None
    label: str
    features: str | None
    validation: float
    test: str | None
    scale: str
    output: str | None
    overwrite: bool

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Job:
        """Take these options out of a command's, which leaves the estimator's."""
        return cls(**{name: options.pop(name) for name in cls.__dataclass_fields__})


@click.command("train_logistic")
@training_options
@logistic_options
def train_logistic(**options: Any) -> dict[str, Any]:
    """Train a logistic regression and save it with its preprocessing."""
    job = Job.taken_from(options)
    params = estimator_params(options)
    return _train("train_logistic", job, LogisticRegression(**params))


@click.command("train_mlp")
@training_options
@perceptron_options
def train_mlp(hidden: list[int] | None, **options: Any) -> dict[str, Any]:
    """Train a multilayer perceptron and save it with its preprocessing."""
    job = Job.taken_from(options)
    if (hidden is None) == (options["layers"] is None):
        raise click.UsageError("give --hidden, the hidden layers' sizes, or else --layers")
    dropout = options.pop("dropout")
    params = estimator_params(options)
    if dropout:
        params["dropout"] = dropout if len(dropout) > 1 else dropout[0]
    return _train("train_mlp", job, MultilayerPerceptronClassifier(**params), hidden)


def _train(
    name: str, job: Job, estimator: Estimator, hidden: list[int] | None = None
) -> dict[str, Any]:
    """Run a training job and return its closing JSON object."""
    began = time.perf_counter()
    session = start_session(f"sparknn {name}")
    if job.output:
        require_free(session, job.output, job.overwrite)
    data = read(session, job.path, job.kind)
    weight = estimator.getOrDefault("weightCol") if _weighted(estimator) else None
    table = choose_columns(data, job.label, job.features, weight)
    data, held = (
        hold_out(data, job.validation, estimator.getSeed()) if job.validation else (data, None)
    )
    say(f"{job.path}: {len(table.features)} feature columns, label {job.label!r}")
    rows = None
    if estimator.getHandleInvalid() == "skip":
        rows = data.count()
        data = data.filter(~_invalid(data, table))
    prepared, stages = _prepare(data, table, job, estimator)
    if hidden is not None:
        estimator.setLayers(_layers(prepared, estimator, hidden))
    model = estimator.fit(prepared)
    pipeline = PipelineModel([*stages, model, *_label_names(stages, model)])
    fitted = model.training
    result: dict[str, Any] = {
        "job": name,
        "rows": fitted.rows,
        "skipped": fitted.skipped if rows is None else rows - fitted.rows,
        "features": model.numFeatures,
        "classes": model.numClasses,
        "epochs": fitted.iterations,
        "loss": fitted.objective_history[-1] if fitted.objective_history else None,
    }
    say(f"trained on {fitted.rows} rows, {fitted.iterations} epochs: {fitted.reason}")
    if job.output:
        save_model(session, pipeline, job.output, job.overwrite)
        say(f"saved to {job.output}")
    if held is not None:
        result["validation"] = measure(pipeline, held)
        say(f"validation accuracy {result['validation']['accuracy']:.4f}")
    if job.test:
        test = read(session, job.test, job.kind, model.numFeatures)
        result["test"] = measure(pipeline, test)
        say(f"test accuracy {result['test']['accuracy']:.4f}")
    return {
        **result,
        "seconds": round(time.perf_counter() - began, 2),
        "output": job.output,
    }


def _weighted(estimator: Estimator) -> bool:
    return estimator.hasParam("weightCol") and estimator.isSet("weightCol")


def _prepare(
    data: DataFrame, table: Table, job: Job, estimator: Estimator
) -> tuple[DataFrame, list[Transformer]]:
    """Fit the preprocessing and point the estimator to its columns.

    Returns the prepared rows and the fitted stages.
    """
    stages: list[Any] = []
    estimator.setLabelCol(table.label)
    if is_word(data, table.label):
        # Not "skip": a missing word is an invalid row like any other.
        indexer = StringIndexer(
            inputCol=table.label, outputCol=f"{table.label}_index", handleInvalid="error"
        ).setStringOrderType("alphabetAsc")
        stages.append(indexer)
        estimator.setLabelCol(indexer.getOutputCol())
        _require_words(data, table.label, estimator.getHandleInvalid())
    features = table.features[0]
    if not table.vector(data):
        features = _unused(data, "features")
        # "keep" lets NaN through to the estimator, which names the row and the column.
        stages.append(
            VectorAssembler(inputCols=table.features, outputCol=features, handleInvalid="keep")
        )
    if job.scale != "none":
        _inspect(data, table, estimator)
        scaled = _unused(data, "scaled_features")
        stages.append(_scaler(job.scale, features, scaled))
        features = scaled
    estimator.setFeaturesCol(features)
    model = Pipeline(stages=stages).fit(data)
    return model.transform(data), model.stages


def _require_words(data: DataFrame, label: str, handle_invalid: str) -> None:
    missing = data.filter(F.col(quoted(label)).isNull()).count()
    if missing and handle_invalid == "error":
        raise InvalidDataError(
            f"column {label!r}: {missing} rows are null. Mend the rows, or set "
            "--handle-invalid skip to leave them out"
        )


def _scaler(kind: str, features: str, scaled: str) -> Estimator:
    if kind == "standard":
        return StandardScaler(withMean=True, withStd=True, inputCol=features, outputCol=scaled)
    return MinMaxScaler(inputCol=features, outputCol=scaled)


def _inspect(data: DataFrame, table: Table, estimator: Estimator) -> None:
    """Raise an error for invalid features before a scaler is fitted on them."""
    source: Any = table.features[0] if table.vector(data) else table.features
    columns, single = feature_columns(data, source)
    name = table.features[0] if len(table.features) == 1 else "features"
    names = () if table.vector(data) else tuple(table.features)
    skip = estimator.getHandleInvalid() == "skip"
    inspect(Cluster(data.sparkSession), data, Layout(name, single, names=names, skip=skip), columns)


def _invalid(data: DataFrame, table: Table):
    """Return a condition that holds for rows with features that are null, NaN or too large."""
    if table.vector(data):
        column = F.col(quoted(table.features[0]))
        is_vector = isinstance(data.schema[table.features[0]].dataType, VectorUDT)
        values = vector_to_array(column) if is_vector else column.cast("array<double>")
        absent = column.isNull()
    else:
        values = F.array(*[F.col(quoted(name)).cast("double") for name in table.features])
        absent = F.lit(False)
    absent = absent | F.col(quoted(table.label)).isNull()
    odd = F.exists(values, lambda x: x.isNull() | F.isnan(x) | (F.abs(x) > LARGEST))
    return absent | F.coalesce(odd, F.lit(True))


def _unused(data: DataFrame, name: str) -> str:
    while name in data.columns:
        name += "_"
    return name


def _layers(prepared: DataFrame, estimator: Estimator, hidden: list[int]) -> list[int]:
    """Complete the hidden layers by the number of features and of classes in the data."""
    label, features = F.col(quoted(estimator.getLabelCol())), estimator.getFeaturesCol()
    (column,), _ = feature_columns(prepared, features)
    is_vector = isinstance(prepared.schema[features].dataType, VectorUDT)
    width = (
        F.size(column) if not is_vector else F.coalesce(column["size"], F.size(column["values"]))
    )
    found = prepared.agg(F.max(width).alias("width"), F.max(label).alias("label")).first()
    if found is None or found["width"] is None or found["label"] is None:
        raise InvalidDataError("the input has no rows")
    classes = int(found["label"]) + 1
    if not 0 <= found["label"] < 2**20:
        raise InvalidDataError(
            f"column {estimator.getLabelCol()!r} holds the label {found['label']:g}; labels are "
            "classes 0, 1, 2, … (a column of words is numbered by itself)"
        )
    return [int(found["width"]), *hidden, max(2, classes)]


def _label_names(stages: list[Transformer], model: Transformer) -> list[Transformer]:
    """Return the stage that turns predictions back into words, where labels were words."""
    indexers = [stage for stage in stages if hasattr(stage, "labels")]
    if not indexers:
        return []
    return [
        IndexToString(
            inputCol=model.getPredictionCol(),
            outputCol="predictedLabel",
            labels=list(indexers[0].labels),
        )
    ]
