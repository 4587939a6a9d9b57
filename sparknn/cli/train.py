"""The training jobs: read, check, prepare, fit, save, measure."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import click
from pyspark.ml import Estimator, PipelineModel, Transformer
from pyspark.ml.feature import StringIndexerModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.classification import (
    DeepBeliefNetworkClassifier,
    LogisticRegression,
    MultilayerPerceptronClassifier,
)
from sparknn.cli.checking import Rules, checked, choose_columns, chosen, require_label, width_of
from sparknn.cli.command import EPILOG, JobCommand
from sparknn.cli.explain import classes_seen, count_rows, explain_training
from sparknn.cli.inputs import hold_out, read, reading
from sparknn.cli.metrics import measure, said
from sparknn.cli.options import (
    belief_options,
    estimator_params,
    logistic_options,
    perceptron_options,
    regressor_options,
    single,
    training_options,
)
from sparknn.cli.outputs import require_free, save_model
from sparknn.cli.preparation import (
    fit_stages,
    is_regression,
    label_indexer,
    label_names,
    model_of,
    number_of_classes,
    prediction_columns,
    require_scalable,
    require_unused,
    with_classes,
)
from sparknn.cli.session import say, start_session
from sparknn.errors import InvalidDataError
from sparknn.feature.fine_tuning import FineTuned
from sparknn.regression import DeepBeliefNetworkRegressor, MultilayerPerceptronRegressor
from sparknn.schema import quoted
from sparknn.training import Fitted

__all__ = [
    "Job",
    "Rows",
    "described",
    "explained",
    "fit_pipeline",
    "layers_of",
    "make_logistic",
    "make_perceptron",
    "prepared",
    "saved_and_measured",
    "suited",
    "test_rows",
    "train_dbn",
    "train_logistic",
    "train_mlp",
    "train_regressor",
    "valid_rows",
]


@dataclass
class Job:
    """What every training job was asked; label: "" where there may be none."""

    path: str
    kind: str | None
    label: str
    features: str | None
    validation: float
    test: str | None
    scale: str
    output: str | None
    overwrite: bool
    explain: bool

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Job:
        """Take these options out of a command's, which leaves the estimator's."""
        return cls(**{name: options.pop(name) for name in cls.__dataclass_fields__})


@click.command("train_logistic", cls=JobCommand, epilog=EPILOG)
@training_options
@logistic_options
def train_logistic(**options: Any) -> dict[str, Any]:
    """Train a logistic regression and save it with its preprocessing.

    Labels are classes: whole numbers from 0, or words.
    """
    job = Job.taken_from(options)
    return _train("train_logistic", job, *make_logistic(options))


@click.command("train_mlp", cls=JobCommand, epilog=EPILOG)
@training_options
@perceptron_options
def train_mlp(**options: Any) -> dict[str, Any]:
    """Train a multilayer perceptron and save it with its preprocessing.

    Labels are classes (whole numbers from 0, or words), or with --task regression any numbers.
    Begin with --solver sgd --activation relu --step-size 0.05 --momentum 0.9.
    """
    job = Job.taken_from(options)
    return _train("train_mlp", job, *make_perceptron(options))


@click.command("train_regressor", cls=JobCommand, epilog=EPILOG)
@training_options
@regressor_options
def train_regressor(**options: Any) -> dict[str, Any]:
    """Train a network that predicts a number, and save it with its preprocessing.

    Without --hidden or --layers it is a linear regression.
    """
    job = Job.taken_from(options)
    if options["hidden"] is None and options["layers"] is None:
        options["hidden"] = []
    options |= {"task": "regression", "class_weights": None}
    return _train("train_regressor", job, *make_perceptron(options))


def make_logistic(options: dict[str, Any]) -> tuple[Estimator, None]:
    """Return the estimator that a logistic regression's options describe, and no hidden layers."""
    return LogisticRegression(**estimator_params(options)), None


def make_perceptron(options: dict[str, Any]) -> tuple[Estimator, list[int] | None]:
    """Return the estimator that a perceptron's options describe, and the hidden layers, if given.

    The outer layers' sizes follow from the data then; those in the estimator stand in for them.
    """
    options = dict(options)
    task, hidden = options.pop("task"), options.pop("hidden")
    dropout = options.pop("dropout")
    if (hidden is None) == (options["layers"] is None):
        raise click.UsageError("give --hidden, the hidden layers' sizes, or else --layers")
    params = estimator_params(options)
    if dropout:
        params["dropout"] = single(dropout)
    if hidden is not None:
        outputs = 1 if task == "regression" else len(options["class_weights"] or range(2))
        params["layers"] = [1, *hidden, outputs]
    if task == "regression":
        if params.pop("classWeights", None) is not None:
            raise click.UsageError("--class-weights is for classes, not for --task regression")
        return MultilayerPerceptronRegressor(**params), hidden
    return MultilayerPerceptronClassifier(**params), hidden


