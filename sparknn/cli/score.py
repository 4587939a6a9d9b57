"""The jobs that use a saved model: predict and evaluate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.badlines import Counts, without_invalid, write_quarantine
from sparknn.cli.checking import Rules, chosen, require_label
from sparknn.cli.command import EPILOG, JobCommand
from sparknn.cli.encoding import without_missing
from sparknn.cli.explain import count_rows
from sparknn.cli.inputs import Input, Reading, read, reading
from sparknn.cli.metrics import measure_fully, said
from sparknn.cli.options import prediction_options, scoring_options
from sparknn.cli.outputs import load_model, require_free, write_rows
from sparknn.cli.preparation import (
    knows_no_label,
    made_on_the_way,
    model_of,
    prediction_columns,
    require_scalable,
    require_unused,
    rules_of,
    without_labels,
)
from sparknn.cli.session import say, start_session
from sparknn.cli.tables import aligned
from sparknn.cli.types import names_in
from sparknn.errors import InvalidDataError
from sparknn.schema import column_type, quoted

__all__ = ["evaluate", "predict"]

MOST_LINES = 30
"""Of a table on the screen; the closing line has all."""


@click.command("predict", cls=JobCommand, epilog=EPILOG)
@prediction_options
def predict(
    model: str,
    path: str,
    missing: str,
    output: str,
    overwrite: bool,
    keep: str | None,
    columns: str | None,
    explain: bool,
    **options: Any,
) -> dict[str, Any]:
    """Add a saved model's predictions to rows, and write them as Parquet.

    Rows stream through: inputs may be larger than all memory. Labels are not needed.
    """
    began = time.perf_counter()
    if keep is not None and columns is not None:
        raise click.UsageError("--columns names all columns to write: leave --keep out, or it")
    session = start_session("sparknn predict")
    how = Reading.taken_from(options)
    if not explain:
        require_free(session, output, overwrite)
    pipeline = without_labels(load_model(session, model))
    if explain:
        return _explained("predict", session, pipeline, path, how, labelled=False)
    data, counts = _rows(session, pipeline, path, how, missing, labelled=False)
    if how.bad_lines == "quarantine":
        write_quarantine(session, [counts], output, overwrite)
    scored = pipeline.transform(data)
    names = _names(keep, columns, data, scored, pipeline)
    wanted = scored.select(*[F.col(quoted(name)) for name in names])
    rows = write_rows(session, wanted, output, overwrite)
    say(f"{rows} rows written to {output}")
    return {
        "job": "predict",
        "rows": rows,
        "skipped": counts.left_out,
        "input": counts.as_json(),
        "columns": names,
        "seconds": round(time.perf_counter() - began, 2),
        "output": output,
    }


@click.command("evaluate", cls=JobCommand, epilog=EPILOG)
@scoring_options
@click.option(
    "--calibration-bins",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Parts of [0, 1] in which the model's confidence is compared with its accuracy.",
)
def evaluate(
    model: str, path: str, missing: str, calibration_bins: int, explain: bool, **options: Any
) -> dict[str, Any]:
    """Measure a saved model on labelled rows: all metrics, class by class, and calibration."""
    began = time.perf_counter()
    how = Reading.taken_from(options)
    if how.bad_lines == "quarantine":
        raise click.UsageError("evaluate has no output to write bad lines beside: skip them")
    session = start_session("sparknn evaluate")
    pipeline = load_model(session, model)
    if knows_no_label(model_of(pipeline)):
        kind = type(model_of(pipeline)).__name__
        raise InvalidDataError(
            f"{model} holds a {kind}, which no label can be compared with; predict takes it"
        )
    if explain:
        return _explained("evaluate", session, pipeline, path, how, labelled=True)
    data, counts = _rows(session, pipeline, path, how, missing, labelled=True)
    metrics = measure_fully(pipeline, data, calibration_bins)
    say(f"{said(metrics)} on {metrics['rows']} rows")
    for line in _tables(metrics):
        say(line)
    return {
        "job": "evaluate",
        **metrics,
        "skipped": counts.left_out,
        "input": counts.as_json(),
        "seconds": round(time.perf_counter() - began, 2),
        "model": model,
    }


def _tables(metrics: dict[str, Any]) -> Iterator[str]:
    """Yield what a classifier's metrics are of each class and each bin of confidence."""
    if "perClass" not in metrics:
        return
    for title, rows in (("class", metrics["perClass"]), ("from", metrics["calibration"])):
        lines = [list(rows[0])]
        for row in rows[:MOST_LINES]:
            lines.append([f"{x:.4f}" if isinstance(x, float) else str(x) for x in row.values()])
        yield from aligned(lines)
        if len(rows) > MOST_LINES:
            yield f"… and {len(rows) - MOST_LINES} more, by their {title}, in the closing line"
    error = metrics["expectedCalibrationError"]
    yield f"confidence is {error:.4f} away from accuracy, in the mean"


def _explained(
    name: str,
    session: SparkSession,
    pipeline: PipelineModel,
    path: str,
    how: Reading,
    labelled: bool,
) -> dict[str, Any]:
    """Say what would be computed, and return the closing JSON object."""
    rules = rules_of(pipeline, labelled)
    data = _opened(session, pipeline, rules, path, how).rows
    counted = count_rows(data)
    stages = [type(stage).__name__ for stage in pipeline.stages]
    columns = [*rules.table.names, *(["the rest"] if not labelled else [])]
    say(f"{path}: {counted}; the model takes {', '.join(columns[:MOST_LINES])}")
    say(f"stages: {', '.join(stages)}; nothing was computed")
    return {
        "job": name,
        "explain": True,
        "rows": counted.rows,
        "rowsExact": counted.exact,
        "features": rules.width,
        "stages": stages,
        "columns": data.columns,
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
    rules = rules_of(pipeline, labelled)
    table = rules.table
    found = _opened(session, pipeline, rules, path, how)
    with reading(path):
        data, gaps = without_missing(found.rows, table, missing, rules.filled)
        found.counts.missing += gaps
        data = without_invalid(data, rules, how.bad_lines, how.max_bad_fraction, path, found.counts)
    return chosen(data, table) if labelled else data, found.counts


def _opened(
    session: SparkSession, pipeline: PipelineModel, rules: Rules, path: str, how: Reading
) -> Input:
    """Return the rows, whose schema suits the model."""
    model, table = model_of(pipeline), rules.table
    known = [column for column in table.kinds if column.name in table.names]
    found = read(
        session, path, how, words=table.categories, known=known, width=rules.width, part="test"
    )
    data = found.rows
    with reading(path):
        for name in table.names:
            if name != table.label:
                column_type(data, name)
        if table.label is not None:
            require_label(data, rules)
        if table.features != (model.getFeaturesCol(),):
            require_scalable(data, table)
        used = data.columns if table.label is None else table.names
        require_unused(used, [*prediction_columns(model), *made_on_the_way(pipeline)])
    return found


def _names(
    keep: str | None,
    columns: str | None,
    data: DataFrame,
    scored: DataFrame,
    pipeline: PipelineModel,
) -> list[str]:
    """Return the names of the columns to write."""
    made = made_on_the_way(pipeline)
    kept = data.columns if keep is None else names_in(keep)
    added = [name for name in scored.columns if name not in [*data.columns, *made]]
    names = [*kept, *added] if columns is None else names_in(columns)
    for name in names:
        column_type(scored, name)
    return list(dict.fromkeys(names))
