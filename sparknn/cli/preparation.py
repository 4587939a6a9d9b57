"""The preprocessing that is saved with a model: label words to numbers, columns to one vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyspark.ml import Pipeline, PipelineModel, Transformer
from pyspark.ml.clustering import KMeansModel
from pyspark.ml.feature import IndexToString, StringIndexerModel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType

from sparknn.cli.checking import Rules, Table, is_word
from sparknn.cli.encoding import Recipe, feature_stages, require_fillable, unused
from sparknn.cli.saved_columns import InputColumns, columns_of
from sparknn.errors import InvalidDataError
from sparknn.feature import RBMModel
from sparknn.persistence import IncompleteError
from sparknn.regression import (
    MultilayerPerceptronRegressionModel,
    MultilayerPerceptronRegressor,
)
from sparknn.rows import LARGEST, MOST_CLASSES
from sparknn.saved import unquoted
from sparknn.schema import column_type, quoted, stage_name

__all__ = [
    "is_regression",
    "knows_no_label",
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
    "stages_without_fit",
    "with_classes",
    "without_labels",
]

PREDICTED = "predictedLabel"


def label_indexer(data: DataFrame, label: str, classes: int = 0) -> StringIndexerModel | None:
    """Return the stage that numbers labels, or None where they are numbers of classes already.

    Words are taken in alphabetical order. Whole numbers in numeric order, unless they are 0, 1, 2
    and so on without a gap, or no more than the `classes` that are known. Fractions are left to
    be found invalid.
    """
    cell = F.col(quoted(label))
    if is_word(data, label):
        found = data.filter(cell.isNotNull()).select(cell).distinct().collect()
        labels = sorted(row[0] for row in found)
    else:
        number = cell.cast("double")
        whole = (number == F.floor(number)) & (F.abs(number) <= LARGEST)
        lowest, highest, count, odd = data.filter(number.isNotNull()).agg(
            F.min(number), F.max(number), F.count_distinct(number), F.count_if(~whole)
        ).first() or (0, 0, 0, 0)
        regular = count and lowest >= 0 and highest < max(count, classes)
        if regular or odd or not count or count > MOST_CLASSES:
            return None
        texts = data.select(cell.cast("string").alias("text"), number.alias("number"))
        found = texts.dropna().distinct().orderBy("number").collect()
        labels = [row["text"] for row in found]
    output = unused(data.columns, f"{label}_index")
    return StringIndexerModel.from_labels(
        labels, inputCol=stage_name(label), outputCol=output, handleInvalid="error"
    )


def number_of_classes(data: DataFrame, label: str, indexer: StringIndexerModel | None) -> int:
    """Return how many classes the labels of valid rows are."""
    if indexer is not None:
        return len(indexer.labels)
    (highest,) = data.agg(F.max(F.col(quoted(label)).cast("double"))).first() or (0,)
    return int(highest or 0) + 1


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
    data: DataFrame,
    rules: Rules,
    scale: str,
    indexer: StringIndexerModel | None,
    recipe: Recipe,
    words: Mapping[str, Sequence[str]],
) -> tuple[list[Transformer], str]:
    """Fit the preprocessing on valid rows.

    scale: "standard", "minmax" or "none". words: of each category, in all rows that train, so
    that the folds of a search all have the same features.

    Returns the fitted stages and the name of the features column that they make.
    """
    known = InputColumns(rules.table, rules.width, rules.classes is not None, recipe.fills)
    stages: list[Any] = [known]
    taken = [*data.columns]
    if indexer is not None:
        stages.append(indexer)
        taken.append(indexer.getOutputCol())
    vector = rules.table.vector(data)
    if recipe.fills and rules.table.features and not vector:
        require_fillable(data, rules.table.features)
    made, features = feature_stages(rules.table, vector, scale, recipe, taken, words)
    return Pipeline(stages=[*stages, *made]).fit(data).stages, features


def stages_without_fit(rules: Rules) -> tuple[list[Transformer], str]:
    """Return what `fit_stages` does for single numbers and nothing else, which need no fitting."""
    known = InputColumns(rules.table, rules.width, rules.classes is not None)
    made, features = feature_stages(rules.table, False, "none", Recipe(), rules.table.names, {})
    return [known, *made], features


def label_names(indexer: StringIndexerModel | None, model: Transformer) -> list[Transformer]:
    """Return the stage that turns predictions back into words, where labels were words."""
    if indexer is None:
        return []
    words = list(indexer.labels)
    return [IndexToString(inputCol=model.getPredictionCol(), outputCol=PREDICTED, labels=words)]


def model_of(pipeline: PipelineModel):
    """Return the stage of a saved pipeline that all others are for."""
    for stage in pipeline.stages:
        if has_classes(stage) or is_regression(stage) or knows_no_label(stage):
            return stage
    raise IncompleteError("the pipeline has no model: a training job's --output has one")


def is_regression(stage: Any) -> bool:
    """Return whether an estimator or its model predicts numbers, and no classes."""
    return isinstance(stage, (MultilayerPerceptronRegressor, MultilayerPerceptronRegressionModel))


def has_classes(stage: Any) -> bool:
    """Return whether a model predicts classes."""
    return hasattr(stage, "numClasses")


def knows_no_label(stage: Any) -> bool:
    """Return whether a model has nothing to compare with a label: clusters, or hidden units."""
    return isinstance(stage, (KMeansModel, RBMModel))


def rules_of(pipeline: PipelineModel, labelled: bool) -> Rules:
    """Return what rows must be for a saved pipeline to work on them."""
    model, known = model_of(pipeline), columns_of(pipeline)
    table = known.table(labelled)
    indexer = _label_stage(pipeline)
    words = tuple(indexer.labels) if indexer is not None and labelled else None
    classes = model.numClasses if has_classes(model) else None
    found = known.found
    seen = _categories(pipeline)
    return Rules(table, found["width"], classes, words, filled=found["filled"], seen=seen)


def _label_stage(pipeline: PipelineModel) -> StringIndexerModel | None:
    """Return the stage that numbers labels, if any; those of categories have several inputs."""
    for stage in pipeline.stages:
        if isinstance(stage, StringIndexerModel) and stage.isSet("inputCol"):
            return stage
    return None


def _categories(pipeline: PipelineModel) -> dict[str, list[str]]:
    """Return the words that each category may hold; none where others are welcome, too."""
    for stage in pipeline.stages:
        if isinstance(stage, StringIndexerModel) and stage.isSet("inputCols"):
            if stage.getHandleInvalid() == "keep":
                return {}
            names = map(unquoted, stage.getInputCols())
            return dict(zip(names, map(list, stage.labelsArray), strict=True))
    return {}


def without_labels(pipeline: PipelineModel) -> PipelineModel:
    """Return a pipeline that predicts rows whatever their labels are."""
    indexer = _label_stage(pipeline)
    return PipelineModel([stage for stage in pipeline.stages if stage is not indexer])


def prediction_columns(model: Any) -> list[str]:
    """Return the columns that a model, or a pipeline that ends in one, may add."""
    if isinstance(model, RBMModel):
        return [model.getOutputCol()]
    if is_regression(model) or knows_no_label(model):
        return [model.getPredictionCol()]
    columns = [model.getPredictionCol(), model.getProbabilityCol(), model.getRawPredictionCol()]
    return [*columns, PREDICTED]


def made_on_the_way(pipeline: PipelineModel) -> list[str]:
    """Return the columns that a pipeline adds for its own later stages."""
    stages = [stage for stage in pipeline.stages if not isinstance(stage, RBMModel)]
    added = [name for stage in stages for name in _outputs(stage)]
    return [name for name in added if name != PREDICTED]


def _outputs(stage: Any) -> list[str]:
    """Return the columns that a stage adds."""
    if stage.hasParam("outputCols") and stage.isSet("outputCols"):
        return list(stage.getOrDefault("outputCols"))
    return [stage.getOrDefault("outputCol")] if stage.hasParam("outputCol") else []


def require_unused(columns: Iterable[str], added: Iterable[str]) -> None:
    """Raise InvalidDataError where a pipeline would add a column that is there already."""
    new = {name.lower() for name in added}
    for name in columns:
        # Spark takes names for one that differ in case alone.
        if name.lower() in new:
            raise InvalidDataError(
                f"column {name!r} is one that the model adds: rename it, or drop it"
            )


def require_scalable(data: DataFrame, table: Table) -> None:
    """Raise InvalidDataError where a scaler cannot take the features."""
    if not table.features:
        return
    name = table.features[0]
    if isinstance(column_type(data, name), ArrayType):
        raise InvalidDataError(
            f"column {name!r} is an array, and --scale takes a vector or numeric columns: store a "
            "vector, or scale beforehand"
        )
