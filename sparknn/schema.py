"""The columns of a DataFrame, named by its user: found, checked, selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BooleanType, DataType, NumericType

from sparknn.errors import InvalidDataError
from sparknn.rows import LOOKED_AT, better_sparse
from sparknn.saved import unquoted

__all__ = [
    "FeatureShape",
    "column_type",
    "declared_classes",
    "feature_columns",
    "feature_names",
    "feature_shape",
    "is_numeric",
    "numeric_column",
    "quoted",
    "stage_name",
]

MOST_NAMES = 10_000
"""Features up to which their own names stand in messages."""


def quoted(name: str) -> str:
    """Return a column's name so that Spark takes dots and backticks in it literally."""
    return "`" + name.replace("`", "``") + "`"


def stage_name(name: str) -> str:
    """Return a column's name as MLlib's stages are to have it: they take dots for nested fields."""
    return quoted(name) if "." in name or "`" in name else name


def column_type(data: DataFrame, name: str) -> DataType:
    """Return a column's type; raise InvalidDataError with the known names if there is none."""
    schema = data.schema
    # Asked for every column of a table, so that a loop here would take long for a wide one.
    if name in schema.names:
        return schema.fields[schema.names.index(name)].dataType
    raise InvalidDataError(f"no column {name!r}; there are {', '.join(data.columns)}")


def feature_columns(data: DataFrame, features: str | Sequence[str]) -> tuple[list[Column], int]:
    """Return the columns to select for the features, and how many single ones they are (or 0).

    features: the name of a vector or array column, or a list of numeric columns.
    """
    if not isinstance(features, str):
        return [numeric_column(data, name) for name in features], len(features)
    kind = column_type(data, features)
    column = F.col(quoted(features))
    if isinstance(kind, VectorUDT):
        return [F.unwrap_udt(column).alias("features")], 0
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType):
        return [column.cast("array<double>").alias("features")], 0
    raise InvalidDataError(
        f"column {features!r} is {kind.simpleString()}; features are a vector, an array of "
        "numbers, or a list of numeric columns (see VectorAssembler)"
    )


class FeatureShape(NamedTuple):
    """What is known of a data set's features before any row is packed.

    width: how many they are, None where there is no row. standard: what says so, with a verb.
    sparse: whether rows are better kept as what they store. row_bytes: of a sparse layout's mean
    row on its way from the JVM.
    """

    width: int | None
    standard: str
    sparse: bool = False
    row_bytes: int = 0


def feature_shape(data: DataFrame, features: str) -> FeatureShape:
    """Return the width of the features, and for a column of vectors whether to keep it sparse.

    A vector column's metadata is believed, and else the first row that is not null decides, as in
    MLlib: on the driver, so that all partitions go by the same one. Sparse is what the first rows
    are.
    """
    (column,), _ = feature_columns(data, features)
    filled = data.filter(F.col(quoted(features)).isNotNull())
    if not isinstance(column_type(data, features), VectorUDT):
        first = filled.select(F.size(column).alias("width")).first()
        return FeatureShape(None if first is None else int(first["width"]), "the first row is")
    values = column["values"]
    dense = column["size"].isNull()
    stored = F.when(dense, F.size(F.filter(values, lambda x: x != 0))).otherwise(F.size(values))
    looks = filled.select(
        F.coalesce(column["size"], F.size(values)).alias("width"),
        stored.alias("stored"),
        (F.size(values) * F.when(dense, 8).otherwise(12)).alias("bytes"),
    )
    seen = looks.limit(LOOKED_AT).collect()
    declared = data.schema[features].metadata.get("ml_attr", {}).get("num_attrs")
    standard = "the first row is" if declared is None else "the column's metadata says"
    if declared is None and not seen:
        return FeatureShape(None, standard)
    width = int(seen[0]["width"] if declared is None else declared)
    mean_stored = sum(row["stored"] for row in seen) / max(len(seen), 1)
    mean_bytes = sum(row["bytes"] for row in seen) // max(len(seen), 1)
    return FeatureShape(width, standard, better_sparse(width, mean_stored), max(mean_bytes, 1))


def numeric_column(data: DataFrame, name: str) -> Column:
    """Return a numeric column as double; raise InvalidDataError for any other type."""
    if not is_numeric(data, name):
        raise InvalidDataError(
            f"column {name!r} is {column_type(data, name).simpleString()}, and a number is needed "
            "(for labels that are words see StringIndexer)"
        )
    return F.col(quoted(name)).cast("double")


def is_numeric(data: DataFrame, name: str) -> bool:
    """Return whether a column holds numbers, or true and false."""
    return isinstance(column_type(data, name), (NumericType, BooleanType))


def feature_names(data: DataFrame, features: str) -> tuple[str, ...]:
    """Return the names of a vector's elements, as VectorAssembler leaves them; () if unknown."""
    attributes = data.schema[features].metadata.get("ml_attr", {})
    if attributes.get("num_attrs", 0) > MOST_NAMES:
        return ()
    named = [each for group in attributes.get("attrs", {}).values() for each in group]
    names = {each["idx"]: unquoted(each["name"]) for each in named if "name" in each}
    if sorted(names) != list(range(attributes.get("num_attrs", -1))):
        return ()
    return tuple(names[index] for index in range(len(names)))


def declared_classes(data: DataFrame, label: str) -> int | None:
    """Return the number of classes in a nominal column's metadata, as StringIndexer leaves it."""
    attribute = data.schema[label].metadata.get("ml_attr", {})
    if attribute.get("type") == "binary":
        return 2
    if attribute.get("type") != "nominal":
        return None
    return len(attribute["vals"]) if "vals" in attribute else attribute.get("num_vals")
