"""The jobs that use a saved model: predict and evaluate."""

from __future__ import annotations

import time
from typing import Any

import click
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.badlines import Counts, without_invalid, write_quarantine
from sparknn.cli.checking import chosen, require_label
from sparknn.cli.encoding import require_seen, without_missing
from sparknn.cli.inputs import Reading, read, reading
from sparknn.cli.metrics import measure_fully, said
from sparknn.cli.options import scoring_options
from sparknn.cli.outputs import load_model, require_free, write_aside
from sparknn.cli.preparation import (
    categories_of,
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
    missing: str,
    output: str,
    overwrite: bool,
    columns: str | None,
    **options: Any,
) -> dict[str, Any]:
    """Add a saved model's predictions to rows."""
    began = time.perf_counter()
    session = start_session("sparknn predict")
    require_free(session, output, overwrite)
    pipeline = without_labels(load_model(session, model))
    how = Reading.taken_from(options)
    data, counts = _rows(session, pipeline, path, how, missing, labelled=False)
    if how.bad_lines == "quarantine":
        write_quarantine(session, [counts], output, overwrite)
    scored = pipeline.transform(data)
    names = _names(columns, scored, pipeline)
    wanted = scored.select(*[F.col(quoted(name)) for name in names])
    write_aside(session, output, overwrite, lambda place: wanted.write.parquet(place))
    rows = session.read.parquet(output).count()
    say(f"{rows} rows written to {output}")
    return {
        "job": "predict",
        "rows": rows,
        "skipped": counts.bad + counts.missing,
        "input": counts.as_json(),
        "columns": names,
        "seconds": round(time.perf_counter() - began, 2),
        "output": output,
    }


@click.command("evaluate")
@scoring_options
def evaluate(model: str, path: str, missing: str, **options: Any) -> dict[str, Any]:
    """Measure a saved model on labelled rows."""
    began = time.perf_counter()
    how = Reading.taken_from(options)
    if how.bad_lines == "quarantine":
        raise click.UsageError("evaluate has no output to write bad lines beside: skip them")
    session = start_session("sparknn evaluate")
    pipeline = load_model(session, model)
    data, counts = _rows(session, pipeline, path, how, missing, labelled=True)
    metrics = measure_fully(pipeline, data)
    say(f"{said(metrics)} on {metrics['rows']} rows")
    return {
        "job": "evaluate",
        **metrics,
        "skipped": counts.bad + counts.missing,
        "input": counts.as_json(),
        "seconds": round(time.perf_counter() - began, 2),
        "model": model,
    }


def _rows(
    session: SparkSession,
    pipeline: PipelineModel,
    path: str,
    how: Reading,
    missing: str,
    labelled: bool,
) -> tuple[DataFrame, Counts]:
    """Return the rows that a pipeline can work on, and what became of the others.

    labelled: the labels are to be right, too, and no other column is needed.
    """
    model = model_of(pipeline)
    rules = rules_of(pipeline, labelled)
    table = rules.table
    known = [column for column in table.kinds if column.name in table.names]
    found = read(
        session, path, how, words=table.categories, known=known, width=rules.width, part="test"
    )
    with reading(path):
        for name in table.names:
            if name != table.label:
                column_type(found.rows, name)
        if table.label is not None:
            require_label(found.rows, rules)
        if table.features != (model.getFeaturesCol(),):
            require_scalable(found.rows, table)
        # Fitted means fill; which one it was is the pipeline's own matter.
        policy = "mean" if rules.filled and missing == "fail" else missing
        data, gaps = without_missing(found.rows, table, policy)
        found.counts.missing += gaps
        data = without_invalid(data, rules, how.bad_lines, how.max_bad_fraction, path, found.counts)
        require_seen(data, categories_of(pipeline))
        if labelled:
            data = chosen(data, table)
        require_unused(data.columns, [*prediction_columns(model), *made_on_the_way(pipeline)])
    return data, found.counts


def _names(columns: str | None, scored: DataFrame, pipeline: PipelineModel) -> list[str]:
    """Return the names of the columns to write."""
    made = made_on_the_way(pipeline)
    names = [name for name in scored.columns if name not in made]
    if columns:
        names = [name.strip() for name in columns.split(",")]
    for name in names:
        column_type(scored, name)
    return names