@click.command("train_dbn", cls=JobCommand, epilog=EPILOG)
@training_options
@belief_options
def train_dbn(task: str, hidden: list[int], **options: Any) -> dict[str, Any]:
    """Pre-train a deep belief network, fine-tune it, and save it with its preprocessing.

    Rows whose label, a number, is null take part in the pre-training only.
    """
    job = Job.taken_from(options)
    params = {
        name: single(value) if isinstance(value, list) else value
        for name, value in estimator_params(options).items()
    }
    regression = task == "regression"
    kind = DeepBeliefNetworkRegressor if regression else DeepBeliefNetworkClassifier
    # The outer sizes follow from the data; what else is wrong is said before any is read.
    return _train("train_dbn", job, kind(layers=[1, *hidden], **params), hidden)


@dataclass(frozen=True)
class Rows:
    """Valid rows, read and checked before anything is computed from them.

    rules: what makes them valid. indexer: the stage that numbers labels that are words, or None.
    training, held: rows to train on and those held out. skipped: invalid rows of both.
    """

    rules: Rules
    indexer: StringIndexerModel | None
    training: DataFrame
    held: DataFrame | None
    skipped: int


def _train(name: str, job: Job, estimator: Estimator, hidden: list[int] | None) -> dict[str, Any]:
    """Run a training job and return its closing JSON object."""
    began = time.perf_counter()
    # What is wrong with the options is said before any data is read.
    estimator._check()
    session = start_session(f"sparknn {name}")
    if job.output:
        require_free(session, job.output, job.overwrite)
    if job.explain:
        return explained(name, session, job, estimator, hidden)
    rows = valid_rows(session, job, estimator, layers_of(estimator, hidden))
    test = test_rows(session, job, estimator, rows.rules)
    say(f"{job.path}: {len(rows.rules.table.features)} feature columns, label {job.label!r}")
    pipeline, fitted = fit_pipeline(rows, job, estimator, hidden)
    say(f"trained on {fitted.rows} rows, {fitted.iterations} epochs: {fitted.reason}")
    return {
        "job": name,
        **described(pipeline, fitted, rows),
        **saved_and_measured(session, job, pipeline, rows.held, test),
        "seconds": round(time.perf_counter() - began, 2),
        "output": job.output,
    }


def explained(
    name: str, session: SparkSession, job: Job, estimator: Estimator, hidden: list[int] | None
) -> dict[str, Any]:
    """Say what a training job would do, and return its closing JSON object."""
    skip, layers = estimator.getHandleInvalid() == "skip", layers_of(estimator, hidden)
    data, _ = read(session, job.path, job.kind, skip)
    with reading(job.path):
        rules = _rules(data, job, estimator, layers)
        if rules.classes == 0:
            rules = replace(rules, classes=classes_seen(data, job.label))
        found = count_rows(data, job.path, job.kind, 1 - job.validation)
    if job.test:
        test, _ = read(session, job.test, job.kind, skip, rules.width)
        with reading(job.test):
            require_label(test, rules)
    inner = layers[1:-1] if layers else hidden or []
    return explain_training(name, estimator, data, rules, found, inner)


def described(pipeline: PipelineModel, fitted: Fitted, rows: Rows) -> dict[str, Any]:
    """Return what a job's closing JSON says of a fit."""
    model = model_of(pipeline)
    return {
        "rows": fitted.rows,
        "skipped": rows.skipped + fitted.skipped,
        "features": model.numFeatures,
        **({} if is_regression(model) else {"classes": model.numClasses}),
        "epochs": fitted.iterations,
        "loss": fitted.objective_history[-1] if fitted.objective_history else None,
    }


def saved_and_measured(
    session: SparkSession,
    job: Job,
    pipeline: PipelineModel,
    held: DataFrame | None,
    test: tuple[DataFrame, int] | None,
) -> dict[str, Any]:
    """Save a pipeline, measure it on the rows that there are, and return what was measured."""
    if job.output:
        save_model(session, pipeline, job.output, job.overwrite)
        say(f"saved to {job.output}")
    result: dict[str, Any] = {}
    for purpose, data in (("validation", held), ("test", test[0] if test else None)):
        if data is not None:
            result[purpose] = measure(pipeline, data)
            say(f"{purpose} {said(result[purpose])}")
    if test is not None:
        result["test"]["skipped"] = test[1]
    return result


