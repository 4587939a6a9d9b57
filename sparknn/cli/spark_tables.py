"""Formats that Spark reads by itself, with what is wrong in a row beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DecimalType,
    IntegralType,
    NumericType,
    StringType,
    StructType,
)

from sparknn.cli.column_kinds import (
    EXACT,
    INTEGER,
    NUMBER,
    NUMBERS,
    WORD,
    Column,
    Tally,
    decide,
)
from sparknn.cli.text_batches import FAULT, FAULT_TYPE
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError
from sparknn.schema import column_type, quoted

__all__ = ["json_table", "libsvm_table", "schema_kinds", "with_kinds"]

TORN = "_sparknn_torn"
"""The column in which Spark leaves the text of a line that it could not take apart."""

VALUE = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# Possessive: Java takes thousands of repeats in a loop, and not by recursion.
LIST = rf"^\s*+{VALUE}(?:\s++{VALUE})++\s*+$"
LIBSVM = rf"^{VALUE}(?:\s++[1-9]\d*+:{VALUE})*+$"


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
    lists: Sequence[str],
    words: Sequence[str],
    nulls: Sequence[str],
    known: Sequence[Column] | None,
) -> tuple[DataFrame, list[Column]]:
    """Return a frame whose columns of text are of their kinds, and what all columns are.

    Columns of text go by the rule of CSV: what 99 % of the filled cells are, and a row with
    another value there is bad. given, lists, words: as of `decide`. known: what columns were in
    the training input.
    """
    missing = [name for name in (*given, *lists) if name not in frame.columns]
    if missing:
        names = [name for name in frame.columns if name != FAULT]
        raise InvalidDataError(f"no column {missing[0]!r}; there are {', '.join(names)}")
    before = {column.name: column for column in known or ()}
    frame = _as_known(frame, before)
    forced = {*lists, *(name for name, kind in given.items() if kind == NUMBERS)}
    _require_lists(frame, forced)
    text = [
        each.name
        for each in frame.schema.fields
        if isinstance(each.dataType, StringType) and each.name != FAULT
    ]
    cells = {name: _filled(name, nulls) for name in text}
    asked = [name for name in text if name not in words or name in forced]
    tallies = dict(zip(asked, _tallies(frame, [cells[name] for name in asked]), strict=True))
    counts = [tallies.get(name, Tally()) for name in text]
    columns = {
        column.name: before.get(column.name, column)
        for column in decide(text, counts, given, words, lists)
    }
    return _cast(frame, path, cells, columns), _kinds(frame, columns)


def _as_known(frame: DataFrame, before: Mapping[str, Column]) -> DataFrame:
    """Make numbers whole, or not, as they were in training: the words of labels are their text."""
    casts = {}
    for each in frame.schema.fields:
        if each.name not in before or not isinstance(each.dataType, NumericType):
            continue
        cell, whole = F.col(quoted(each.name)), _is_whole(each.dataType)
        kind = before[each.name].kind
        if kind == NUMBER and whole:
            casts[each.name] = cell.cast("double")
        elif kind == INTEGER and not whole:
            number = cell.cast("double")
            exact = frame.filter(number.isNotNull() & ~_whole(number)).isEmpty()
            # A row with a fraction is bad, as it is where numbers come as text.
            casts[each.name] = cell.cast("bigint" if exact else "string")
    return frame.withColumns(casts) if casts else frame


def _is_whole(kind: DataType) -> bool:
    """Return whether a type holds whole numbers alone."""
    return isinstance(kind, IntegralType) or (isinstance(kind, DecimalType) and not kind.scale)


def _whole(number: SparkColumn) -> SparkColumn:
    return (F.floor(number) == number) & (F.abs(number) <= EXACT)


def _require_lists(frame: DataFrame, names: Iterable[str]) -> None:
    """Raise InvalidDataError for a column said to hold many numbers whose type holds none."""
    for name in sorted(names):
        kind = column_type(frame, name)
        if not isinstance(kind, (StringType, VectorUDT, ArrayType)):
            raise InvalidDataError(
                f"column {name!r} is {kind.simpleString()}, and is to hold many numbers by "
                "--numbers-column or --schema: leave it out there"
            )


def _filled(name: str, nulls: Sequence[str]) -> SparkColumn:
    cell = F.col(quoted(name))
    return F.when(~cell.isin(["", *nulls]), cell)


def _number(cell: SparkColumn) -> SparkColumn:
    return F.trim(cell).rlike(rf"^{VALUE}$")


def _parts(cell: SparkColumn) -> SparkColumn:
    return F.regexp_extract_all(cell, F.lit(r"(\S+)"), F.lit(1))


def _tallies(frame: DataFrame, cells: Sequence[SparkColumn]) -> list[Tally]:
    """Return what the cells of each column are; of widths, the one that most cells have."""
    if not cells:
        return []
    wanted = []
    for cell in cells:
        number = F.when(_number(cell), F.trim(cell).try_cast("double"))
        width = F.when(cell.rlike(LIST), F.size(_parts(cell)))
        counted = F.count(cell), F.count(number), F.count_if(_whole(number)), F.count(width)
        wanted += [*counted, F.mode(width, deterministic=True)]
    found = iter(frame.agg(*wanted).first() or ())
    return [
        Tally(filled, numbers, whole, lists, Counter({width: lists} if lists else {}))
        for filled, numbers, whole, lists, width in zip(*[found] * 5, strict=True)
    ]


def _cast(
    frame: DataFrame,
    path: str,
    cells: Mapping[str, SparkColumn],
    columns: Mapping[str, Column],
) -> DataFrame:
    """Make columns of text what they are; note the rows in which a cell is something else."""
    reason = F.lit(None).cast("string")
    values = []
    for name in frame.columns:
        if name == FAULT:
            continue
        cell = cells.get(name, F.col(quoted(name)))
        if name in columns and columns[name].kind != WORD:
            cell, odd = _converted(cell, columns[name])
            reason = F.coalesce(reason, odd)
        values.append(cell.alias(name))
    plain = all(column.kind == WORD for column in columns.values())
    if plain and FAULT not in frame.columns:
        return frame.select(*values)
    row = F.to_json(F.struct(*[F.col(quoted(name)) for name in cells]))
    fault = _fault(reason.isNotNull(), reason, row, F.lit(path))
    if FAULT in frame.columns:
        fault = F.coalesce(F.col(FAULT), fault)
    return frame.select(*values, fault.alias(FAULT))


def _converted(cell: SparkColumn, column: Column) -> tuple[SparkColumn, SparkColumn]:
    """Return a cell of text as its column's kind, and what is wrong with it, null for nothing."""
    told = F.lit(f"column {column.name!r}: ")
    if column.kind == NUMBERS:
        parts = _parts(cell)
        good = cell.rlike(LIST) & (F.size(parts) == column.width)
        text = F.lit(f"not {column.width} numbers (")
        told = F.concat(told, text, F.size(parts).cast("string"), F.lit(" values)"))
        values = F.when(good, parts.try_cast("array<double>"))
        vector = F.when(values.isNotNull(), array_to_vector(values))
        return vector, F.when(cell.isNotNull() & ~good, told)
    number = F.trim(cell).try_cast("double")
    shown = F.concat(told, F.lit("'"), cell, F.lit("' is no "))
    odd = F.when(~_number(cell), F.concat(shown, F.lit("number")))
    if column.kind == INTEGER:
        odd = odd.when(~_whole(number), F.concat(shown, F.lit("whole number")))
        number = number.try_cast("bigint")
    return number, odd


def _kinds(frame: DataFrame, decided: Mapping[str, Column]) -> list[Column]:
    """Return what the columns of a typed frame are; only text and numbers need saying."""
    columns = []
    for each in frame.schema.fields:
        if each.name in decided:
            columns.append(decided[each.name])
        elif isinstance(each.dataType, NumericType):
            columns.append(Column(each.name, INTEGER if _is_whole(each.dataType) else NUMBER))
    return columns
