"""The job that trains a restricted Boltzmann machine: features without labels."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import click
import numpy as np
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.badlines import Counts, without_invalid, write_quarantine
from sparknn.cli.checking import Rules, chosen, width_of
from sparknn.cli.encoding import category_words, require_seen, without_missing
from sparknn.cli.inputs import read, reading
from sparknn.cli.options import estimator_params, machine_options
from sparknn.cli.outputs import require_free, save_model
from sparknn.cli.preparation import fit_stages, require_unused
from sparknn.cli.session import say, start_session
from sparknn.cli.training_rows import Job, chosen_columns, held_out
from sparknn.feature import RBM, RBMModel
from sparknn.schema import column_type, quoted

__all__ = ["train_rbm"]


@click.command("train_rbm")
@machine_options
def train_rbm(**options: Any) -> dict[str, Any]:
    """Train a restricted Boltzmann machine and save it with its preprocessing."""
    began = time.perf_counter()
    job = Job.taken_from(options := {**options, "test": None, "label": options["label"] or ""})
    estimator = RBM(**estimator_params(options))
    estimator._check()
    session = start_session("sparknn train_rbm")
    if job.output:
        require_free(session, job.output, job.overwrite)
    rows = _rows(session, estimator, job)
    if job.reading.bad_lines == "quarantine" and job.output:
        write_quarantine(session, [rows.counts], job.output, job.overwrite)
    stages, column = fit_stages(rows.training, rows.rules, job.scale, None, job.recipe)
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
        "skipped": rows.counts.bad + rows.counts.missing + fitted.skipped,
        "input": rows.counts.as_json(),
        "features": model.numFeatures,
        "hidden": model.getNumHidden(),
        "epochs": fitted.iterations,
        "reconstructionError": fitted.objective_history[-1] if fitted.objective_history else None,
    }
    if rows.held is not None:
        result["validation"] = _measured(model, prepared.transform(rows.held))
    return {**result, "seconds": round(time.perf_counter() - began, 2), "output": job.output}


class _Rows(NamedTuple):
    """Valid rows to train on, and held out; what makes them valid; what became of the others."""

    training: DataFrame
    held: DataFrame | None
    rules: Rules
    counts: Counts


def _rows(session: SparkSession, estimator: RBM, job: Job) -> _Rows:
    """Read the input, check all of it, and split it."""
    recipe = job.recipe
    found = read(session, job.path, job.reading, words=[*recipe.words, *filter(None, [job.label])])
    with reading(job.path):
        data, table = chosen_columns(found, job, None, None, False)
        require_unused(table.names, [estimator.getOutputCol()])
        data, missing = without_missing(data, table, recipe.missing)
        found.counts.missing += missing
        rules = Rules(table, width_of(data, table), filled=recipe.fills)
        data = without_invalid(
            data,
            rules,
            job.reading.bad_lines,
            job.reading.max_bad_fraction,
            job.path,
            found.counts,
        )
        training, held = held_out(data, job, estimator)
        held = chosen(held, table) if held is not None else None
        if held is not None and recipe.unseen == "fail":
            require_seen(held, category_words(training, table.categories))
    say(f"{job.path}: {len(table.features) + len(table.categories)} feature columns")
    return _Rows(chosen(training, table), held, rules, found.counts)


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