def valid_rows(
    session: SparkSession, job: Job, estimator: Estimator, layers: list[int] | None
) -> Rows:
    """Read the input, check all of it, and split it.

    layers: the sizes of all layers, if they are known.
    """
    skip = estimator.getHandleInvalid() == "skip"
    data, malformed = read(session, job.path, job.kind, skip)
    with reading(job.path):
        rules = _rules(data, job, estimator, layers)
        table, regression = rules.table, rules.classes is None
        data, skipped = checked(data, rules, skip)
        indexer = None
        if not regression:
            # Of all rows: which of them are held out is not to decide what the classes are.
            indexer = label_indexer(data, job.label)
            rules = _with_labels(rules, data, job.label, indexer)
        training, held = data, None
        if job.validation:
            training, held = hold_out(data, job.validation, estimator.getSeed())
            held = chosen(held, table)
            if rules.nullable:
                # Without a label there is nothing to measure.
                held = held.filter(F.col(quoted(job.label)).isNotNull())
    return Rows(rules, indexer, chosen(training, table), held, malformed + skipped)


def _rules(data: DataFrame, job: Job, estimator: Estimator, layers: list[int] | None) -> Rules:
    """Choose the columns to train on, and return what makes their rows valid."""
    weight = None
    if estimator.hasParam("weightCol") and estimator.isSet("weightCol"):
        weight = estimator.getOrDefault("weightCol")
    regression = is_regression(estimator)
    table = choose_columns(data, job.label, job.features, weight, regression)
    require_unused(table.names, prediction_columns(estimator))
    if job.scale != "none":
        require_scalable(data, table)
    classes = max(2, layers[-1]) if layers else 0
    width = layers[0] if layers else width_of(data, table)
    nullable = isinstance(estimator, FineTuned)
    return Rules(table, width, None if regression else classes, nullable=nullable)


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
    words = tuple(indexer.labels) if indexer is not None else None
    return replace(rules, classes=rules.classes or found, words=words)


def test_rows(
    session: SparkSession, job: Job, estimator: Estimator, rules: Rules
) -> tuple[DataFrame, int] | None:
    """Read and check the rows of --test, if any; return the valid ones, and how many are not."""
    if not job.test:
        return None
    skip = estimator.getHandleInvalid() == "skip"
    rules = replace(rules, table=replace(rules.table, weight=None), nullable=False)
    data, malformed = read(session, job.test, job.kind, skip, rules.width)
    with reading(job.test):
        require_label(data, rules)
        data, skipped = checked(data, rules, skip)
    return chosen(data, rules.table), malformed + skipped


def fit_pipeline(
    rows: Rows, job: Job, estimator: Estimator, hidden: list[int] | None
) -> tuple[PipelineModel, Fitted]:
    """Fit the preprocessing and the estimator; return them as one pipeline, and how it went."""
    stages, features, data = prepared(rows, rows.training, job)
    model = suited(estimator, hidden, rows, job, features).fit(data)
    return PipelineModel([*stages, model, *label_names(rows.indexer, model)]), model.training


def prepared(rows: Rows, training: DataFrame, job: Job) -> tuple[list[Transformer], str, DataFrame]:
    """Fit the preprocessing on some of the rows.

    Returns its stages, the name of the features column that they make, and what they make of
    these rows.
    """
    if rows.indexer is None and rows.rules.classes is not None:
        training = with_classes(training, job.label, rows.rules.classes)
    stages, features = fit_stages(training, rows.rules.table, job.scale, rows.indexer)
    return stages, features, PipelineModel(stages).transform(training)


def suited(
    estimator: Estimator, hidden: list[int] | None, rows: Rows, job: Job, features: str
) -> Estimator:
    """Set an estimator's columns, and its layers where they follow from the data."""
    estimator.setFeaturesCol(features)
    estimator.setLabelCol(rows.indexer.getOutputCol() if rows.indexer else job.label)
    if hidden is not None:
        classes = rows.rules.classes
        outputs = 1 if classes is None else max(2, classes)
        _set_layers(estimator, rows.rules.width, hidden, outputs)
    return estimator


def _set_layers(estimator: Estimator, inputs: int, hidden: list[int], outputs: int) -> None:
    """Tell an estimator its layers, of which some add the output layer by themselves."""
    belief = isinstance(estimator, FineTuned)
    estimator.setLayers([inputs, *hidden] if belief else [inputs, *hidden, outputs])


def layers_of(estimator: Estimator, hidden: list[int] | None) -> list[int] | None:
    """Return the sizes of all layers, or None where there are none or the data decides."""
    known = hidden is None and estimator.hasParam("layers")
    return estimator.getLayers() if known else None
