"""How good a model is on labelled rows."""

from __future__ import annotations

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

from sparknn.cli.preparation import is_regression, model_of
from sparknn.errors import InvalidDataError
from sparknn.schema import quoted

__all__ = ["measure", "measure_fully", "said"]


def measure(pipeline: PipelineModel, data: DataFrame) -> dict[str, Any]:
    """Return rows and how well a pipeline predicts their labels.

    Of a classifier accuracy and mean cross-entropy (in nats); of a regression the root mean
    squared error, the mean absolute one (both in the label's units) and R².
    """
    model = model_of(pipeline)
    columns = {"label": model.getLabelCol(), "prediction": model.getPredictionCol()}
    metrics: dict[str, Evaluator] = {
        name: RegressionEvaluator(metricName=name) for name in ("rmse", "mae", "r2")
    }
    if not is_regression(model):
        columns["probability"] = model.getProbabilityCol()
        metrics = {name: _of_classes(name) for name in ("accuracy", "logLoss")}
    scored = pipeline.transform(data)
    scored = scored.select(
        *[F.col(quoted(column)).alias(name) for name, column in columns.items()]
    ).withColumn("label", F.col("label").cast("double"))
    scored = scored.persist(StorageLevel.DISK_ONLY)
    try:
        rows = scored.count()
        if not rows:
            raise InvalidDataError("there are no rows to measure the model on")
        return {"rows": rows, **{name: each.evaluate(scored) for name, each in metrics.items()}}
    finally:
        scored.unpersist()


def measure_fully(pipeline: PipelineModel, data: DataFrame) -> dict[str, Any]:
    """Return what `measure` does, weighted precision, recall and F, and the confusion matrix.

    For two classes also the area under the ROC curve. The matrix has a row for each true class.
    Of a regression there is no more than `measure` returns.
    """
    model = model_of(pipeline)
    result = measure(pipeline, data)
    if is_regression(model):
        return result
    scored = pipeline.transform(data)
    scored = scored.select(
        F.col(quoted(model.getLabelCol())).cast("double").alias("label"),
        F.col(quoted(model.getPredictionCol())).alias("prediction"),
        F.col(quoted(model.getRawPredictionCol())).alias("rawPrediction"),
    ).persist(StorageLevel.DISK_ONLY)
    try:
        for metric in ("weightedPrecision", "weightedRecall", "f1"):
            result[metric] = _of_classes(metric).evaluate(scored)
        if model.numClasses == 2:
            evaluator = BinaryClassificationEvaluator(metricName="areaUnderROC")
            result["areaUnderROC"] = evaluator.evaluate(scored)
        counts = scored.groupBy("label", "prediction").count().collect()
    finally:
        scored.unpersist()
    matrix = [[0] * model.numClasses for _ in range(model.numClasses)]
    for row in counts:
        matrix[int(row["label"])][int(row["prediction"])] = row["count"]
    return {**result, "confusion": matrix}


def said(metrics: dict[str, Any]) -> str:
    """Return what matters most of what `measure` returns, in words."""
    if "accuracy" in metrics:
        return f"accuracy {metrics['accuracy']:.4f}"
    return f"R² {metrics['r2']:.4f}, root mean squared error {metrics['rmse']:.4g}"


def _of_classes(metric: str) -> Evaluator:
    return MulticlassClassificationEvaluator(metricName=metric)
