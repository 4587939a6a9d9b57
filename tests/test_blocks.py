"""Rows become resident blocks: all of them, unchanged, or an error that says which is wrong."""

import numpy as np
import pytest
from cluster_helpers import (
    FullDisk,
    FullSpool,
    assert_same_rows,
    frame,
    in_parts,
    pack_frame,
    pack_rdd,
    paths,
    tables,
    were_dealt,
)
from pyspark.ml.functions import array_to_vector
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.ml.stat import Summarizer
from pyspark.mllib.linalg import Vectors as OldVectors
from pyspark.mllib.regression import LabeledPoint
from pyspark.sql import Row
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

from sparknn import blocks as blocks_module
from sparknn.blocks import inspect
from sparknn.errors import DiskSpaceError, InvalidDataError
from sparknn.moments import column_moments
from sparknn.rows import Layout
from sparknn.schema import feature_columns, numeric_column

VALUES = np.array([[k, -k / 4, 0.0 if k % 3 else k * k] for k in range(12)], np.float64)
LABELS = np.arange(12) % 3.0
TABLE = np.column_stack([VALUES, LABELS])
IN_PLACE_OR_DEALT = pytest.mark.parametrize("partitions", [3, 2], ids=["in place", "dealt"])
"""Most sources below have three partitions: they are packed where they are, or dealt to two."""


def thirds(items) -> list[list]:
    items = list(items)
    size = -(-len(items) // 3)
    return [items[start : start + size] for start in range(0, 3 * size, size)]


@pytest.fixture(scope="module")
def source(spark):
    """Twelve rows in three partitions, their features in every kind of column there is."""

    def row(values, label):
        dense, sparse = Vectors.dense(values), Vectors.sparse(3, list(enumerate(values)))
        mixed = dense if label == 1 else sparse
        a, b, c = map(float, values)
        return dense, sparse, mixed, [a, b, c], a, b, c, float(label)

    names = ["dense", "sparse", "mixed"]
    schema = StructType([StructField(name, VectorUDT()) for name in names])
    schema.add("doubles", ArrayType(DoubleType()))
    for name in ("a", "b", "c", "label"):
        schema.add(name, DoubleType())
    parts = thirds(row(v, label) for v, label in zip(VALUES.tolist(), LABELS, strict=True))
    return (
        frame(spark, parts, schema)
        .withColumn("n", F.col("a").cast("int"))
        .withColumn("floats", F.col("doubles").cast("array<float>"))
        .withColumn("wholes", F.expr("array(n, -n, 2 * n)"))
        .withColumn("in float", F.col("a").cast("float"))
        .withColumn("exact", F.col("b").cast("decimal(10, 3)"))
        .withColumn("dotted.vector", F.col("dense"))
        .withColumn("dotted.c", F.col("c"))
        .withColumn("tick`ed", F.col("label"))
        .withColumn("weight", F.col("n") / 2 + 1)
        .withColumn("flag", F.col("n") % 2 == 0)
        .cache()
    )


@IN_PLACE_OR_DEALT
@pytest.mark.parametrize("features", ["dense", "sparse", "mixed", "doubles", "floats"])
def test_rows_of_a_vector_or_array_column_all_arrive(cluster, source, features, partitions):
    with pack_frame(cluster, source, features, ("label",), partitions=partitions) as blocks:
        assert were_dealt(blocks) == (partitions != 3)
        assert len(blocks.packed) == partitions
        assert (blocks.rows, blocks.features, blocks.targets) == (12, 3, 1)
        assert blocks.bytes == 12 * 4 * 4
        assert_same_rows(blocks, TABLE)


@IN_PLACE_OR_DEALT
def test_rows_of_an_array_of_integers_all_arrive(cluster, source, partitions):
    with pack_frame(cluster, source, "wholes", partitions=partitions) as blocks:
        n = np.arange(12.0)
        assert_same_rows(blocks, np.column_stack([n, -n, 2 * n]))


@IN_PLACE_OR_DEALT
def test_single_numeric_columns_become_features_in_their_order(cluster, source, partitions):
    features = ["flag", "exact", "in float", "n"]
    with pack_frame(cluster, source, features, ("label",), partitions=partitions) as blocks:
        n = np.arange(12.0)
        assert_same_rows(blocks, np.column_stack([n % 2 == 0, -n / 4, n, n, LABELS]))


@IN_PLACE_OR_DEALT
@pytest.mark.parametrize("features", ["dotted.vector", ["a", "b", "dotted.c"]])
def test_column_names_may_hold_dots_and_backticks(cluster, source, features, partitions):
    with pack_frame(cluster, source, features, ("tick`ed",), partitions=partitions) as blocks:
        assert_same_rows(blocks, TABLE)


def test_a_column_may_serve_twice(cluster, source):
    with pack_frame(cluster, source, ["a", "a"], ("a",), weight="a", partitions=3) as blocks:
        assert_same_rows(blocks, np.repeat(np.arange(12.0)[:, None], 4, axis=1))


@IN_PLACE_OR_DEALT
def test_several_targets_and_a_weight_stand_after_the_features(cluster, source, partitions):
    targets = ("c", "label")
    with pack_frame(
        cluster, source, ["a", "b"], targets, weight="weight", partitions=partitions
    ) as blocks:
        assert (blocks.features, blocks.targets) == (2, 2)
        n = np.arange(12.0)
        assert_same_rows(blocks, np.column_stack([VALUES, LABELS, n / 2 + 1]))


@IN_PLACE_OR_DEALT
@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: (y, x.tolist()),
        lambda x, y: (y, x),
        lambda x, y: (int(y), tuple(x.tolist())),
        lambda x, y: (y, Vectors.dense(x)),
        lambda x, y: (y, Vectors.sparse(3, list(enumerate(x)))),
        lambda x, y: LabeledPoint(y, OldVectors.dense(x)),
        lambda x, y: LabeledPoint(y, OldVectors.sparse(3, list(enumerate(x)))),
        lambda x, y: Row(label=float(y), features=Vectors.dense(x)),
    ],
    ids=["list", "array", "tuple", "dense", "sparse", "LabeledPoint", "sparse point", "Row"],
)
def test_rdd_of_labels_and_features_arrives(cluster, spark, make, partitions):
    pairs = [make(x, y) for x, y in zip(VALUES, LABELS, strict=True)]
    rdd = in_parts(spark, thirds(pairs))
    with pack_rdd(cluster, rdd, partitions=partitions) as blocks:
        assert were_dealt(blocks) == (partitions != 3)
        assert_same_rows(blocks, TABLE)


