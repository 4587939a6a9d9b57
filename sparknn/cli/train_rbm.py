"""The job that trains a restricted Boltzmann machine: features without labels."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.badlines import Counts, without_invalid
from sparknn.cli.checking import Rules, chosen, width_of
from sparknn.cli.command import EPILOG, JobCommand
from sparknn.cli.encoding import without_missing
from sparknn.cli.explain import Counted, count_rows, explain_training, width_seen
from sparknn.cli.inputs import Input, read, reading, split_by
from sparknn.cli.options import estimator_params, machine_options
from sparknn.cli.outputs import require_free, save_model
from sparknn.cli.preparation import fit_stages, require_unused
from sparknn.cli.session import say, start_session
from sparknn.cli.training_rows import Job, chosen_columns, set_aside, split_seen
from sparknn.feature import RBM, RBMModel
from sparknn.schema import column_type, quoted

__all__ = ["Unlabelled", "look_at_unlabelled", "train_rbm", "unlabelled_rows"]


@dataclass(frozen=True)
class Unlabelled:
    """Valid rows: with all their columns, to train on, and held out.

    rules: what makes them valid. counts: what became of the others. words: those of each category,
    in the training rows.
    """

    whole: DataFrame
    training: DataFrame
    held: DataFrame | None
    rules: Rules
    counts: Counts
    words: dict[str, list[str]]


@click.command("train_rbm", cls=JobCommand, epilog=EPILOG)
@machine_options
def train_rbm(**options: Any) -> dict[str, Any]:
    """Train a restricted Boltzmann machine and save it with its preprocessing.

    Features are to be in [0, 1] (--scale minmax), or for --visible-type gaussian standardised.
    """
    began = time.perf_counter()
    options |= {"test": None, "label": options["label"] or ""}
    job = Job.taken_from(options)
    estimator = RBM(**estimator_params(options))
    estimator._check()
    session = start_session("sparknn train_rbm")
    if job.explain:
        seen = look_at_unlabelled(session, job, estimator.getOutputCol())
        return explain_training("train_rbm", estimator, *seen, [])
    require_free(session, job.output, job.overwrite)
    rows = unlabelled_rows(session, job, estimator.getOutputCol(), estimator.getSeed())
    set_aside(session, job, rows.counts)
    stages, column = fit_stages(rows.training, rows.rules, job.scale, None, job.recipe, rows.words)
    prepared = PipelineModel(stages)
    with reading(job.path):
        model = estimator.setFeaturesCol(column).fit(prepared.transform(rows.training))
    fitted = model.training
    say(f"trained on {fitted.rows} rows, {fitted.iterations} epochs: {fitted.reason}")
    if job.output:
        save_model(session, PipelineModel([*stages, model]), job.output, job.overwrite)
        say(f"saved to {job.output}")
    result: dict[str, Any] = {
        "job": "train_rbm",
        "rows": fitted.rows,
        "skipped": rows.counts.left_out + fitted.skipped,
        "input": rows.counts.as_json(),
        "features": model.numFeatures,
        "hidden": model.getNumHidden(),
        "epochs": fitted.iterations,
        "reconstructionError": fitted.objective_history[-1] if fitted.objective_history else None,
    }
    if rows.held is not None:
        result["validation"] = _measured(model, prepared.transform(rows.held))
    return {**result, "seconds": round(time.perf_counter() - began, 2), "output": job.output}


def unlabelled_rows(session: SparkSession, job: Job, added: str, seed: int) -> Unlabelled:
    """Read the input, check all of it, and split it.

    added: the column that the model adds. seed: of the split.
    """
    found = _read(session, job)
    with reading(job.path):
        data, rules = _chosen(found, job, added)
        policy, most = job.reading.bad_lines, job.reading.max_bad_fraction
        data = without_invalid(data, rules, policy, most, job.path, found.counts)
        data, training, held, words = split_seen(data, rules.table, job, seed, found.counts)
        held = chosen(held, rules.table) if held is not None else None
    say(f"{job.path}: {len(rules.table.names)} feature columns")
    return Unlabelled(data, chosen(training, rules.table), held, rules, found.counts, words)


def look_at_unlabelled(
    session: SparkSession, job: Job, added: str
) -> tuple[DataFrame, Rules, Counted]:
    """Return what --explain tells of: the rows, what they must be, and how many there are."""
    found = _read(session, job)
    with reading(job.path):
        data, rules = _chosen(found, job, added)
        rules = replace(rules, width=width_seen(data, rules, job.recipe), classes=None)
        if job.recipe.split_column:
            data, _ = split_by(data, *job.recipe.split_column)
        return data, rules, count_rows(data, 1 - job.validation)


def _read(session: SparkSession, job: Job) -> Input:
    words = [*job.recipe.words, *filter(None, [job.label])]
    return read(session, job.path, job.reading, words=words)


def _chosen(found: Input, job: Job, added: str) -> tuple[DataFrame, Rules]:
    """Return the rows that have all they need, and what makes them valid."""
    data, table = chosen_columns(found, job, None, None, False)
    require_unused(table.names, [added])
    data, missing = without_missing(data, table, job.recipe.missing, job.recipe.fills)
    found.counts.missing += missing
    return data, Rules(table, width_of(data, table), filled=job.recipe.fills)


def _measured(model: RBMModel, data: DataFrame) -> dict[str, Any]:
    """Return the rows and their mean squared reconstruction error, per row and visible unit."""
    back = model.reconstruct(data, "reconstruction")
    features = F.col(quoted(model.getFeaturesCol()))
    if isinstance(column_type(data, model.getFeaturesCol()), VectorUDT):
        features = vector_to_array(features)
    squares = F.zip_with(
        features, vector_to_array("reconstruction"), lambda x, y: (x - y) * (x - y)
    )
    total = F.aggregate(squares, F.lit(0.0), lambda sum_, x: sum_ + x)
    rows, error = back.agg(F.count("*"), F.avg(total)).first() or (0, None)
    error = np.nan if error is None else error / model.numFeatures
    say(f"validation reconstruction error {error:.4g}")
    return {"rows": rows, "reconstructionError": float(error)}
