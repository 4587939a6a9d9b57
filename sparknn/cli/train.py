"""The training jobs: read, check, prepare, fit, save, measure."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click
from pyspark.ml import Estimator, PipelineModel, Transformer
from pyspark.sql import DataFrame, SparkSession

from sparknn.classification import (
    DeepBeliefNetworkClassifier,
    LogisticRegression,
    MultilayerPerceptronClassifier,
)
from sparknn.cli.badlines import Counts
from sparknn.cli.checking import is_word, require_label
from sparknn.cli.command import EPILOG, JobCommand
from sparknn.cli.explain import classes_seen, count_rows, explain_training, width_seen
from sparknn.cli.inputs import read, reading, split_by
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
from sparknn.cli.plain_rows import plain_rows
from sparknn.cli.preparation import (
    fit_stages,
    is_regression,
    label_names,
    model_of,
    stages_without_fit,
    with_classes,
)
from sparknn.cli.session import say, start_session
from sparknn.cli.training_rows import (
    Job,
    Rows,
    chosen_rows,
    read_test,
    set_aside,
    test_rows,
    valid_rows,
)
from sparknn.feature.fine_tuning import FineTuned
from sparknn.regression import DeepBeliefNetworkRegressor, MultilayerPerceptronRegressor
from sparknn.schema import feature_shape
from sparknn.training import Fitted

__all__ = [
    "described",
    "explained",
    "fit_pipeline",
    "layers_of",
    "make_logistic",
    "make_perceptron",
    "prepared",
    "rows_to_train_on",
    "saved_and_measured",
    "suited",
    "train_dbn",
    "train_logistic",
    "train_mlp",
    "train_regressor",
]


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


def _train(name: str, job: Job, estimator: Estimator, hidden: list[int] | None) -> dict[str, Any]:
    """Run a training job and return its closing JSON object."""
    began = time.perf_counter()
    # What is wrong with the options is said before any data is read.
    estimator._check()
    session = start_session(f"sparknn {name}")
    if job.explain:
        return explained(name, session, job, estimator, hidden)
    require_free(session, job.output, job.overwrite)
    rows = rows_to_train_on(session, job, estimator, hidden)
    try:
        test = test_rows(session, job, rows)
        set_aside(session, job, rows.counts, *([test[1]] if test else []))
        say(f"{job.path}: {len(rows.rules.table.features)} feature columns, label {job.label!r}")
        pipeline, fitted = fit_pipeline(rows, job, estimator, hidden)
    finally:
        rows.close()
    say(f"trained on {fitted.rows} rows, {fitted.iterations} epochs: {fitted.reason}")
    return {
        "job": name,
        **described(pipeline, fitted, rows),
        **saved_and_measured(session, job, pipeline, rows.held, test),
        "seconds": round(time.perf_counter() - began, 2),
        "output": job.output,
    }


def rows_to_train_on(
    session: SparkSession, job: Job, estimator: Estimator, hidden: list[int] | None
) -> Rows:
    """Return the valid rows, read straight into blocks where that can be."""
    layers = layers_of(estimator, hidden)
    with reading(job.path):
        plain = plain_rows(session, job, estimator, layers)
    return plain or valid_rows(session, job, estimator, layers)


def explained(
    name: str, session: SparkSession, job: Job, estimator: Estimator, hidden: list[int] | None
) -> dict[str, Any]:
    """Say what a training job would do, and return its closing JSON object."""
    layers = layers_of(estimator, hidden)
    found = read(session, job.path, job.reading, words=job.recipe.words)
    with reading(job.path):
        data, rules = chosen_rows(found, job, estimator, layers)
        seen = replace(rules, width=width_seen(data, rules, job.recipe))
        if rules.classes == 0:
            seen = replace(seen, classes=classes_seen(data, job.label))
        if is_word(data, job.label):
            seen = replace(seen, words=())
        if job.recipe.split_column:
            data, _ = split_by(data, *job.recipe.split_column)
        counted = count_rows(data, 1 - job.validation)
    if job.test:
        test = read_test(session, job, rules)
        with reading(job.test):
            require_label(test.rows, seen)
    inner = layers[1:-1] if layers else hidden or []
    return explain_training(name, estimator, data, seen, counted, inner)


def described(pipeline: PipelineModel, fitted: Fitted, rows: Rows) -> dict[str, Any]:
    """Return what a job's closing JSON says of a fit."""
    model = model_of(pipeline)
    return {
        "rows": fitted.rows,
        "skipped": rows.counts.left_out + fitted.skipped,
        "input": rows.counts.as_json(),
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
    test: tuple[DataFrame, Counts] | None,
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
        counts = test[1]
        result["test"] |= {"skipped": counts.left_out, "input": counts.as_json()}
    return result


def fit_pipeline(
    rows: Rows, job: Job, estimator: Estimator, hidden: list[int] | None
) -> tuple[PipelineModel, Fitted]:
    """Fit the preprocessing and the estimator; return them as one pipeline, and how it went."""
    stages, features, data = prepared(rows, rows.training, job)
    model = suited(estimator, hidden, rows, job, data, features).fit(data)
    return PipelineModel([*stages, model, *label_names(rows.indexer, model)]), model.training


def prepared(rows: Rows, training: DataFrame, job: Job) -> tuple[list[Transformer], str, DataFrame]:
    """Fit the preprocessing on some of the rows.

    Returns its stages, the name of the features column that they make, and what they make of
    these rows.
    """
    if rows.plain:
        return *stages_without_fit(rows.rules), training
    if rows.indexer is None and rows.rules.classes is not None:
        training = with_classes(training, job.label, rows.rules.classes)
    stages, features = fit_stages(
        training, rows.rules, job.scale, rows.indexer, job.recipe, rows.words
    )
    return stages, features, PipelineModel(stages).transform(training)


def suited(
    estimator: Estimator,
    hidden: list[int] | None,
    rows: Rows,
    job: Job,
    data: DataFrame,
    features: str,
) -> Estimator:
    """Set an estimator's columns, and its layers where they follow from the prepared rows."""
    estimator.setFeaturesCol(features)
    estimator.setLabelCol(rows.indexer.getOutputCol() if rows.indexer else job.label)
    if hidden is not None:
        classes = rows.rules.classes
        outputs = 1 if classes is None else max(2, classes)
        width = rows.rules.width
        if not rows.plain and features not in rows.rules.table.features:
            width = feature_shape(data, features).width or width
        _set_layers(estimator, width, hidden, outputs)
    return estimator


def _set_layers(estimator: Estimator, inputs: int, hidden: list[int], outputs: int) -> None:
    """Tell an estimator its layers, of which some add the output layer by themselves."""
    belief = isinstance(estimator, FineTuned)
    estimator.setLayers([inputs, *hidden] if belief else [inputs, *hidden, outputs])


def layers_of(estimator: Estimator, hidden: list[int] | None) -> list[int] | None:
    """Return the sizes of all layers, or None where there are none or the data decides."""
    known = hidden is None and estimator.hasParam("layers")
    return estimator.getLayers() if known else None
