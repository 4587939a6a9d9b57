"""The jobs that use a saved model: predict and evaluate."""

from __future__ import annotations

import time
from typing import Any

import click
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.checking import checked, chosen, require_label
from sparknn.cli.inputs import read, reading
from sparknn.cli.metrics import measure_fully, said
from sparknn.cli.options import scoring_options
from sparknn.cli.outputs import load_model, require_free, write_rows
from sparknn.cli.preparation import (
    made_on_the_way,
    model_of,
    prediction_columns,
    require_scalable,
    require_unused,
    rules_of,
    without_labels,
)
from sparknn.cli.session import say, start_session
from sparknn.schema import column_type, quoted

__all__ = ["evaluate", "predict"]


@click.command("predict")
@scoring_options
@click.option("--output", required=True, help="Where to write Parquet.")
@click.option("--overwrite", is_flag=True, help="Replace what is at the output.")
@click.option(
    "--columns",
    help="Columns to write, with commas between them. By default the input's and prediction, "
    "probability, rawPrediction and, where labels are words, predictedLabel.",
)
def predict(
    model: str,
    path: str,
    kind: str | None,
    handle_invalid: str | None,
    output: str,
    overwrite: bool,
    columns: str | None,
) -> dict[str, Any]:
    """Add a saved model's predictions to rows."""
    began = time.perf_counter()
    session = start_session("sparknn predict")
    require_free(session, output, overwrite)
    pipeline = without_labels(load_model(session, model))
    data, skipped = _rows(session, pipeline, path, kind, handle_invalid == "skip", labelled=False)
    scored = pipeline.transform(data)
    names = _names(columns, scored, pipeline)
    wanted = scored.select(*[F.col(quoted(name)) for name in names])
    rows = write_rows(session, wanted, output, overwrite)
    say(f"{rows} rows written to {output}")
    return {
        "job": "predict",
        "rows": rows,
        "skipped": skipped,
        "columns": names,
        "seconds": round(time.perf_counter() - began, 2),
        "output": output,
    }


@click.command("evaluate")
@scoring_options
def evaluate(model: str, path: str, kind: str | None, handle_invalid: str | None) -> dict[str, Any]:
    """Measure a saved model on labelled rows."""
    began = time.perf_counter()
    session = start_session("sparknn evaluate")
    pipeline = load_model(session, model)
    data, skipped = _rows(session, pipeline, path, kind, handle_invalid == "skip", labelled=True)
    metrics = measure_fully(pipeline, data)
    say(f"{said(metrics)} on {metrics['rows']} rows")
    return {
        "job": "evaluate",
        **metrics,
        "skipped": skipped,
        "seconds": round(time.perf_counter() - began, 2),
        "model": model,
    }


def _rows(
    session: SparkSession,
    pipeline: PipelineModel,
    path: str,
    kind: str | None,
    skip: bool,
    labelled: bool,
) -> tuple[DataFrame, int]:
    """Return the rows that a pipeline can work on, and how many others were left out.

    labelled: the labels are to be right, too, and no other column is needed.
    """
    model = model_of(pipeline)
    rules = rules_of(pipeline, labelled)
    data, malformed = read(session, path, kind, skip, model.numFeatures)
    with reading(path):
        if rules.table.label is not None:
            require_label(data, rules)
        if rules.table.features != (model.getFeaturesCol(),):
            require_scalable(data, rules.table)
        data, skipped = checked(data, rules, skip)
        if labelled:
            data = chosen(data, rules.table)
        require_unused(data.columns, [*prediction_columns(model), *made_on_the_way(pipeline)])
    return data, malformed + skipped


def _names(columns: str | None, scored: DataFrame, pipeline: PipelineModel) -> list[str]:
    """Return the names of the columns to write."""
    made = made_on_the_way(pipeline)
    names = [name for name in scored.columns if name not in made]
    if columns:
        names = [name.strip() for name in columns.split(",")]
    for name in names:
        column_type(scored, name)
    return names
