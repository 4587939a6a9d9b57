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
from sparknn.cli.badlines import Counts, without_invalid, write_quarantine
from sparknn.cli.checking import (
    Rules,
    Table,
    choose_columns,
    chosen,
    require_label,
    width_of,
)
from sparknn.cli.encoding import Recipe, category_words, require_seen, without_missing
from sparknn.cli.inputs import Input, Reading, hold_out, read, reading, split_by
from sparknn.cli.metrics import measure, said
from sparknn.cli.options import (
    belief_options,
    estimator_params,
    logistic_options,
    perceptron_options,
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
from sparknn.cli.saved_columns import InputColumns
from sparknn.cli.session import say, start_session
from sparknn.errors import InvalidDataError
from sparknn.feature.fine_tuning import FineTuned
from sparknn.regression import DeepBeliefNetworkRegressor, MultilayerPerceptronRegressor
from sparknn.schema import column_type, feature_shape, quoted
from sparknn.training import Fitted

__all__ = [
    "Job",
    "Rows",
    "chosen_columns",
    "described",
    "held_out",
    "fit_pipeline",
    "layers_of",
    "make_logistic",
    "make_perceptron",
    "prepared",
    "saved_and_measured",
    "set_aside",
    "suited",
    "test_rows",
    "train_dbn",
    "train_logistic",
    "train_mlp",
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


@click.command("train_logistic")
@training_options
@logistic_options
def train_logistic(**options: Any) -> dict[str, Any]:
    """Train a logistic regression and save it with its preprocessing."""
    job = Job.taken_from(options)
    return _train("train_logistic", job, *make_logistic(options))


@click.command("train_mlp")
@training_options
@perceptron_options
def train_mlp(**options: Any) -> dict[str, Any]:
    """Train a multilayer perceptron and save it with its preprocessing."""
    job = Job.taken_from(options)
    return _train("train_mlp", job, *make_perceptron(options))


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


@click.command("train_dbn")
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
    training, held: rows to train on and those held out. counts: what became of the others.
    words: those of each category, in the training rows.
    """

    rules: Rules
    indexer: StringIndexerModel | None
    training: DataFrame
    held: DataFrame | None
    counts: Counts
    words: dict[str, list[str]]


def _train(name: str, job: Job, estimator: Estimator, hidden: list[int] | None) -> dict[str, Any]:
    """Run a training job and return its closing JSON object."""
    began = time.perf_counter()
    # What is wrong with the options is said before any data is read.
    estimator._check()
    session = start_session(f"sparknn {name}")
    if job.output:
        require_free(session, job.output, job.overwrite)
    rows = valid_rows(session, job, estimator, layers_of(estimator, hidden))
    test = test_rows(session, job, rows)
    set_aside(session, job, rows, test)
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


def described(pipeline: PipelineModel, fitted: Fitted, rows: Rows) -> dict[str, Any]:
    """Return what a job's closing JSON says of a fit."""
    model = model_of(pipeline)
    return {
        "rows": fitted.rows,
        "skipped": rows.counts.bad + rows.counts.missing + fitted.skipped,
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
        result["test"] |= {"skipped": counts.bad + counts.missing, "input": counts.as_json()}
    return result


def valid_rows(
    session: SparkSession, job: Job, estimator: Estimator, layers: list[int] | None
) -> Rows:
    """Read the input, check all of it, and split it.

    layers: the sizes of all layers, if they are known.
    """
    weight = None
    if estimator.hasParam("weightCol") and estimator.isSet("weightCol"):
        weight = estimator.getOrDefault("weightCol")
    found = read(session, job.path, job.reading, words=job.recipe.words)
    with reading(job.path):
        data, rules = _chosen_rows(found, job, estimator, layers, weight)
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
        training, held = held_out(data, job, estimator)
        words = category_words(training, rules.table.categories)
        if held is not None:
            held = chosen(held, rules.table)
            if rules.nullable:
                # Without a label there is nothing to measure.
                held = held.filter(F.col(quoted(job.label)).isNotNull())
            if job.recipe.unseen == "fail":
                require_seen(held, words)
    return Rows(rules, indexer, chosen(training, rules.table), held, found.counts, words)


def _chosen_rows(
    found: Input, job: Job, estimator: Estimator, layers: list[int] | None, weight: str | None
) -> tuple[DataFrame, Rules]:
    """Return the rows that have all they need, and what makes them valid."""
    recipe = job.recipe
    regression = is_regression(estimator)
    data, table = chosen_columns(found, job, job.label, weight, regression)
    require_unused(table.names, prediction_columns(estimator))
    nullable = isinstance(estimator, FineTuned)
    data, missing = without_missing(data, table, recipe.missing, nullable)
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


def held_out(data: DataFrame, job: Job, estimator: Estimator) -> tuple[DataFrame, DataFrame | None]:
    """Split rows into those to train on and those held out, if any."""
    if job.recipe.split_column:
        return split_by(data, *job.recipe.split_column)
    if job.validation:
        return hold_out(data, job.validation, estimator.getSeed())
    return data, None


def set_aside(
    session: SparkSession, job: Job, rows: Rows, test: tuple[DataFrame, Counts] | None
) -> None:
    """Write the bad lines beside the output, where that was asked."""
    if job.reading.bad_lines == "quarantine" and job.output:
        counts = [rows.counts, *([test[1]] if test else [])]
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
    """Read and check the rows of --test, if any; return the valid ones, and what became of others.

    Columns are what they are in the training input.
    """
    if not job.test:
        return None
    table = replace(rows.rules.table, weight=None)
    rules = replace(rows.rules, table=table, nullable=False)
    known = InputColumns(table, rules.width, rules.classes is not None).kinds
    found = read(
        session,
        job.test,
        job.reading,
        words=job.recipe.words,
        known=known,
        width=rules.width,
        part="test",
    )
    with reading(job.test):
        require_label(found.rows, rules)
        data, missing = without_missing(found.rows, table, job.recipe.missing)
        found.counts.missing += missing
        data = without_invalid(
            data, rules, job.reading.bad_lines, job.reading.max_bad_fraction, job.test, found.counts
        )
        if job.recipe.unseen == "fail":
            require_seen(data, rows.words)
    return chosen(data, table), found.counts


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
    if rows.indexer is None and rows.rules.classes is not None:
        training = with_classes(training, job.label, rows.rules.classes)
    stages, features = fit_stages(training, rows.rules, job.scale, rows.indexer, job.recipe)
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
        if features not in rows.rules.table.features:
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