@IN_PLACE_OR_DEALT
def test_rdd_of_features_alone_has_no_targets(cluster, spark, partitions):
    rdd = in_parts(spark, thirds([Vectors.dense(x) for x in VALUES]))
    with pack_rdd(cluster, rdd, (), partitions=partitions) as blocks:
        assert (blocks.features, blocks.targets) == (3, 0)
        assert_same_rows(blocks, VALUES)


@IN_PLACE_OR_DEALT
def test_rdd_labels_may_be_several_numbers(cluster, spark, partitions):
    pairs = [([y, x[0] / 2], x) for x, y in zip(VALUES, LABELS, strict=True)]
    rdd = in_parts(spark, thirds(pairs))
    with pack_rdd(cluster, rdd, ("label[0]", "label[1]"), partitions=partitions) as blocks:
        assert (blocks.features, blocks.targets) == (3, 2)
        assert_same_rows(blocks, np.column_stack([TABLE, VALUES[:, 0] / 2]))


@pytest.mark.parametrize("partitions", [4, 2], ids=["in place", "dealt"])
@pytest.mark.parametrize("kind", ["frame", "rdd"])
def test_partitions_may_be_empty_or_skewed(cluster, spark, kind, partitions):
    rows = [(float(k), [float(k), 1.0]) for k in range(500)]
    parts = [[], rows[:1], rows[1:], []]
    expected = np.column_stack([np.arange(500), np.ones(500), np.arange(500)])
    if kind == "rdd":
        blocks = pack_rdd(cluster, in_parts(spark, parts), partitions=partitions)
    else:
        data = frame(spark, parts, "label double, features array<double>")
        blocks = pack_frame(cluster, data, targets=("label",), partitions=partitions)
    with blocks:
        if partitions == 4:
            assert blocks.partition_rows == [0, 1, 499, 0]
        assert sum(blocks.partition_rows) == blocks.rows == 500
        assert_same_rows(blocks, expected)


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_single_row_is_enough(cluster, spark, partitions):
    rdd = in_parts(spark, [[(1.0, [2.0, 3.0])]])
    with pack_rdd(cluster, rdd, partitions=partitions) as blocks:
        assert sorted(blocks.partition_rows) == [0] * (partitions - 1) + [1]
        assert_same_rows(blocks, np.array([[2.0, 3.0, 1.0]]))


