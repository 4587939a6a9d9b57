"""The preprocessing that is saved with a model: label words to numbers, columns to one vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyspark.ml import Estimator, Pipeline, PipelineModel, Transformer
from pyspark.ml.clustering import KMeansModel
from pyspark.ml.feature import (
    IndexToString,
    MinMaxScaler,
    StandardScaler,
    StringIndexer,
    StringIndexerModel,
    VectorAssembler,
)
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType

from sparknn.cli.checking import Rules, Table, is_word
from sparknn.errors import InvalidDataError
from sparknn.persistence import IncompleteError
from sparknn.regression import (
    MultilayerPerceptronRegressionModel,
    MultilayerPerceptronRegressor,
)
from sparknn.schema import column_type, quoted

__all__ = [
    "is_clustering",
    "is_regression",
    "model_of",
    "fit_stages",
    "label_indexer",
    "label_names",
    "number_of_classes",
    "made_on_the_way",
    "prediction_columns",
    "require_scalable",
    "require_unused",
    "rules_of",
    "with_classes",
    "without_labels",
]

PREDICTED = "predictedLabel"


def label_indexer(data: DataFrame, label: str) -> StringIndexerModel | None:
    """Return the stage that numbers labels that are words, in alphabetical order, or None."""
    if not is_word(data, label):
        return None
    indexer = StringIndexer(
        inputCol=label, outputCol=_unused([*data.columns], f"{label}_index"), handleInvalid="error"
    )
    return indexer.setStringOrderType("alphabetAsc").fit(data)


def number_of_classes(data: DataFrame, label: str, indexer: StringIndexerModel | None) -> int:
    """Return how many classes the labels of valid rows are."""
    if indexer is not None:
        return len(indexer.labels)
    (highest,) = data.agg(F.max(F.col(quoted(label)).cast("double"))).first() or (0,)
    return int(highest) + 1


def with_classes(data: DataFrame, label: str, classes: int) -> DataFrame:
    """Return rows whose numeric label column declares its classes, as StringIndexer's does.

    A class that happens to have no row among those that train is one of the model's then, too.
    """
    nominal = {"ml_attr": {"type": "nominal", "num_vals": classes}}
    columns = [F.col(quoted(name)) for name in data.columns]
    place = data.columns.index(label)
    columns[place] = columns[place].alias(label, metadata=nominal)
    return data.select(*columns)


def fit_stages(
    data: DataFrame, table: Table, scale: str, indexer: StringIndexerModel | None
) -> tuple[list[Transformer], str]:
    """Fit the preprocessing on valid rows.

    scale: "standard", "minmax" or "none".

    Returns the fitted stages and the name of the features column that they make.
    """
    stages: list[Any] = [indexer] if indexer is not None else []
    taken = [*data.columns, *(stage.getOutputCol() for stage in stages)]
    features = table.features[0]
    if not table.vector(data):
        features = _unused(taken, "features")
        stages.append(VectorAssembler(inputCols=list(table.features), outputCol=features))
    if scale != "none":
        scaled = _unused(taken, "scaled_features")
        stages.append(_scaler(scale, features, scaled))
        features = scaled
    return Pipeline(stages=stages).fit(data).stages, features


def label_names(indexer: StringIndexerModel | None, model: Transformer) -> list[Transformer]:
    """Return the stage that turns predictions back into words, where labels were words."""
    if indexer is None:
        return []
    words = list(indexer.labels)
    return [IndexToString(inputCol=model.getPredictionCol(), outputCol=PREDICTED, labels=words)]


def model_of(pipeline: PipelineModel):
    """Return the stage of a saved pipeline that predicts."""
    for stage in pipeline.stages:
        if hasattr(stage, "numClasses") or is_regression(stage) or is_clustering(stage):
            return stage
    raise IncompleteError("the pipeline has no model: a training job's --output has one")


def is_regression(stage: Any) -> bool:
    """Return whether an estimator or its model predicts numbers, and no classes."""
    return isinstance(stage, (MultilayerPerceptronRegressor, MultilayerPerceptronRegressionModel))


def is_clustering(stage: Any) -> bool:
    """Return whether a model tells clusters, and knows of no label."""
    return isinstance(stage, KMeansModel)


def rules_of(pipeline: PipelineModel, labelled: bool) -> Rules:
    """Return what rows must be for a saved pipeline to work on them."""
    model = model_of(pipeline)
    words, label = None, None if is_clustering(model) else model.getLabelCol()
    made, needed, assembled = set(), [], False
    for stage in pipeline.stages[: pipeline.stages.index(model)]:
        if isinstance(stage, StringIndexerModel):
            label, words = stage.getInputCol(), tuple(stage.labels)
            continue
        needed += _columns(stage, "input")
        made.update(_columns(stage, "output"))
        assembled = assembled or isinstance(stage, VectorAssembler)
    features = tuple(dict.fromkeys(name for name in needed if name not in made))
    table = Table(features or (model.getFeaturesCol(),), label if labelled else None)
    if is_clustering(model):
        return Rules(table, len(features) if assembled else len(model.clusterCenters()[0]), None)
    classes = None if is_regression(model) else model.numClasses
    width = len(features) if assembled else model.numFeatures
    return Rules(table, width, classes, words if labelled else None)


def _columns(stage: Any, side: str) -> list[str]:
    """Return the columns that a stage reads ("input") or adds ("output")."""
    several, one = f"{side}Cols", f"{side}Col"
    if stage.hasParam(several) and stage.isSet(several):
        return list(stage.getOrDefault(several))
    return [stage.getOrDefault(one)] if stage.hasParam(one) else []


def without_labels(pipeline: PipelineModel) -> PipelineModel:
    """Return a pipeline that predicts rows whatever their labels are."""
    return PipelineModel(
        [stage for stage in pipeline.stages if not isinstance(stage, StringIndexerModel)]
    )


def prediction_columns(model: Any) -> list[str]:
    """Return the columns that a model, or a pipeline that ends in one, may add."""
    if is_regression(model) or is_clustering(model):
        return [model.getPredictionCol()]
    columns = [model.getPredictionCol(), model.getProbabilityCol(), model.getRawPredictionCol()]
    return [*columns, PREDICTED]


def made_on_the_way(pipeline: PipelineModel) -> list[str]:
    """Return the columns that a pipeline adds for its own later stages."""
    added = [name for stage in pipeline.stages for name in _columns(stage, "output")]
    return [name for name in added if name != PREDICTED]


def require_unused(columns: Iterable[str], added: Iterable[str]) -> None:
    """Raise InvalidDataError where a pipeline would add a column that is there already."""
    for name in sorted(set(added) & set(columns)):
        raise InvalidDataError(f"column {name!r} is one that the model adds: rename it, or drop it")


def require_scalable(data: DataFrame, table: Table) -> None:
    """Raise InvalidDataError where a scaler cannot take the features."""
    name = table.features[0]
    if isinstance(column_type(data, name), ArrayType):
        raise InvalidDataError(
            f"column {name!r} is an array, and --scale takes a vector or numeric columns: store a "
            "vector, or scale beforehand"
        )


def _scaler(kind: str, features: str, scaled: str) -> Estimator:
    if kind == "standard":
        return StandardScaler(withMean=True, withStd=True, inputCol=features, outputCol=scaled)
    return MinMaxScaler(inputCol=features, outputCol=scaled)


def _unused(taken: list[str], name: str) -> str:
    while name in taken:
        name += "_"
    return name
