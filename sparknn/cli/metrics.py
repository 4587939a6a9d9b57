"""How good a model is on labelled rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark import StorageLevel
from pyspark.ml import PipelineModel
from pyspark.ml.evaluation import (
    BinaryClassificationEvaluator,
    Evaluator,
    MulticlassClassificationEvaluator,
    RegressionEvaluator,
)
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.cli.calibration import calibration
from sparknn.cli.confusion import agreement, per_class
from sparknn.cli.preparation import is_regression, model_of, rules_of
from sparknn.errors import InvalidDataError
from sparknn.schema import quoted

__all__ = ["measure", "measure_fully", "said"]

ACCURACY = 10_000
"""Of quantiles: their ranks are right to a ten-thousandth of the rows."""


def measure(pipeline: PipelineModel, data: DataFrame) -> dict[str, Any]:
    """Return rows and how well a pipeline predicts their labels.

    Of a classifier accuracy and mean cross-entropy (in nats); of a regression the root mean
    squared error, the mean absolute one (both in the label's units) and R².
    """
    with _scored(pipeline, data) as scored:
        return _measured(model_of(pipeline), scored)


def measure_fully(pipeline: PipelineModel, data: DataFrame, bins: int = 10) -> dict[str, Any]:
    """Return what `measure` does, and all else that can be said.

    Of a classifier: weighted precision, recall and F, Cohen's kappa and Matthews' correlation,
    the confusion matrix (a row for each true class), a table of the classes, and how far
    probabilities can be believed, in `bins` bins; for two classes also the areas under the ROC
    and the precision-recall curve. Of a regression: mean and quantiles of the errors, and the
    explained variance.
    """
    model = model_of(pipeline)
    with _scored(pipeline, data) as scored:
        result = _measured(model, scored)
        if is_regression(model):
            return {**result, **_errors(scored)}
        for metric in ("weightedPrecision", "weightedRecall", "f1"):
            result[metric] = _of_classes(metric).evaluate(scored)
        if model.numClasses == 2:
            # By probabilities: of two raw values the second alone does not say which row is
            # likelier to be of its class.
            areas = BinaryClassificationEvaluator(rawPredictionCol="probability")
            for metric in ("areaUnderROC", "areaUnderPR"):
                result[metric] = areas.setMetricName(metric).evaluate(scored)
        counts = scored.groupBy("label", "prediction").count().collect()
        believed = calibration(scored, bins)
    matrix = [[0] * model.numClasses for _ in range(model.numClasses)]
    for row in counts:
        matrix[int(row["label"])][int(row["prediction"])] = row["count"]
    words = rules_of(pipeline, labelled=True).words
    table = per_class(matrix, words)
    return {**result, **agreement(matrix), **believed, "perClass": table, "confusion": matrix}


@contextmanager
def _scored(pipeline: PipelineModel, data: DataFrame) -> Iterator[DataFrame]:
    """Give the rows' label and what the pipeline predicts, kept on disk meanwhile."""
    model = model_of(pipeline)
    columns = {"label": model.getLabelCol(), "prediction": model.getPredictionCol()}
    if not is_regression(model):
        columns["probability"] = model.getProbabilityCol()
    scored = pipeline.transform(data)
    scored = scored.select(
        *[F.col(quoted(column)).alias(name) for name, column in columns.items()]
    ).withColumn("label", F.col("label").cast("double"))
    scored = scored.persist(StorageLevel.DISK_ONLY)
    try:
        yield scored
    finally:
        scored.unpersist()


def _measured(model: Any, scored: DataFrame) -> dict[str, Any]:
    rows = scored.count()
    if not rows:
        raise InvalidDataError("there are no rows to measure the model on")
    metrics = {name: _of_classes(name) for name in ("accuracy", "logLoss")}
    if is_regression(model):
        metrics = {name: _of_numbers(name) for name in ("rmse", "mae", "r2")}
    return {"rows": rows, **{name: each.evaluate(scored) for name, each in metrics.items()}}


def _errors(scored: DataFrame) -> dict[str, Any]:
    """Return what `measure` leaves out of a regression; errors are predictions less labels."""
    error = F.col("prediction") - F.col("label")
    shares = [0.5, 0.9, 0.99]
    bias, largest, found = scored.agg(
        F.avg(error), F.max(F.abs(error)), F.percentile_approx(F.abs(error), shares, ACCURACY)
    ).first() or (None, None, [])
    return {
        "mse": _of_numbers("mse").evaluate(scored),
        "explainedVariance": _of_numbers("var").evaluate(scored),
        "bias": bias,
        "medianAbsoluteError": found[0],
        "absoluteErrorQuantiles": dict(zip(map(str, shares), found, strict=True)),
        "largestAbsoluteError": largest,
    }


def said(metrics: dict[str, Any]) -> str:
    """Return what matters most of what `measure` returns, in words."""
    if "accuracy" in metrics:
        return f"accuracy {metrics['accuracy']:.4f}"
    return f"R² {metrics['r2']:.4f}, root mean squared error {metrics['rmse']:.4g}"


def _of_classes(metric: str) -> Evaluator:
    return MulticlassClassificationEvaluator(metricName=metric)


def _of_numbers(metric: str) -> Evaluator:
    return RegressionEvaluator(metricName=metric)
