"""The job that compares naive Bayes with logistic regression, on the same split."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource
from pyspark.ml import PipelineModel
from pyspark.ml.classification import NaiveBayes, NaiveBayesModel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.classification import LogisticRegression
from sparknn.cli.badlines import Counts
from sparknn.cli.binning import Prepared, suited_to
from sparknn.cli.command import EPILOG, JobCommand
from sparknn.cli.input_options import group, input_options, recipe_options
from sparknn.cli.metrics import measure
from sparknn.cli.options import (
    columns_option,
    estimator_params,
    labelled_options,
    output_options,
    seed_option,
    validation_option,
)
from sparknn.cli.outputs import require_free, save_model
from sparknn.cli.preparation import label_names
from sparknn.cli.session import say, start_session
from sparknn.cli.tables import aligned
from sparknn.cli.train import explained, prepared
from sparknn.cli.training_rows import Job, Rows, set_aside, test_rows, valid_rows
from sparknn.cli.types import Several
from sparknn.errors import InvalidDataError
from sparknn.schema import quoted, stage_name

__all__ = ["naive_bayes"]

COMPARED = ("gaussian", "multinomial", "bernoulli", "logistic")
"""What jobs/naive_bayes.py compares."""

comparison_options = group(
    input_options,
    recipe_options,
    columns_option,
    validation_option(0.2),
    labelled_options,
    click.option(
        "--models",
        type=Several(COMPARED),
        default=",".join(COMPARED),
        show_default=True,
        help="Which to compare, with commas between them.",
    ),
    click.option(
        "--smoothing",
        type=click.FloatRange(0),
        default=1.0,
        show_default=True,
        help="Of multinomial and Bernoulli: rows added to each count (1: Laplace).",
    ),
    click.option(
        "--quantiles",
        type=click.IntRange(min=2),
        default=10,
        show_default=True,
        help="Bins, of about equally many rows, for a column that multinomial or Bernoulli cannot "
        "take as it is.",
    ),
    click.option("--reg-param", type=float, help="Strength of logistic regression's penalty."),
    click.option("--max-iter", type=int, help="Iterations of the logistic regression at most."),
    seed_option,
    output_options,
    click.option(
        "--save",
        type=click.Choice(["best", *COMPARED]),
        default="best",
        show_default=True,
        help="Which model goes to the output: the most accurate one, or one by its name.",
    ),
)


@dataclass(frozen=True)
class Compared:
    """A fitted model with its preprocessing, and what it came to on rows held out."""

    name: str
    pipeline: PipelineModel
    binned: list[str]
    measured: dict[str, dict[str, Any]]
    seconds: float

    @property
    def decisive(self) -> dict[str, Any]:
        """The metrics that decide: those on the rows held out, else those of --test."""
        return self.measured.get("validation") or self.measured["test"]

    @property
    def told(self) -> dict[str, Any]:
        """What the closing JSON says of it."""
        return {
            "model": self.name,
            "binned": self.binned,
            **self.measured,
            "seconds": round(self.seconds, 2),
        }


@click.command("naive_bayes", cls=JobCommand, epilog=EPILOG)
@comparison_options
@click.pass_context
def naive_bayes(
    context: click.Context,
    models: list[str],
    smoothing: float,
    quantiles: int,
    save: str,
    **options: Any,
) -> dict[str, Any]:
    """Compare Gaussian, multinomial and Bernoulli naive Bayes with logistic regression.

    All are trained on the same rows and measured on the same others. Multinomial takes counts and
    Bernoulli zeros and ones: columns that hold other numbers are cut into bins for them.
    """
    began = time.perf_counter()
    options |= {"scale": "none"}
    if options["split_column"] and context.get_parameter_source("validation") == (
        ParameterSource.DEFAULT
    ):
        options["validation"] = 0.0
    job = Job.taken_from(options)
    logistic = LogisticRegression(**estimator_params(options))
    logistic._check()
    _require_sense(models, save, job)
    session = start_session("sparknn naive_bayes")
    if job.explain:
        return {**explained("naive_bayes", session, job, logistic, None), "models": models}
    require_free(session, job.output, job.overwrite)
    rows = valid_rows(session, job, logistic, None)
    test = test_rows(session, job, rows)
    set_aside(session, job, rows.counts, *([test[1]] if test else []))
    if models != ["logistic"]:
        _require_all_classes(rows, job)
    found = _all_fitted(models, smoothing, quantiles, rows, job, logistic, test)
    best = max(found, key=lambda each: each.decisive["accuracy"])
    for line in _table(found):
        say(line)
    saved = best if save == "best" else next(each for each in found if each.name == save)
    if job.output:
        save_model(session, saved.pipeline, job.output, job.overwrite)
        say(f"saved {saved.name} to {job.output}")
    return {
        "job": "naive_bayes",
        "rows": rows.training.count(),
        "skipped": rows.counts.left_out,
        "input": rows.counts.as_json(),
        "features": rows.rules.width,
        "classes": rows.rules.classes,
        "models": [each.told for each in found],
        **({"test": {"skipped": test[1].left_out, "input": test[1].as_json()}} if test else {}),
        "best": best.name,
        "saved": saved.name if job.output else None,
        "seconds": round(time.perf_counter() - began, 2),
        "output": job.output,
    }


def _require_sense(models: list[str], save: str, job: Job) -> None:
    """Raise click.UsageError for options that do not go together."""
    if not (job.validation or job.recipe.split_column or job.test):
        raise click.UsageError(
            "nothing to compare on: give --validation a share, --split-column, or --test a path"
        )
    if save != "best" and save not in models:
        raise click.UsageError(f"--save {save} is not one of --models {','.join(models)}")


def _require_all_classes(rows: Rows, job: Job) -> None:
    """Raise InvalidDataError where a class has no row to train on.

    MLlib's naive Bayes numbers the classes that it meets, and would mistake all later ones.
    """
    words = rows.indexer.labels if rows.indexer else None
    label = F.col(quoted(job.label)).cast("string" if words else "int")
    met = {row["label"] for row in rows.training.select(label.alias("label")).distinct().collect()}
    for name in words or range(rows.rules.classes or 0):
        if name not in met:
            raise InvalidDataError(
                f"{job.path}: column {job.label!r}: class {name} has no row to train naive Bayes "
                "on: choose another --seed, --validation or --split-column, or compare --models "
                "logistic alone"
            )


def _all_fitted(
    models: list[str],
    smoothing: float,
    quantiles: int,
    rows: Rows,
    job: Job,
    logistic: LogisticRegression,
    test: tuple[DataFrame, Counts] | None,
) -> list[Compared]:
    """Fit and measure the models, one after the other."""
    plain = Prepared(*prepared(rows, rows.training, job))
    label = rows.indexer.getOutputCol() if rows.indexer else job.label
    held = {"validation": rows.held, "test": test[0] if test else None}
    found = []
    for name in models:
        began = time.perf_counter()
        own = plain
        binned: list[str] = []
        if name == "logistic":
            model = logistic.setFeaturesCol(own.features).setLabelCol(label).fit(own.data)
        else:
            own, binned = suited_to(name, rows, job, plain, quantiles)
            model = _fitted(NaiveBayes(modelType=name, smoothing=smoothing), own, label, rows)
        pipeline = PipelineModel([*own.stages, model, *label_names(rows.indexer, model)])
        measured = {p: measure(pipeline, each) for p, each in held.items() if each is not None}
        found.append(Compared(name, pipeline, binned, measured, time.perf_counter() - began))
        changed = f"; {len(binned)} columns binned" if binned else ""
        say(f"{name}: {found[-1].seconds:.1f} s{changed}")
    return found


def _fitted(estimator: NaiveBayes, own: Prepared, label: str, rows: Rows) -> NaiveBayesModel:
    """Fit a naive Bayes, which knows no names with dots, to columns of names without them."""
    columns = {"features": own.features, "label": label}
    if rows.rules.table.weight:
        columns["weight"] = rows.rules.table.weight
        estimator.setWeightCol("weight")
    data = own.data.select(*[F.col(quoted(name)).alias(each) for each, name in columns.items()])
    model = estimator.fit(data)
    model._set(featuresCol=stage_name(own.features), labelCol=label)
    return model


def _table(found: list[Compared]) -> list[str]:
    """Return what the models came to, the most accurate first, as lines of aligned columns."""
    purposes = list(found[0].measured)
    names = ("accuracy", "logLoss")
    lines = [["model", *(f"{purpose} {name}" for purpose in purposes for name in names), "binned"]]
    for each in sorted(found, key=lambda each: -each.decisive["accuracy"]):
        numbers = [f"{each.measured[p][name]:.4f}" for p in purposes for name in names]
        lines.append([each.name, *numbers, str(len(each.binned))])
    return aligned(lines)
