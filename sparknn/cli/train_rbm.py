"""The job that trains a restricted Boltzmann machine: features without labels."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from pyspark.ml import PipelineModel
from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.checking import Rules, Table, checked, choose_columns, chosen, width_of
from sparknn.cli.command import EPILOG, JobCommand
from sparknn.cli.explain import Counted, count_rows, explain_training
from sparknn.cli.inputs import hold_out, read, reading
from sparknn.cli.options import estimator_params, machine_options
from sparknn.cli.outputs import require_free, save_model
from sparknn.cli.preparation import fit_stages, require_scalable, require_unused
from sparknn.cli.session import say, start_session
from sparknn.cli.train import Job
from sparknn.feature import RBM, RBMModel
from sparknn.schema import column_type, quoted

__all__ = ["Unlabelled", "look_at_unlabelled", "train_rbm", "unlabelled_rows"]


@dataclass(frozen=True)
class Unlabelled:
    """Valid rows: with all their columns, to train on, and held out.

    table: the columns to train on. skipped: rows that were left out.
    """

    whole: DataFrame
    training: DataFrame
    held: DataFrame | None
    table: Table
    skipped: int


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
    if job.output:
        require_free(session, job.output, job.overwrite)
    skip = estimator.getHandleInvalid() == "skip"
    if job.explain:
        seen = look_at_unlabelled(session, job, skip, estimator.getOutputCol())
        return explain_training("train_rbm", estimator, *seen, [])
    rows = unlabelled_rows(session, job, skip, estimator.getOutputCol(), estimator.getSeed())
    stages, column = fit_stages(rows.training, rows.table, job.scale, None)
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
        "skipped": rows.skipped + fitted.skipped,
        "features": model.numFeatures,
        "hidden": model.getNumHidden(),
        "epochs": fitted.iterations,
        "reconstructionError": fitted.objective_history[-1] if fitted.objective_history else None,
    }
    if rows.held is not None:
        result["validation"] = _measured(model, prepared.transform(rows.held))
    return {**result, "seconds": round(time.perf_counter() - began, 2), "output": job.output}


def unlabelled_rows(
    session: SparkSession, job: Job, skip: bool, added: str, seed: int
) -> Unlabelled:
    """Read the input, check all of it, and split it.

    skip: leave invalid rows out. added: the column that the model adds. seed: of the split.
    """
    data, malformed = read(session, job.path, job.kind, skip)
    with reading(job.path):
        table = _table(data, job, added)
        data, skipped = checked(data, Rules(table, width_of(data, table)), skip)
        training, held = data, None
        if job.validation:
            training, held = hold_out(data.drop(job.label), job.validation, seed)
            held = chosen(held, table)
    say(f"{job.path}: {len(table.features)} feature columns")
    return Unlabelled(data, chosen(training, table), held, table, malformed + skipped)


def look_at_unlabelled(
    session: SparkSession, job: Job, skip: bool, added: str
) -> tuple[DataFrame, Rules, Counted]:
    """Return what --explain tells of: the rows, what they must be, and how many there are."""
    data, _ = read(session, job.path, job.kind, skip)
    with reading(job.path):
        table = _table(data, job, added)
        rules = Rules(table, width_of(data, table), classes=None)
        return data, rules, count_rows(data, job.path, job.kind, 1 - job.validation)


def _table(data: DataFrame, job: Job, added: str) -> Table:
    """Return the columns to train on, which a model can take."""
    table = choose_columns(data.drop(job.label), None, job.features)
    require_unused(table.names, [added])
    if job.scale != "none":
        require_scalable(data, table)
    return table


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
