"""Formats that Spark reads by itself, with what is wrong in a row beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, NumericType, StringType, StructType

from sparknn.cli.column_kinds import INTEGER, NUMBER, NUMBERS, SHARE, WORD, Column
from sparknn.cli.text_batches import FAULT, FAULT_TYPE
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError
from sparknn.schema import quoted

__all__ = ["json_table", "libsvm_table", "schema_kinds", "with_kinds"]

TORN = "_sparknn_torn"
"""The column in which Spark leaves the text of a line that it could not take apart."""

VALUE = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
LIBSVM = rf"^{VALUE}(?:\s+[1-9]\d*:{VALUE})*$"


def json_table(session: SparkSession, files: Sequence[str]) -> DataFrame:
    """Return the objects of JSON lines, a column a name, with FAULT."""
    paths = list(files)
    schema = session.read.option("columnNameOfCorruptRecord", TORN).json(paths).schema
    names = [name for name in schema.names if name != TORN]
    if not names:
        raise InvalidDataError("no line is a JSON object")
    schema = StructType([*(schema[name] for name in names), *StructType().add(TORN, "string")])
    frame = session.read.option("columnNameOfCorruptRecord", TORN).schema(schema).json(paths)
    fault = _fault(F.col(TORN).isNotNull(), F.lit("no JSON object"), F.col(TORN))
    columns = [F.col(quoted(name)) for name in names]
    return frame.select(*columns, fault.alias(FAULT))


def libsvm_table(session: SparkSession, files: Sequence[str], width: int | None) -> DataFrame:
    """Return LIBSVM's rows as `label` and the vector column `features`, with FAULT if any is bad.

    width: of the vectors; by default the largest index.
    """
    line = F.trim("value")
    lines = session.read.text(list(files)).select(
        line.alias("line"), F.col("_metadata.file_path").alias("path")
    )
    rows = lines.filter((F.col("line") != "") & ~F.col("line").startswith("#"))
    found = F.regexp_extract_all("line", F.lit(r"\s(\d+):"), F.lit(1)).cast("array<int>")
    ordered = found == F.array_sort(F.array_distinct(found))
    good = F.coalesce(F.col("line").rlike(LIBSVM) & ordered, F.lit(False))
    if width:
        good = good & (F.coalesce(F.array_max(found), F.lit(0)) <= width)
    if rows.filter(~good).isEmpty():
        reader = session.read.format("libsvm")
        return (reader.option("numFeatures", width) if width else reader).load(list(files))
    if not width:
        width = rows.filter(good).agg(F.max(F.array_max(found))).first()[0] or 0
    Cluster(session).prepare()
    made = F.udf(_Row(width), StructType().add("label", "double").add("features", VectorUDT()))
    reason = F.lit("no line of LIBSVM: label index:value ..., indices from 1 and rising")
    fault = _fault(~good, reason, F.col("line"), F.col("path"))
    row = made(F.when(good, F.col("line"))).alias("row")
    return rows.select(row, fault.alias(FAULT)).select("row.label", "row.features", FAULT)


class _Row:
    """Takes a line of LIBSVM apart; vectors are `width` wide."""

    def __init__(self, width: int):
        self.width = width

    def __call__(self, line: str | None):
        if line is None:
            return None, None
        label, *cells = line.split()
        pairs = [cell.split(":") for cell in cells]
        indices = [int(index) - 1 for index, _ in pairs]
        return float(label), Vectors.sparse(self.width, indices, [float(x) for _, x in pairs])


def _fault(
    bad: SparkColumn, reason: SparkColumn, text: SparkColumn, path: SparkColumn | None = None
) -> SparkColumn:
    """Return FAULT for a row: null unless `bad`."""
    told = {
        "what": F.lit("bad"),
        "file": F.col("_metadata.file_path") if path is None else path,
        "line": F.lit(None),
        "reason": reason,
        "text": text,
        "count": F.lit(1),
    }
    cells = [told[each.name].cast(each.dataType).alias(each.name) for each in FAULT_TYPE.fields]
    return F.when(bad, F.struct(*cells))


def schema_kinds(schema: str | None) -> dict[str, str]:
    """Return the kinds of the columns that `--schema` names, in its order.

    Raises InvalidDataError for what is no list of columns and types, or an odd type.
    """
    if not schema:
        return {}
    try:
        found = StructType.fromDDL(schema)
    except Exception as error:
        # Spark's parser has several errors, all of them about this text.
        reason = str(error).strip().splitlines()[0]
        raise InvalidDataError(
            f"--schema {schema!r} is not of the form 'age DOUBLE, city STRING': {reason}"
        ) from None
    kinds = {}
    for each in found.fields:
        if isinstance(each.dataType, NumericType):
            whole = each.dataType.typeName() in ("byte", "short", "integer", "long")
            kinds[each.name] = INTEGER if whole else NUMBER
        elif isinstance(each.dataType, StringType):
            kinds[each.name] = WORD
        elif isinstance(each.dataType, ArrayType):
            kinds[each.name] = NUMBERS
        else:
            raise InvalidDataError(
                f"--schema: column {each.name!r} is {each.dataType.simpleString()}; there are "
                "numbers (DOUBLE, INT), words (STRING) and many numbers in a cell (ARRAY<DOUBLE>)"
            )
    return kinds


def with_kinds(
    frame: DataFrame,
    path: str,
    given: Mapping[str, str],
    words: Sequence[str],
    nulls: Sequence[str],
    known: Sequence[Column] | None,
) -> tuple[DataFrame, list[Column]]:
    """Return a frame whose columns of text are of their kinds, and what all columns are.

    A column of text in which 99 % of the filled cells are numbers is one of numbers, and a row
    with another value there is bad: the rule of CSV.
    """
    missing = [name for name in given if name not in frame.columns]
    if missing:
        raise InvalidDataError(f"no column {missing[0]!r}; there are {', '.join(frame.columns)}")
    before = {column.name: column.kind for column in known or ()}
    text = [
        each.name
        for each in frame.schema.fields
        if isinstance(each.dataType, StringType) and each.name != FAULT
    ]
    cells = {name: _filled(name, nulls) for name in text}
    asked = [name for name in text if name not in words]
    counts = _numbers_in(frame, [cells[name] for name in asked])
    numeric = []
    for name, (filled, numbers) in zip(asked, counts, strict=True):
        kind = before.get(name) or given.get(name)
        if kind is None:
            kind = NUMBER if filled and numbers >= SHARE * filled else WORD
        if kind in (NUMBER, INTEGER):
            numeric.append(name)
    return _cast(frame, path, cells, numeric), _kinds(frame, numeric)


def _filled(name: str, nulls: Sequence[str]) -> SparkColumn:
    cell = F.col(quoted(name))
    return F.when(~cell.isin(["", *nulls]), cell)


def _number(cell: SparkColumn) -> SparkColumn:
    return F.trim(cell).rlike(rf"^{VALUE}$")


def _numbers_in(frame: DataFrame, cells: Sequence[SparkColumn]) -> list[tuple[int, int]]:
    """Return how many cells are filled, and how many are numbers, of each column."""
    if not cells:
        return []
    wanted = [each for cell in cells for each in (F.count(cell), F.count_if(_number(cell)))]
    found = tuple(frame.agg(*wanted).first() or ())
    return list(zip(found[::2], found[1::2], strict=True))


def _cast(
    frame: DataFrame, path: str, cells: Mapping[str, SparkColumn], numeric: Sequence[str]
) -> DataFrame:
    """Make numbers of columns of text; note the rows in which a cell is none."""
    reason = F.lit(None).cast("string")
    for name in numeric:
        odd = F.coalesce(~_number(cells[name]), F.lit(False))
        told = F.concat(F.lit(f"column {name!r}: '"), cells[name], F.lit("' is no number"))
        reason = F.coalesce(reason, F.when(odd, told))
    columns = []
    for name in frame.columns:
        cell = cells.get(name, F.col(quoted(name)))
        columns.append((F.trim(cell).try_cast("double") if name in numeric else cell).alias(name))
    columns = [column for column, name in zip(columns, frame.columns) if name != FAULT]
    if not numeric and FAULT not in frame.columns:
        return frame.select(*columns)
    row = F.to_json(F.struct(*[F.col(quoted(name)) for name in cells]))
    fault = _fault(reason.isNotNull(), reason, row, F.lit(path))
    if FAULT in frame.columns:
        fault = F.coalesce(F.col(FAULT), fault)
    return frame.select(*columns, fault.alias(FAULT))


def _kinds(frame: DataFrame, numeric: Sequence[str]) -> list[Column]:
    """Return what the columns of a typed frame are; only text and numbers need saying."""
    columns = []
    for each in frame.schema.fields:
        if each.name in numeric or isinstance(each.dataType, NumericType):
            columns.append(Column(each.name, NUMBER))
        elif isinstance(each.dataType, StringType) and each.name != FAULT:
            columns.append(Column(each.name, WORD))
    return columns
