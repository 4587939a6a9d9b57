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

from sparknn.cli.checking import Rules, Table, checked, choose_columns, chosen, width_of
from sparknn.cli.inputs import hold_out, read, reading
from sparknn.cli.options import estimator_params, machine_options
from sparknn.cli.outputs import require_free, save_model
from sparknn.cli.preparation import fit_stages, require_scalable, require_unused
from sparknn.cli.session import say, start_session
from sparknn.feature import RBM, RBMModel
from sparknn.schema import column_type, quoted

__all__ = ["train_rbm"]


@click.command("train_rbm")
@machine_options
def train_rbm(
    path: str,
    kind: str | None,
    label: str | None,
    features: str | None,
    validation: float,
    scale: str,
    output: str | None,
    overwrite: bool,
    **options: Any,
) -> dict[str, Any]:
    """Train a restricted Boltzmann machine and save it with its preprocessing."""
    began = time.perf_counter()
    estimator = RBM(**estimator_params(options))
    estimator._check()
    session = start_session("sparknn train_rbm")
    if output:
        require_free(session, output, overwrite)
    rows = _rows(session, estimator, path, kind, label, features, validation, scale)
    stages, column = fit_stages(rows.training, rows.table, scale, None)
    prepared = PipelineModel(stages)
    with reading(path):
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


class _Rows(NamedTuple):
    """Valid rows to train on, and held out; which columns; how many others were left out."""

    training: DataFrame
    held: DataFrame | None
    table: Table
    skipped: int


def _rows(
    session: SparkSession,
    estimator: RBM,
    path: str,
    kind: str | None,
    label: str | None,
    features: str | None,
    validation: float,
    scale: str,
) -> _Rows:
    """Read the input, check all of it, and split it."""
    skip = estimator.getHandleInvalid() == "skip"
    data, malformed = read(session, path, kind, skip)
    with reading(path):
        data = data.drop(*filter(None, [label]))
        table = choose_columns(data, None, features)
        require_unused(table.names, [estimator.getOutputCol()])
        if scale != "none":
            require_scalable(data, table)
        data, skipped = checked(data, Rules(table, width_of(data, table)), skip)
        training, held = data, None
        if validation:
            training, held = hold_out(data, validation, estimator.getSeed())
            held = chosen(held, table)
    say(f"{path}: {len(table.features)} feature columns")
    return _Rows(chosen(training, table), held, table, malformed + skipped)


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
