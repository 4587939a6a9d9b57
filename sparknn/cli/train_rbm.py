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
from sparknn.feature import RBM, RBMModel
from sparknn.schema import column_type, quoted

__all__ = ["Asked", "Unlabelled", "table_of", "train_rbm", "unlabelled_rows"]


@dataclass(frozen=True)
class Asked:
    """What a job without labels was asked of its input; label: a column to leave aside."""

    path: str
    kind: str | None
    label: str | None
    features: str | None
    scale: str
    validation: float = 0.0

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Asked:
        """Take these options out of a command's."""
        names = cls.__dataclass_fields__.keys() & options.keys()
        return cls(**{name: options.pop(name) for name in names})


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
def train_rbm(output: str | None, overwrite: bool, explain: bool, **options: Any) -> dict[str, Any]:
    """Train a restricted Boltzmann machine and save it with its preprocessing.

    Features are to be in [0, 1] (--scale minmax), or for --visible-type gaussian standardised.
    """
    began = time.perf_counter()
    asked = Asked.taken_from(options)
    estimator = RBM(**estimator_params(options))
    estimator._check()
    session = start_session("sparknn train_rbm")
    if output:
        require_free(session, output, overwrite)
    if explain:
        return _explained(session, asked, estimator)
    skip = estimator.getHandleInvalid() == "skip"
    rows = unlabelled_rows(session, asked, skip, estimator.getOutputCol(), estimator.getSeed())
    stages, column = fit_stages(rows.training, rows.table, asked.scale, None)
    prepared = PipelineModel(stages)
    with reading(asked.path):
        model = estimator.setFeaturesCol(column).fit(prepared.transform(rows.training))
    fitted = model.training
    say(f"trained on {fitted.rows} rows, {fitted.iterations} epochs: {fitted.reason}")
    if output:
        save_model(session, PipelineModel([*stages, model]), output, overwrite)
        say(f"saved to {output}")
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
    return {**result, "seconds": round(time.perf_counter() - began, 2), "output": output}


def unlabelled_rows(
    session: SparkSession, asked: Asked, skip: bool, added: str, seed: int
) -> Unlabelled:
    """Read the input, check all of it, and split it.

    skip: leave invalid rows out. added: the column that the model adds. seed: of the split.
    """
    data, malformed = read(session, asked.path, asked.kind, skip)
    with reading(asked.path):
        table = table_of(data, asked, added)
        data, skipped = checked(data, Rules(table, width_of(data, table)), skip)
        training, held = data, None
        if asked.validation:
            training, held = hold_out(_without_label(data, asked), asked.validation, seed)
            held = chosen(held, table)
    say(f"{asked.path}: {len(table.features)} feature columns")
    return Unlabelled(data, chosen(training, table), held, table, malformed + skipped)


def table_of(data: DataFrame, asked: Asked, added: str) -> Table:
    """Return the columns to train on, which a model can take."""
    table = choose_columns(_without_label(data, asked), None, asked.features)
    require_unused(table.names, [added])
    if asked.scale != "none":
        require_scalable(data, table)
    return table


def _without_label(data: DataFrame, asked: Asked) -> DataFrame:
    return data.drop(asked.label) if asked.label else data


def _explained(session: SparkSession, asked: Asked, estimator: RBM) -> dict[str, Any]:
    """Say what would be trained, and return the closing JSON object."""
    data, _ = read(session, asked.path, asked.kind, estimator.getHandleInvalid() == "skip")
    with reading(asked.path):
        table = table_of(data, asked, estimator.getOutputCol())
        rules = Rules(table, width_of(data, table), classes=None)
        found = count_rows(data, asked.path, asked.kind)
    if asked.validation:
        found = Counted(round(found.rows * (1 - asked.validation)), False)
    return explain_training("train_rbm", estimator, data, rules, found, [])


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
