"""Training rows that are text of numbers and nothing else: read straight into blocks.

Whether an input is such is found out on the way. Where anything is not sure, the blocks are thrown
away, and the ordinary way has the word: it alone tells users what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce

import pyarrow as pa
from pyspark.ml import Estimator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DoubleType, StructField, StructType

from sparknn.cli.badlines import Counts
from sparknn.cli.checking import Rules, Table, chosen
from sparknn.cli.column_kinds import INTEGER, NUMBER, Column, is_number
from sparknn.cli.encoding import unused
from sparknn.cli.formats import files_at, kind_of
from sparknn.cli.inputs import Input, dialect_of
from sparknn.cli.lines import Dialect
from sparknn.cli.plain_text import Facts, Places, Source, rows_of, source_of
from sparknn.cli.preparation import is_regression, prediction_columns, require_unused
from sparknn.cli.session import say
from sparknn.cli.training_rows import Job, Plain, Rows, chosen_columns
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError
from sparknn.feature.fine_tuning import FineTuned
from sparknn.fitting import packed_ahead, weight_column
from sparknn.readers import Read, Reader
from sparknn.rows import LARGEST, better_sparse
from sparknn.schema import FeatureShape

__all__ = ["plain_rows"]

NO_DELIMITERS = '+-.0123456789eE"\r\n'
"""What stands in numbers."""

UNSAID = ""
"""The kind of a column of which no schema says anything."""


def plain_rows(
    session: SparkSession, job: Job, estimator: Estimator, layers: list[int] | None
) -> Rows | None:
    """Return what `valid_rows` does, for an input that is text of numbers and nothing else.

    layers: the sizes of all layers, if they are known.

    Returns None for any other input, and for one of which a fault is to be told.
    """
    if not _simple(job, estimator):
        return None
    try:
        found = _described(session, job)
        if found is None:
            return None
        files, dialect, columns = found
        source = source_of(session, files, dialect)
        frame = _frame(source, dialect)
        table = _chosen(frame, job, estimator, columns)
    except InvalidDataError:
        return None
    places = _places(table, dialect, classes=not is_regression(estimator))
    numbers = [Column(column.name, column.kind or NUMBER) for column in columns]
    read = partial(rows_of, texts=source.texts, dialect=dialect, columns=numbers, places=places)
    name = unused(table.names, "features")
    shape = FeatureShape(len(table.features), "the column's metadata says")
    lenient = partial(read, strict=False)
    reader = Reader(*source[:2], lenient, name, (str(table.label),), shape)
    facts = _packed(session, estimator, reader)
    if facts is None:
        return None
    known = max(2, layers[-1]) if layers else 0
    classes = _classes(facts, known) if places.classes else None
    width = len(table.features)
    sure = _sure(facts, columns, width)
    if not sure or classes == 0 or (layers and layers[0] != width):
        reader.close()
        return None
    columns = [_decided(*each) for each in zip(columns, facts.fractional, strict=True)]
    table = replace(table, kinds=tuple(columns))
    say(f"{job.path}: {facts.rows} rows of numbers, read straight into blocks")
    training = frame if set(table.names) == set(frame.columns) else chosen(frame, table)
    counts = Counts(facts.rows, blank=facts.blank)
    plain = Plain(replace(reader, read=partial(read, strict=True)), classes)
    return Rows(Rules(table, width, classes), None, training, None, counts, {}, plain)


def _packed(session: SparkSession, estimator: Estimator, reader: Reader) -> Facts | None:
    """Pack a reader's rows, and return what there is in them; None where some are invalid."""
    estimator.setLabelCol(reader.others[0])
    wanted = estimator._wanted()
    if wanted.targets != reader.others or wanted.class_weights:
        return None
    cluster = Cluster(session)
    try:
        blocks = cluster.run(lambda: packed_ahead(estimator, cluster, reader, wanted))
    except InvalidDataError:
        return None
    summaries = [summary for item in blocks.packed for summary in item.summaries]
    notes = [
        note
        for summary in sorted(summaries, key=lambda summary: summary.partition)
        for note in summary.notes
    ]
    return reduce(Facts.add, notes)