@pytest.mark.parametrize("sources, partitions", [(2, 7), (5, 2), (1, 3)])
def test_dealing_gives_every_row_to_one_block_at_random(cluster, spark, sources, partitions):
    rows = 25_000  # More than one Arrow batch and several windows a partition.
    data = spark.range(0, rows, 1, sources).selectExpr("id", "-id as minus")
    with pack_frame(cluster, data, ["id", "minus"], partitions=partitions) as blocks:
        ids = np.arange(float(rows))
        assert_same_rows(blocks, np.column_stack([ids, -ids]))
        # The shares are binomial, and six deviations off is as good as never.
        share, deviation = rows / partitions, np.sqrt(rows / partitions)
        assert np.abs(np.array(blocks.partition_rows) - share).max() < 6 * deviation
        for table in tables(blocks):
            found = table[:, 0]
            assert abs(np.corrcoef(found, np.arange(len(found)))[0, 1]) < 0.1
            assert abs(found.mean() - rows / 2) < 6 * rows / np.sqrt(12 * len(found))


def test_packing_in_place_keeps_the_order_of_rows(cluster, spark):
    data = spark.range(0, 25_000, 1, 2).selectExpr("id")
    with pack_frame(cluster, data, ["id"], partitions=2) as blocks:
        assert not were_dealt(blocks)
        np.testing.assert_array_equal(np.vstack(tables(blocks))[:, 0], np.arange(25_000))


def test_dealing_depends_on_the_seed_and_on_nothing_else(cluster, spark):
    def checksums(seed):
        data = spark.range(0, 2000, 1, 3).selectExpr("id")
        with pack_frame(cluster, data, ["id"], partitions=2, seed=seed) as blocks:
            return [item.block.checksum for item in blocks.packed]

    assert checksums(7) == checksums(7)
    assert checksums(7) != checksums(8)


def test_a_block_per_core_is_the_default(cluster, spark):
    with pack_frame(cluster, spark.range(0, 4000, 1, 5).selectExpr("id"), ["id"]) as blocks:
        assert len(blocks.packed) == cluster.cores == 2
        assert_same_rows(blocks, np.arange(4000.0)[:, np.newaxis])
    with pack_frame(cluster, spark.range(0, 4000, 1, 1).selectExpr("id"), ["id"]) as blocks:
        assert len(blocks.packed) == 2


def test_few_rows_in_few_partitions_stay_there(cluster, spark):
    with pack_frame(cluster, spark.range(0, 1999, 1, 1).selectExpr("id"), ["id"]) as blocks:
        assert len(blocks.packed) == 1
        assert not were_dealt(blocks)


def labelled(spark, order: str):
    """Return 2,000 rows with labels 0 and 1 in two partitions, in some order."""
    label = "int(id >= 1000)" if order == "sorted" else "id % 2"
    return spark.range(0, 2000, 1, 2).selectExpr("cast(id as double) x", f"{label} label")


