"""How good a model is on labelled rows."""

from __future__ import annotations

from typing import Any

from pyspark import StorageLevel
from pyspark.ml import PipelineModel
from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.cli.preparation import classifier_of
from sparknn.errors import InvalidDataError
from sparknn.schema import quoted

__all__ = ["measure", "measure_fully"]


def measure(pipeline: PipelineModel, data: DataFrame) -> dict[str, Any]:
    """Return rows, accuracy and mean cross-entropy (in nats) of a pipeline on labelled rows."""
    model = classifier_of(pipeline)
    scored = pipeline.transform(data).select(
        F.col(quoted(model.getLabelCol())).cast("double").alias("label"),
        F.col(quoted(model.getPredictionCol())).alias("prediction"),
        F.col(quoted(model.getProbabilityCol())).alias("probability"),
    )
    scored = scored.persist(StorageLevel.DISK_ONLY)
    try:
        rows = scored.count()
        if not rows:
            raise InvalidDataError("there are no rows to measure the model on")
        return {
            "rows": rows,
            "accuracy": _evaluate(scored, "accuracy"),
            "logLoss": _evaluate(scored, "logLoss"),
        }
    finally:
        scored.unpersist()


def measure_fully(pipeline: PipelineModel, data: DataFrame) -> dict[str, Any]:
    """Return what `measure` does, weighted precision, recall and F, and the confusion matrix.

    For two classes also the area under the ROC curve. The matrix has a row for each true class.
    """
    model = classifier_of(pipeline)
    result = measure(pipeline, data)
    scored = pipeline.transform(data)
    scored = scored.select(
        F.col(quoted(model.getLabelCol())).cast("double").alias("label"),
        F.col(quoted(model.getPredictionCol())).alias("prediction"),
        F.col(quoted(model.getRawPredictionCol())).alias("rawPrediction"),
    ).persist(StorageLevel.DISK_ONLY)
    try:
        for metric in ("weightedPrecision", "weightedRecall", "f1"):
            result[metric] = _evaluate(scored, metric)
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


def _evaluate(scored: DataFrame, metric: str) -> float:
    evaluator = MulticlassClassificationEvaluator(metricName=metric)
    return evaluator.evaluate(scored)
