"""Training rows that are text of numbers and nothing else: read straight into blocks.

Whether an input is such is found out on the way. Where anything is not sure, the blocks are thrown
away, and the ordinary way has the word: it alone tells users what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark import RDD
from pyspark.ml import Estimator
from pyspark.sql import DataFrame, SparkSession

from sparknn.cli.badlines import Counts
from sparknn.cli.checking import Rules, Table, chosen_names
from sparknn.cli.column_kinds import INTEGER, NUMBER, Column, is_number
from sparknn.cli.encoding import unused
from sparknn.cli.formats import any_packed, files_at, kind_of
from sparknn.cli.inputs import dialect_of
from sparknn.cli.lines import Dialect
from sparknn.cli.plain_text import Facts, Places, Range, Texts, opened, rows_of, sent
from sparknn.cli.preparation import is_regression, prediction_columns, require_unused
from sparknn.cli.session import say
from sparknn.cli.text_batches import decoded
from sparknn.cli.text_tables import line_batches
from sparknn.cli.training_rows import Job, Rows
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError
from sparknn.feature.fine_tuning import FineTuned
from sparknn.fitting import packed_ahead, weight_column
from sparknn.readers import Reader, frame_of
from sparknn.rows import LARGEST, better_sparse
from sparknn.schema import FeatureShape

__all__ = ["plain_rows", "source_of"]

NO_DELIMITERS = '+-.0123456789eE"\r\n'
"""What stands in numbers."""

UNSAID = ""
"""The kind of a column of which no schema says anything."""


class Source(NamedTuple):
    """Where the lines of files come from.

    frame: its partitions hold lines, or say where they are. given: the same batches as an RDD,
    where there are few: such a job starts 0.1 s sooner. texts: how tasks get at the lines.
    """

    frame: DataFrame
    given: RDD | None
    texts: Texts


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
        table = _chosen(job, estimator, columns)
    except InvalidDataError:
        return None
    if table is None:
        return None
    places = _places(table, dialect, classes=not is_regression(estimator))
    reader = _reader(session, files, dialect, columns, table, places)
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
    rules = Rules(replace(table, kinds=tuple(columns)), width, classes)
    say(f"{job.path}: {facts.rows} rows of numbers, read straight into blocks")
    # Whoever reads the rows again asks for no facts.
    read: Any = reader.read
    reader = replace(reader, read=partial(read, strict=True))
    counts = Counts(facts.rows, blank=facts.blank)
    return Rows(rules, None, _prepared(reader, classes), None, counts, {}, reader)


def source_of(session: SparkSession, files: Sequence[str], dialect: Dialect) -> Source:
    """Return where the lines of files come from, in the partitions in which Spark reads them.

    Local files are opened by the tasks. Others, and packed ones, come through Spark's text reader.
    """
    local = all(file.startswith("file:") for file in files)
    if not local or any_packed(session, files):
        return Source(line_batches(session, files), None, partial(sent, dialect=dialect))
    plan = session.read.text(list(files))._jdf.queryExecution()
    ranges = [
        [Range(decoded(each.filePath().toString()), each.start(), each.length())
         for each in partition.files()]
        for partition in plan.toRdd().partitions()
    ]  # fmt: skip
    numbered = [pa.record_batch([pa.array([number])], ["id"]) for number in range(len(ranges))]
    given = session.sparkContext.parallelize(numbered, len(ranges))
    frame = session.range(0, len(ranges), 1, len(ranges))
    return Source(frame, given, partial(opened, ranges=ranges, dialect=dialect))


def _reader(
    session: SparkSession,
    files: list[str],
    dialect: Dialect,
    columns: Sequence[Column],
    table: Table,
    places: Places,
) -> Reader:
    """Return what reads files' rows, and notes what there is in them."""
    source = source_of(session, files, dialect)
    read = partial(
        rows_of,
        texts=source.texts,
        dialect=dialect,
        columns=[Column(column.name, column.kind or NUMBER) for column in columns],
        places=places,
        strict=False,
    )
    shape = FeatureShape(len(table.features), "the column's metadata says")
    features = unused(table.names, "features")
    return Reader(*source[:2], read, features, (str(table.label),), shape)


def _prepared(reader: Reader, classes: int | None) -> DataFrame:
    """Return a reader's rows with the metadata that the pipeline's stages leave."""
    metadata: dict[str, dict[str, Any]] = {
        reader.features: {"ml_attr": {"num_attrs": reader.shape.width}}
    }
    if classes is not None:
        metadata[reader.others[0]] = {"ml_attr": {"type": "nominal", "num_vals": classes}}
    return frame_of(reader, metadata)


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


def _chosen(job: Job, estimator: Estimator, columns: Sequence[Column]) -> Table | None:
    """Return the columns to train on, or None where not all are there once.

    Raises InvalidDataError as `valid_rows` does.
    """
    names = [column.name for column in columns]
    left = [name for name in names if name not in job.recipe.drop]
    features = chosen_names(left, job.label, job.features)
    table = Table(tuple(features), job.label)
    once = len(table.names) == len(features) + 1
    if not features or not once or {*job.recipe.drop} - {*names} or {*table.names} - {*left}:
        return None
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
