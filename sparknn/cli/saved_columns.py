"""What the columns of the training input were, kept as the first stage of the saved pipeline."""

from __future__ import annotations

import json
from typing import Any

from pyspark.ml import PipelineModel, Transformer
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType

from sparknn.cli.checking import Table
from sparknn.cli.column_kinds import INTEGER, NUMBER, Column
from sparknn.persistence import IncompleteError
from sparknn.schema import column_type, is_numeric, quoted

__all__ = ["InputColumns", "columns_of"]


class InputColumns(Transformer, DefaultParamsReadable, DefaultParamsWritable):
    """Makes single numbers double, as they were in training, and keeps what columns are used.

    Parameters
    ----------
    table : Table, optional
        The columns that are trained on.
    width : int
        How many features these are, categories apart.
    whole : bool
        Whether labels are whole numbers, as those of classes are.
    filled : bool
        Whether the stages that follow fill gaps.
    """

    described = Param(Params._dummy(), "described", "the columns, as JSON", TypeConverters.toString)

    def __init__(
        self, table: Table | None = None, width: int = 0, whole: bool = True, filled: bool = False
    ):
        super().__init__()
        if table is None:
            return
        used = set(table.names)
        kinds = [_used(column, table, whole) for column in table.kinds if column.name in used]
        found = {
            "features": table.features,
            "categories": table.categories,
            "label": table.label,
            "kinds": kinds,
            "width": width,
            "filled": filled,
        }
        self._set(described=json.dumps(found))

    @property
    def found(self) -> dict[str, Any]:
        """What was kept: features, categories, label, kinds, width, filled."""
        return json.loads(self.getOrDefault(self.described))

    @property
    def kinds(self) -> list[Column]:
        """What the columns of text are."""
        return [Column(*each) for each in self.found["kinds"]]

    def table(self, labelled: bool) -> Table:
        """Return the columns to use; labelled: with the label."""
        found = self.found
        label = found["label"] if labelled else None
        categories = tuple(found["categories"])
        return Table(tuple(found["features"]), label, None, categories, tuple(self.kinds))

    def _transform(self, dataset: DataFrame) -> DataFrame:
        # All at once: every withColumn has Spark look at the whole plan again.
        numbers = {
            name: F.col(quoted(name)).cast("double")
            for name in self.found["features"]
            if is_numeric(dataset, name) and not isinstance(column_type(dataset, name), DoubleType)
        }
        return dataset.withColumns(numbers) if numbers else dataset


def _used(column: Column, table: Table, whole: bool) -> Column:
    """Return what a column is to be in other inputs: any number may be a feature of whole ones.

    Labels and categories are compared by their text, and so stay whole.
    """
    compared = [*table.categories, *([table.label] if whole else [])]
    if column.kind == INTEGER and column.name not in compared:
        return Column(column.name, NUMBER)
    return column


def columns_of(pipeline: PipelineModel) -> InputColumns:
    """Return the stage of a saved pipeline that knows its columns."""
    for stage in pipeline.stages:
        if isinstance(stage, InputColumns):
            return stage
    raise IncompleteError(
        "the pipeline does not say what its columns are: a training job's --output does"
    )