def _simple(job: Job, estimator: Estimator) -> bool:
    """Return whether nothing was asked that the ordinary way alone can do."""
    how, recipe = job.reading, job.recipe
    return not (
        how.multiline
        or how.numbers_column
        or how.skip_matching
        or any(map(is_number, how.null_values))
        or recipe.categorical
        or recipe.bins
        or recipe.split_column
        or recipe.fills
        or job.validation
        or job.scale != "none"
        or weight_column(estimator)
        or isinstance(estimator, FineTuned)
    )


def _described(session: SparkSession, job: Job) -> tuple[list[str], Dialect, list[Column]] | None:
    """Return an input's files, how they are written, and what columns are to be; None where they
    are not text of numbers."""
    files = files_at(session, job.path)
    kind = job.reading.kind or kind_of(files)
    if kind not in ("csv", "text"):
        return None
    dialect, given = dialect_of(session, files, kind, job.reading)
    if dialect.delimiter in NO_DELIMITERS or not set(given.values()) <= {NUMBER, INTEGER}:
        return None
    # A column of which nothing was said is one of any numbers, until all have been seen.
    return files, dialect, [Column(name, given.get(name, UNSAID)) for name in dialect.names]


def _chosen(frame: DataFrame, job: Job, estimator: Estimator, columns: Sequence[Column]) -> Table:
    """Return the columns to train on; raise InvalidDataError as `valid_rows` does."""
    found = Input(frame, list(columns), Counts())
    _, table = chosen_columns(found, job, job.label, None, is_regression(estimator))
    require_unused(table.names, prediction_columns(estimator))
    return table


def _places(table: Table, dialect: Dialect, classes: bool) -> Places:
    place = {name: index for index, name in enumerate(dialect.names)}
    assert table.label is not None
    return Places([place[name] for name in table.features], [place[table.label]], classes)


def _classes(facts: Facts, known: int) -> int:
    """Return how many classes there are, or 0 where labels are not 0, 1, 2 and so on.

    known: how many the model has, or 0.
    """
    labels = sorted(facts.labels)
    whole = all(label == int(label) for label in labels)
    if not labels or not whole or labels[0] < 0 or labels[-1] >= max(len(labels), known):
        return 0
    return known or int(labels[-1]) + 1


def _sure(facts: Facts, columns: Sequence[Column], width: int) -> bool:
    """Return whether all rows are valid, and best kept dense."""
    broken = [
        column for column, odd in zip(columns, facts.fractional, strict=True)
        if odd and column.kind == INTEGER
    ]  # fmt: skip
    # -0 is 0 in a column of whole numbers, and the blocks hold what was written.
    zeros = facts.negative_zero & ~facts.fractional
    if facts.doubt or not facts.rows or broken or zeros.any() or facts.largest > LARGEST:
        return False
    return not better_sparse(width, sum(facts.stored) / len(facts.stored))


def _decided(column: Column, fractional: bool) -> Column:
    """Return what a column is, by the rule of `column_kinds.decide`."""
    if column.kind != UNSAID:
        return column
    return Column(column.name, NUMBER if fractional else INTEGER)


def _frame(source: Source, dialect: Dialect) -> DataFrame:
    """Return the rows as columns, for whatever has to have them so."""
    columns = [Column(name, NUMBER) for name in dialect.names]
    places = Places(list(range(len(columns))), [], False)
    read = partial(
        rows_of, texts=source.texts, dialect=dialect, columns=columns, places=places, strict=True
    )
    schema = StructType([StructField(name, DoubleType()) for name in dialect.names])
    return source.frame.mapInArrow(partial(_columns, read=read, names=dialect.names), schema)


def _columns(
    batches: Iterable[pa.RecordBatch], read: Read, names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    for rows, _ in read(batches, []):
        yield pa.record_batch([pa.array(column) for column in rows.T.astype(float)], list(names))
