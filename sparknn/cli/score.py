"""The jobs that use a saved model: predict and evaluate."""

from __future__ import annotations

import time
from typing import Any

import click

from sparknn.cli.inputs import read
from sparknn.cli.metrics import classifier_of, measure_fully
from sparknn.cli.options import scoring_options
from sparknn.cli.outputs import load_model, require_free, write_aside
from sparknn.cli.session import say, start_session
from sparknn.errors import InvalidDataError
from sparknn.schema import column_type

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
    model: str, path: str, kind: str | None, output: str, overwrite: bool, columns: str | None
) -> dict[str, Any]:
    """Add a saved model's predictions to rows."""
    began = time.perf_counter()
    session = start_session("sparknn predict")
    require_free(session, output, overwrite)
    pipeline = load_model(session, model)
    classifier = classifier_of(pipeline)
    data = read(session, path, kind, classifier.numFeatures)
    scored = pipeline.transform(data)
    made = {
        stage.getOutputCol()
        for stage in pipeline.stages
        if stage is not pipeline.stages[-1] and hasattr(stage, "getOutputCol")
    } - {"predictedLabel"}
    names = columns.split(",") if columns else [c for c in scored.columns if c not in made]
    for name in names:
        column_type(scored, name)
    chosen = scored.select(*[scored[f"`{name}`"] for name in names])
    write_aside(session, output, overwrite, lambda place: chosen.write.parquet(place))
    rows = session.read.parquet(output).count()
    say(f"{rows} rows written to {output}")
    return {
        "job": "predict",
        "rows": rows,
        "columns": names,
        "seconds": round(time.perf_counter() - began, 2),
        "output": output,
    }


@click.command("evaluate")
@scoring_options
def evaluate(model: str, path: str, kind: str | None) -> dict[str, Any]:
    """Measure a saved model on labelled rows."""
    began = time.perf_counter()
    session = start_session("sparknn evaluate")
    pipeline = load_model(session, model)
    classifier = classifier_of(pipeline)
    data = read(session, path, kind, classifier.numFeatures)
    label = next(
        (stage.getInputCol() for stage in pipeline.stages if hasattr(stage, "labels")),
        classifier.getLabelCol(),
    )
    if label not in data.columns:
        raise InvalidDataError(
            f"{path} has no column {label!r}, the label that the model was trained on; there are "
            f"{', '.join(data.columns)}"
        )
    metrics = measure_fully(pipeline, data)
    say(f"accuracy {metrics['accuracy']:.4f} on {metrics['rows']} rows")
    return {
        "job": "evaluate",
        **metrics,
        "seconds": round(time.perf_counter() - began, 2),
        "model": model,
    }