def test_label_sorted_rows_are_dealt_where_minibatches_will_train(cluster, spark):
    data = labelled(spark, "sorted")
    with pack_frame(
        cluster, data, ["x"], ("label",), classes=2, partitions=2, compare=True
    ) as blocks:
        assert were_dealt(blocks)
        ids = np.arange(2000.0)
        assert_same_rows(blocks, np.column_stack([ids, ids >= 1000]))
        for table in tables(blocks):
            assert abs(table[:, 1].mean() - 0.5) < 0.1
            assert abs(table[: len(table) // 4, 1].mean() - 0.5) < 0.2


@pytest.mark.parametrize("order, compare", [("sorted", False), ("mixed", True)])
def test_rows_stay_where_they_are_alike_or_nobody_asks(cluster, spark, order, compare):
    data = labelled(spark, order)
    with pack_frame(
        cluster, data, ["x"], ("label",), classes=2, partitions=2, compare=compare
    ) as blocks:
        assert not were_dealt(blocks)
        assert blocks.partition_rows == [1000, 1000]


def test_rows_sorted_by_a_target_that_is_a_value_are_dealt(cluster, spark):
    data = spark.range(0, 2000, 1, 2).selectExpr("rand(1) x", "id / 100 y")
    with pack_frame(cluster, data, ["x"], ("y",), partitions=2, compare=True) as blocks:
        assert were_dealt(blocks)
    shuffled = spark.range(0, 2000, 1, 2).selectExpr("rand(1) x", "rand(2) y")
    with pack_frame(cluster, shuffled, ["x"], ("y",), partitions=2, compare=True) as blocks:
        assert not were_dealt(blocks)


def test_rdd_sorted_by_label_is_dealt(cluster, spark):
    parts = [[(label, [float(k)]) for k in range(300)] for label in (0.0, 1.0)]
    with pack_rdd(cluster, in_parts(spark, parts), classes=2, partitions=2, compare=True) as blocks:
        assert were_dealt(blocks)
        labels = [table[:, 1].mean() for table in tables(blocks)]
        assert max(abs(mean - 0.5) for mean in labels) < 0.2


def test_partitions_of_different_classes_are_unlike(cluster, spark):
    # A class that only one partition has met makes their counts differ in length.
    parts = [[(0.0, [1.0])] * 300, [(2.0, [1.0])] * 300]
    with pack_rdd(cluster, in_parts(spark, parts), classes=3, partitions=2, compare=True) as blocks:
        assert were_dealt(blocks)
        np.testing.assert_array_equal(blocks.histogram, [300, 0, 300])


@IN_PLACE_OR_DEALT
def test_histogram_adds_up_the_weights_of_each_class(cluster, source, partitions):
    with pack_frame(
        cluster, source, "dense", ("label",), "weight", classes=0, partitions=partitions
    ) as blocks:
        expected = np.bincount(LABELS.astype(int), np.arange(12) / 2 + 1)
        np.testing.assert_allclose(blocks.histogram, expected, rtol=1e-12)


@IN_PLACE_OR_DEALT
@pytest.mark.parametrize("weighted", [True, False])
def test_moments_are_those_of_mllib(cluster, spark, partitions, weighted):
    data = spark.range(0, 6000, 1, 3).selectExpr(
        "array(randn(1), 3 + 2 * randn(2), 1500000000 + 1000 * randn(3), 5.0, id / 6000) v",
        "cast(id % 4 as double) weight",
    )
    data = data.withColumn("features", array_to_vector("v")).cache()
    rows = data.select("v", "weight").collect()
    values = np.array([row.v for row in rows])
    weights = np.array([row.weight if weighted else 1.0 for row in rows])
    summary = Summarizer.metrics("mean", "std")
    column = summary.summary(F.col("features"), F.col("weight") if weighted else F.lit(1.0))
    mllib = data.select(column.alias("s")).first().s
    weight = "weight" if weighted else None
    with pack_frame(cluster, data, weight=weight, partitions=partitions, precise=True) as blocks:
        mean, deviation = column_moments(blocks)
    np.testing.assert_allclose(mean, mllib.mean.toArray(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(deviation, mllib.std.toArray(), rtol=1e-9, atol=1e-12)
    centre = np.average(values, 0, weights)
    free = weights.sum() - (weights**2).sum() / weights.sum()
    exact = np.sqrt(weights @ (values - centre) ** 2 / free)
    np.testing.assert_allclose(deviation, exact, rtol=1e-11, atol=1e-12)


def test_a_large_column_keeps_the_precision_of_its_deviation(cluster, spark):
    # One in a thousand of 1e3 lies far below what float32 tells apart at 1.5e9, which is 128.
    data = spark.range(0, 3000, 1, 3).selectExpr("1500000000 + 1000 * sin(id) as x")
    expected = 1.5e9 + 1000 * np.sin(np.arange(3000))
    with pack_frame(cluster, data, ["x"], partitions=3, precise=True) as blocks:
        found = np.vstack(tables(blocks))[:, 0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_rows_that_all_weigh_nothing_are_refused(cluster, source):
    nothing = source.withColumn("weight", F.lit(0.0))
    with pytest.raises(InvalidDataError, match="'weight': every row has weight 0"):
        pack_frame(cluster, nothing, "dense", weight="weight", partitions=3)


def test_the_weights_of_rows_add_up(cluster, source):
    data = source.withColumn("weight", F.lit(0.5))
    with pack_frame(cluster, data, "dense", weight="weight", partitions=3) as blocks:
        assert blocks.weight == blocks.rows / 2
    with pack_frame(cluster, data, "dense", partitions=2) as blocks:
        assert blocks.weight == blocks.rows


SCHEMA = "f array<double>, y double, w double"
NAN, INF = float("nan"), float("inf")
FAULTS = [
    ("f", [0.0, NAN], "NaN, infinite or beyond 32-bit floats", "(nan at index 1)"),
    ("f", [-INF, 0.0], "NaN, infinite or beyond 32-bit floats", "(-inf at index 0)"),
    ("f", [0.0, 1e39], "NaN, infinite or beyond 32-bit floats", "(1e+39 at index 1)"),
    ("f", [0.0, None], "NaN, infinite or beyond 32-bit floats", "(nan at index 1)"),
    ("f", None, "null", ""),
    ("f", [1.0, 2.0, 3.0], "not 2 values wide, as the others are", ""),
    ("f", [], "not 2 values wide, as the others are", ""),
    ("y", None, "null", ""),
    ("y", NAN, "NaN, infinite or beyond 32-bit floats", "(nan)"),
    ("y", 0.5, "no class label 0, 1, 2, …", "(0.5)"),
    ("y", -1.0, "no class label 0, 1, 2, …", "(-1)"),
    ("y", 2.0, "a label above 1, the last class of the model's outputs", "(2)"),
    ("w", None, "null", ""),
    ("w", -0.5, "negative, NaN or infinite", "(-0.5)"),
    ("w", INF, "negative, NaN or infinite", "(inf)"),
]


def spoilt(spark, column: str, value, bad=(5, 7, 10)):
    """Return twelve rows in three partitions (and an empty one) of which three are invalid."""
    rows = [{"f": [1.0, 2.0], "y": float(k % 2), "w": 1.0} for k in range(12)]
    for row in bad:
        rows[row][column] = value
    tuples = [(row["f"], row["y"], row["w"]) for row in rows]
    first, *others = thirds(tuples)
    return frame(spark, [first, [], *others], SCHEMA)


@pytest.mark.parametrize(
    "column, value, reason, example, partitions",
    [(*fault, 4) for fault in FAULTS] + [(*fault, 2) for fault in FAULTS[::3]],
)
def test_invalid_rows_are_counted_and_the_first_is_named(
    cluster, spark, column, value, reason, example, partitions
):
    data = spoilt(spark, column, value)
    with pytest.raises(InvalidDataError) as caught:
        pack_frame(cluster, data, "f", ("y",), "w", classes=2, partitions=partitions)
    verdict = f"column {column!r}: 3 rows are {reason}; the first is row 5 {example}".strip()
    assert str(caught.value).startswith(verdict + ".")
    assert "handleInvalid='skip'" in str(caught.value)


@pytest.mark.parametrize("partitions", [4, 2], ids=["in place", "dealt"])
def test_invalid_rows_can_be_left_out(cluster, spark, partitions, caplog):
    data = spoilt(spark, "w", -1.0)
    with pack_frame(
        cluster, data, "f", ("y",), "w", classes=2, partitions=partitions, skip=True
    ) as blocks:
        assert (blocks.rows, blocks.skipped) == (9, 3)
        kept = [k for k in range(12) if k not in (5, 7, 10)]
        assert_same_rows(blocks, np.array([[1.0, 2.0, k % 2, 1.0] for k in kept]))
    assert "left out 3 invalid rows of 12" in caplog.text


@pytest.mark.parametrize("partitions", [4, 2], ids=["in place", "dealt"])
def test_a_partition_may_hold_invalid_rows_only_where_they_are_left_out(cluster, spark, partitions):
    data = spoilt(spark, "f", None, bad=(4, 5, 6, 7))
    with pack_frame(cluster, data, "f", ("y",), partitions=partitions, skip=True) as blocks:
        assert (blocks.rows, blocks.skipped, blocks.features) == (8, 4, 2)


@IN_PLACE_OR_DEALT
@pytest.mark.parametrize(
    "pair, complaint",
    [
        ((1.0, [0.0, NAN]), "column 'features': 1 row is NaN, infinite"),
        ((1.0, None), "column 'features': 1 row is null, or no pair"),
        ((1.0, "words"), "column 'features': 1 row is null, or no pair"),
        (3.0, "column 'features': 1 row is null, or no pair"),
        ((1.0, 2.0, 3.0), "column 'features': 1 row is null, or no pair"),
        ((1.0, [1.0]), "column 'features': 1 row is not 2 values wide"),
        ((7.0, [1.0, 1.0]), "column 'label': 1 row is a label above 1"),
        ((None, [1.0, 1.0]), "column 'label': 1 row is"),
    ],
)
def test_invalid_elements_of_an_rdd_are_named(cluster, spark, pair, complaint, partitions):
    pairs = [(0.0, [1.0, 2.0])] * 12
    pairs[9] = pair
    rdd = in_parts(spark, thirds(pairs))
    with pytest.raises(InvalidDataError) as caught:
        pack_rdd(cluster, rdd, classes=2, partitions=partitions)
    assert complaint in str(caught.value)
    assert "the first is row 9" in str(caught.value)


def test_two_faults_are_both_reported(cluster, spark):
    rows = [([1.0], 0.0, 1.0), ([NAN], 0.0, 1.0), ([1.0], 0.0, -1.0), ([NAN], 0.0, 1.0)]
    with pytest.raises(InvalidDataError) as caught:
        pack_frame(cluster, frame(spark, [rows[:2], rows[2:]], SCHEMA), "f", ("y",), "w")
    assert "column 'f': 2 rows are" in str(caught.value)
    assert "the first is row 1 " in str(caught.value)
    assert "column 'w': 1 row is" in str(caught.value)


WIDTHS = [[(0.0, [1.0, 2.0, 3.0])] * 6, [(1.0, [1.0, 2.0, 3.0, 4.0])] * 6]


def test_partitions_whose_rows_differ_in_width_are_refused(cluster, spark):
    with pytest.raises(InvalidDataError, match=r"'features': rows differ in width.* 3 .* 4"):
        pack_rdd(cluster, in_parts(spark, WIDTHS), partitions=2)


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("kind", ["frame", "rdd"])
def test_partitions_whose_rows_differ_in_width_are_refused_when_dealt(
    cluster, spark, kind, partitions
):
    with pytest.raises(InvalidDataError, match=r"width|wide"):
        if kind == "rdd":
            blocks = pack_rdd(cluster, in_parts(spark, WIDTHS), partitions=partitions)
        else:
            data = frame(spark, WIDTHS, "label double, features array<double>")
            blocks = pack_frame(cluster, data, targets=("label",), partitions=partitions)
        blocks.close()


@pytest.mark.parametrize("label", [[1.0], [1.0, 2.0, 3.0], 1.0])
def test_rdd_labels_of_another_width_than_the_targets_are_refused(cluster, spark, label):
    rdd = in_parts(spark, [[(label, [5.0, 6.0])] * 3] * 2)
    with pytest.raises(InvalidDataError, match="label"):
        pack_rdd(cluster, rdd, ("label[0]", "label[1]"), partitions=2).close()


@pytest.mark.parametrize("label", ["seven", [1.0, 2.0]])
def test_rdd_labels_that_are_no_numbers_are_refused(cluster, spark, label):
    rdd = in_parts(spark, [[(0.0, [1.0]), (label, [2.0])]])
    with pytest.raises(InvalidDataError, match=r"label.*row 1"):
        pack_rdd(cluster, rdd, classes=2, partitions=1).close()


@pytest.mark.parametrize("partitions", [None, 2])
def test_input_without_rows_is_refused(cluster, spark, partitions):
    with pytest.raises(InvalidDataError, match="the input has no rows"):
        pack_frame(cluster, frame(spark, [[], []], SCHEMA), "f", ("y",), partitions=partitions)
    with pytest.raises(InvalidDataError, match="the input has no rows"):
        pack_rdd(cluster, spark.sparkContext.emptyRDD(), partitions=partitions)


def test_input_without_one_valid_row_is_refused(cluster, spark):
    data = spoilt(spark, "f", None, bad=range(12))
    with pytest.raises(InvalidDataError, match="no valid row is left of 12"):
        pack_frame(cluster, data, "f", partitions=4, skip=True)


@pytest.mark.parametrize("features, label", [("wide", "y"), ("f", "wide"), (["y", "wide"], "y")])
def test_an_unknown_column_is_reported_with_the_known_ones(cluster, spark, features, label):
    data = frame(spark, [[]], SCHEMA)
    with pytest.raises(InvalidDataError, match="no column 'wide'; there are f, y, w"):
        pack_frame(cluster, data, features, (label,))


def test_columns_of_the_wrong_type_are_refused(cluster, spark):
    data = frame(spark, [[]], "f array<string>, s string, y double")
    with pytest.raises(InvalidDataError, match="column 'f' is array<string>; features are"):
        pack_frame(cluster, data, "f")
    with pytest.raises(InvalidDataError, match="column 'y' is double; features are a vector"):
        pack_frame(cluster, data, "y")
    with pytest.raises(InvalidDataError, match="column 's' is string, and a number is needed"):
        pack_frame(cluster, data, ["y", "s"])


def test_rows_can_be_looked_at_without_packing(cluster, spark, block_files):
    data = spoilt(spark, "f", [NAN, 0.0])
    columns = [*feature_columns(data, "f")[0], numeric_column(data, "y")]
    with pytest.raises(InvalidDataError, match=r"'f': 3 rows are NaN.* first is row 5 "):
        inspect(cluster, data, Layout("f", targets=("y",)), columns)
    assert inspect(cluster, data, Layout("f", targets=("y",), skip=True), columns) == 12
    assert not block_files()


@pytest.mark.parametrize(
    "packer, partitions",
    [(FullDisk, 3), (FullDisk, 2), (FullSpool, 2)],
    ids=["in place", "dealt", "while rows wait"],
)
def test_a_disk_too_small_is_reported(
    cluster, source, block_files, monkeypatch, packer, partitions
):
    monkeypatch.setattr(blocks_module, "Packer", packer)
    with pytest.raises(DiskSpaceError) as caught:
        pack_frame(cluster, source, "dense", ("label",), partitions=partitions)
    assert "not enough disk for the training blocks" in str(caught.value)
    assert "MB free" in str(caught.value)
    assert "spark.local.dir" in str(caught.value)
    assert not block_files()


@IN_PLACE_OR_DEALT
def test_files_are_gone_after_close(cluster, source, block_files, partitions):
    blocks = pack_frame(cluster, source, "dense", ("label",), partitions=partitions)
    assert {str(file) for file in block_files()} >= set(paths(blocks).values())
    # Besides the blocks there is nothing: no spool, no part.
    assert sum(file.is_file() for file in block_files()) == partitions
    blocks.close()
    assert not block_files()
    assert not blocks.rdd.getStorageLevel().useMemory
    blocks.close()


def test_files_are_gone_after_an_exception_in_the_midst(cluster, source, block_files):
    with pytest.raises(ZeroDivisionError), pack_frame(cluster, source, "dense", partitions=3):
        assert block_files()
        raise ZeroDivisionError
    assert not block_files()


@pytest.mark.parametrize("partitions", [4, 2], ids=["in place", "dealt"])
def test_files_are_gone_after_a_failed_pack(cluster, spark, block_files, partitions):
    with pytest.raises(InvalidDataError):
        pack_frame(cluster, spoilt(spark, "f", None), "f", ("y",), partitions=partitions)
    assert not block_files()


@pytest.mark.parametrize("partitions", [2, 3], ids=["in place", "dealt"])
def test_files_are_gone_after_the_users_own_function_failed(
    cluster, spark, block_files, partitions
):
    def broken(number):
        if number == 9000:
            raise RuntimeError("a mistake in the user's own function")
        return 0.0, [float(number)]

    rdd = spark.sparkContext.parallelize(range(10_000), 2).map(broken)
    with pytest.raises(Exception, match="a mistake in the user's own function"):
        pack_rdd(cluster, rdd, partitions=partitions)
    assert not block_files()


def test_files_of_the_first_attempt_are_gone_once_rows_are_dealt(cluster, spark, block_files):
    data = labelled(spark, "sorted")
    with pack_frame(
        cluster, data, ["x"], ("label",), classes=2, partitions=2, compare=True
    ) as blocks:
        files = {str(file) for file in block_files() if file.is_file()}
        assert files == set(paths(blocks).values())


def test_packing_leaves_the_sessions_settings_as_they_were(cluster, spark, source):
    setting = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(setting)
    for partitions in (3, 2):
        pack_frame(cluster, source, "dense", partitions=partitions).close()
        assert spark.conf.get(setting) == before
