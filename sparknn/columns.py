"""Predictions as columns: a vectorised function of the features column alone.

Other columns never leave the JVM, so they keep type, nullability and metadata, and streaming
DataFrames work. Nothing is computed until the columns are used.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import numpy as np
import pandas as pd
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

from sparknn.cluster import Cluster
from sparknn.prediction import Prediction
from sparknn.schema import column_type, feature_columns

__all__ = ["with_predictions"]


def with_predictions(
    dataset: DataFrame,
    features: str,
    width: int,
    predict: Callable[[np.ndarray], Prediction],
    names: Prediction,
    classes: int,
) -> DataFrame:
    """Return `dataset` with columns for raw predictions, probabilities and labels.

    Parameters
    ----------
    features : str
        A vector or array column.
    width : int
        The number of features that `predict` takes.
    predict : callable
        From (rows, width) float64 to a Prediction; it is sent to the executors.
    names : Prediction
        The names of the new columns; one that is "" is not computed.
    classes : int

    Raises
    ------
    ValueError
        If a column is there already.
    """
    wanted = {part: name for part, name in names._asdict().items() if name}
    for name in wanted.values():
        if name in dataset.columns:
            raise ValueError(f"the output column {name!r} exists already")
    if not wanted:
        return dataset
    Cluster(dataset.sparkSession).prepare()
    column = _vector_struct(dataset, features)
    held = f"prediction_{uuid.uuid4().hex}"
    computed = dataset.select(
        "*", _column_function(predict, width, list(wanted))(column).alias(held)
    )
    outputs = [_output(F.col(held)[part], part, name, classes) for part, name in wanted.items()]
    return computed.select("*", *outputs).drop(held)


def _output(column: Column, part: str, name: str, classes: int) -> Column:
    """Return one column as MLlib gives it, with the attributes that its own stages read."""
    if part == "label":
        return column.alias(name, metadata={"ml_attr": {"type": "nominal", "num_vals": classes}})
    # On the way from pandas NaN turned into null, which a vector cannot hold.
    numbers = F.transform(column, lambda x: F.coalesce(x, F.lit(float("nan"))))
    return array_to_vector(numbers).alias(name, metadata={"ml_attr": {"num_attrs": classes}})


def _column_function(predict: Callable[[np.ndarray], Prediction], width: int, parts: list[str]):
    """Return the column function that computes `parts` of a prediction as a struct."""
    vector = ArrayType(DoubleType())
    schema = StructType(
        [StructField(part, DoubleType() if part == "label" else vector) for part in parts]
    )

    def compute(column: pd.DataFrame) -> pd.DataFrame:
        prediction = predict(_matrix(column, width))._asdict()
        return pd.DataFrame(
            {
                part: prediction[part] if part == "label" else list(prediction[part])
                for part in parts
            }
        )

    return F.pandas_udf(compute, schema)


def _vector_struct(dataset: DataFrame, features: str) -> Column:
    """Return a vector or array column as the struct that Spark's vectors are made of."""
    (column,), _ = feature_columns(dataset, features)
    if isinstance(column_type(dataset, features), VectorUDT):
        return column
    return F.struct(
        F.lit(1).alias("type"),
        F.lit(None).cast("int").alias("size"),
        F.lit(None).cast("array<int>").alias("indices"),
        column.alias("values"),
    )


def _matrix(column: pd.DataFrame, width: int) -> np.ndarray:
    """Return vectors, as their structs' fields, as (rows, width) float64."""
    values = column["values"].to_numpy()
    dense = column["type"].to_numpy() != 0
    indices, sizes = column["indices"].to_numpy(), column["size"].to_numpy()
    matrix = np.zeros((len(values), width))
    for row, numbers in enumerate(values):
        size = None if numbers is None else len(numbers) if dense[row] else int(sizes[row])
        if size != width:
            found = "null" if size is None else f"{size} values wide"
            raise ValueError(f"a row's features are {found}; the model takes {width} values")
        if dense[row]:
            matrix[row] = numbers
        else:
            matrix[row, indices[row]] = numbers
    return matrix
