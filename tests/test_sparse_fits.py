"""Sparse vectors on Spark: packed, dealt, lost and trained on, the same as dense ones."""

from __future__ import annotations

import os
import resource
from dataclasses import replace

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from cluster_helpers import in_parts, were_dealt
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import SparseVector, Vectors, VectorUDT
from pyspark.sql.types import DoubleType, StructType

import sparknn.rows
from sparknn.blocks import check_packed, pack
from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.errors import InvalidDataError, LostBlockError
from sparknn.moments import column_moments
from sparknn.network import Network
from sparknn.objective import Rows
from sparknn.packing import Source
from sparknn.rounds import Answer, Rounds
from sparknn.rows import Layout
from sparknn.schema import feature_columns, feature_shape, numeric_column
from sparknn.shell import train

WIDTH = 120
SCHEMA = (
    StructType().add("features", VectorUDT()).add("label", DoubleType()).add("weight", DoubleType())
)


def made(count=600, seed=0):
    """Return features, (rows, 120) of which four are set or none, labels and weights."""
    random = np.random.default_rng(seed)
    features = np.zeros((count, WIDTH))
    for row in features[1:]:
        row[random.choice(WIDTH - 1, 4, replace=False)] = random.normal(1, 1, 4)
    chance = 1 / (1 + np.exp(-features @ random.normal(size=WIDTH)))
    weights = random.integers(1, 5, count) / 4
    return features, (random.random(count) < chance).astype(float), weights


def sparse_vector(row) -> SparseVector:
    return Vectors.sparse(len(row), [(int(index), float(row[index])) for index in row.nonzero()[0]])


def parts_of(features, labels, weights, parts=3) -> list[list]:
    """Return rows in partitions, the first one of none, every third vector dense."""
    rows = [
        (Vectors.dense(x) if index % 3 == 0 else sparse_vector(x), float(y), float(w))
        for index, (x, y, w) in enumerate(zip(features, labels, weights, strict=True))
    ]
    return [[], *(rows[start :: parts - 1] for start in range(parts - 1))]


@pytest.fixture(scope="module")
def data(spark):
    return spark.createDataFrame(in_parts(spark, parts_of(*made())), SCHEMA).cache()


def packed(cluster, data, partitions=3, classes=2, weighted=True, **source):
    columns, single = feature_columns(data, "features")
    columns += [numeric_column(data, "label"), *[numeric_column(data, "weight")] * weighted]
    shape = feature_shape(data, "features")
    layout = Layout("features", single, ("label",), classes, "weight" if weighted else None)
    layout = replace(layout, width=shape.width, sparse=shape.sparse, row_bytes=shape.row_bytes)
    return pack(cluster, data, Source(layout, **source), partitions, columns)


def content(blocks) -> np.ndarray:
    """Return all rows: features, label and weight side by side, block by block."""
    opened = [item.block.open() for item in blocks.packed if item.block.rows]
    return np.vstack(
        [np.column_stack([rows.features.toarray(), rows.targets, rows.weights]) for rows in opened]
    )


def by_value(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]


@pytest.fixture
def dense_only(monkeypatch):
    """A function after which no data set is taken for sparse."""
    return lambda: monkeypatch.setattr(sparknn.rows, "MOST_STORED", 0.0)


def test_the_first_rows_tell_whether_vectors_are_kept_sparse(spark, data, dense_only):
    assert feature_shape(data, "features")[:3] == (WIDTH, "the first row is", True)
    dense = data.selectExpr("label", "weight")
    wide = VectorAssembler(inputCols=["label"] * 80, outputCol="features").transform(dense)
    assert feature_shape(wide, "features")[:3] == (80, "the column's metadata says", False)
    few = wide.selectExpr("features", "label").filter("label = 0")
    assert feature_shape(few, "features").sparse
    dense_only()
    assert not feature_shape(data, "features").sparse


@pytest.mark.parametrize("partitions", [3, 2], ids=["in place", "dealt"])
def test_all_rows_arrive_with_labels_and_weights(cluster, data, partitions):
    features, labels, weights = made()
    expected = np.column_stack([features.astype(np.float32), labels, weights])
    with packed(cluster, data, partitions) as blocks:
        assert blocks.sparse and were_dealt(blocks) == (partitions == 2)
        assert (blocks.rows, blocks.features, blocks.targets) == (600, WIDTH, 1)
        found = content(blocks)
        np.testing.assert_array_equal(by_value(found), by_value(expected))
        assert blocks.bytes < 600 * 4 * 20
        np.testing.assert_allclose(blocks.histogram, np.bincount(labels.astype(int), weights))
        if partitions == 3:
            assert blocks.partition_rows == [0, 300, 300]
            np.testing.assert_array_equal(found[:300], expected[::2])


def test_dealing_depends_on_the_seed_alone(cluster, data):
    found = []
    for seed in (1, 1, 2):
        with packed(cluster, data, 2, seed=seed) as blocks:
            found.append(content(blocks))
            checksums = [item.block.checksum for item in blocks.packed]
        found[-1] = (found[-1].tobytes(), checksums)
    assert found[0] == found[1] != found[2]


def test_rows_sorted_by_a_value_are_dealt_before_minibatches(cluster, data):
    ordered = data.orderBy("weight").coalesce(2)
    with packed(cluster, ordered, 2, None, compare=True) as blocks:
        assert were_dealt(blocks)
    with packed(cluster, data, 3, None, compare=True) as blocks:
        assert not were_dealt(blocks)


def test_dealt_rows_that_came_twice_are_noticed(cluster, data):
    with packed(cluster, data, 2) as blocks:
        layout = Layout("features", 0, ("label",), 2, "weight", sparse=True)
        check_packed(blocks.packed, layout)
        first, second = blocks.packed
    lost = [replace(first.summaries[0], fingerprint=first.summaries[0].fingerprint + 1)]
    with pytest.raises(LostBlockError, match="came out twice, or not at all"):
        check_packed([replace(first, summaries=lost + first.summaries[1:]), second], layout)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("full", [True, False])
def test_moments_are_those_of_the_rows(cluster, spark, weighted, full):
    features, labels, weights = made(400)
    if full:
        features[:, 5], features[:, 6] = 0.1, 1e4 + features[:, 6]
    # One partition more than is filled, and none of a column that is set everywhere.
    data = spark.createDataFrame(in_parts(spark, parts_of(features, labels, weights)), SCHEMA)
    with packed(cluster, data, weighted=weighted, precise=True) as blocks:
        assert blocks.sparse
        mean, deviation = column_moments(blocks)
    stored = features.astype(np.float32).astype(np.float64)
    counts = weights if weighted else np.ones(400)
    centre = np.average(stored, axis=0, weights=counts)
    free = counts.sum() - (counts**2).sum() / counts.sum()
    np.testing.assert_allclose(mean, centre, rtol=1e-12, atol=1e-14)
    expected = np.sqrt(counts @ (stored - centre) ** 2 / free)
    np.testing.assert_allclose(deviation, expected, rtol=1e-10, atol=1e-12)
    # Never set, or constant: not by so little that scaling would blow it up.
    assert deviation[WIDTH - 1] == 0 and (not full or deviation[5] == 0)


class Counted:
    """A visitor that counts rows and adds up what they store."""

    def __call__(self, parameters, task, partition, rows: Rows, state) -> Answer:
        return Answer(1.0, np.array([rows.length, rows.features.sum(dtype=np.float64)]))


@pytest.mark.parametrize("damage", ["gone", "short", "directory"])
def test_a_block_that_is_not_whole_is_packed_again(cluster, data, damage):
    with packed(cluster, data) as blocks, Rounds(blocks, Counted()) as rounds:
        before = rounds.run(np.zeros(1), None, "counting").vector
        path = blocks.packed[1].block.path
        if damage == "directory":
            os.rename(path, path + ".away")
        elif damage == "gone":
            os.remove(os.path.join(path, "indices"))
        else:
            os.truncate(os.path.join(path, "values"), 8)
        np.testing.assert_array_equal(rounds.run(np.zeros(1), None, "again").vector, before)
        assert before[0] == 600


def test_no_file_is_left(cluster, data, block_files):
    with packed(cluster, data, 2) as blocks:
        assert {path.name for path in block_files()} > {"values", "indices", "pointers", "rest"}
        assert not any(path.suffix for path in block_files()), blocks
    assert block_files() == []


LBFGS = {"maxIter": 100, "tol": 1e-10, "weightCol": "weight", "regParam": 0.01}
SGD = {"maxIter": 2, "solver": "sgd", "blockSize": 32, "weightCol": "weight", "regParam": 0.01}


@pytest.mark.parametrize("settings", [LBFGS, SGD], ids=["l-bfgs", "sgd"])
def test_logistic_regression_is_that_of_dense_rows(data, dense_only, settings):
    sparse = LogisticRegression(**settings).fit(data)
    if settings is SGD:
        again = LogisticRegression(**settings).fit(data)
        np.testing.assert_array_equal(again.coefficients.array, sparse.coefficients.array)
    dense_only()
    dense = LogisticRegression(**settings).fit(data)
    largest = np.abs(dense.coefficients.array).max()
    off = np.abs(sparse.coefficients.array - dense.coefficients.array).max()
    assert 0 < off <= 1e-6 * largest
    assert sparse.intercept == pytest.approx(dense.intercept, abs=1e-6 * largest)


@pytest.mark.parametrize("standardization", [True, False])
def test_logistic_regression_reaches_mllibs_optimum(data, standardization):
    settings = {**LBFGS, "standardization": standardization}
    ours = LogisticRegression(**settings).fit(data)
    theirs = mllib.LogisticRegression(**settings).fit(data)
    expected = theirs.coefficients.toArray()
    np.testing.assert_allclose(
        ours.coefficients.array, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )
    objective = theirs.summary.objectiveHistory[-1]
    assert ours.training.objective_history[-1] == pytest.approx(objective, rel=1e-7)


def test_a_perceptron_is_that_of_dense_rows(data, dense_only):
    settings = {"layers": [WIDTH, 5, 2], "maxIter": 5}
    sparse = MultilayerPerceptronClassifier(**settings).fit(data).weights.toArray()
    dropping = MultilayerPerceptronClassifier(**settings, solver="sgd", dropout=[0.2, 0.0])
    assert np.isfinite(dropping.fit(data).weights.array).all()
    dense_only()
    dense = MultilayerPerceptronClassifier(**settings).fit(data).weights.toArray()
    np.testing.assert_allclose(sparse, dense, rtol=0, atol=1e-3 * np.abs(dense).max())


def test_a_network_trains_on_an_rdd_of_labels_and_sparse_vectors(spark, monkeypatch):
    features, labels, _ = made(300)
    pairs = [(float(y), sparse_vector(x)) for x, y in zip(features, labels, strict=True)]
    seen = []
    taken = sparknn.rows.better_sparse
    monkeypatch.setattr(
        "sparknn.blocks.better_sparse", lambda *shape: seen.append(taken(*shape)) or seen[-1]
    )
    network = Network([WIDTH, 2])
    for parts in ([pairs[::2], pairs[1::2]], [sorted(pairs, key=lambda pair: pair[0])]):
        sparse = train(network, in_parts(spark, parts), epochs=2, partitions=2)
        monkeypatch.setattr(sparknn.rows, "MOST_STORED", 0.0)
        dense = train(network, in_parts(spark, parts), epochs=2, partitions=2)
        monkeypatch.undo()
        np.testing.assert_allclose(sparse.theta, dense.theta, atol=1e-5)
        assert sparse.rows == 300
    assert seen[:2] == [True, False]


def test_invalid_rows_are_counted_and_the_first_is_named(spark):
    features, labels, weights = made(30)
    parts = parts_of(features, labels, weights)
    odd = sparse_vector(features[4])
    odd.values[0] = np.nan
    parts[2][3] = (odd, 1.0, 1.0)
    parts[2][5] = (Vectors.sparse(WIDTH + 1, []), 1.0, 1.0)
    data = spark.createDataFrame(in_parts(spark, parts), SCHEMA)
    with pytest.raises(InvalidDataError) as error:
        LogisticRegression().fit(data)
    assert "1 row is NaN, infinite or beyond 32-bit floats; the first is row 18" in str(error.value)
    assert f"1 row is not {WIDTH} values wide, as the first row is" in str(error.value)
    model = LogisticRegression(handleInvalid="skip", maxIter=3).fit(data)
    assert (model.training.rows, model.training.skipped) == (28, 2)


def test_a_million_columns_take_the_memory_of_what_is_set(spark, cluster):
    width, random = 10**6, np.random.default_rng(0)
    places = [np.sort(random.choice(width, 30, replace=False)) for _ in range(400)]
    rows = [
        (Vectors.sparse(width, place.tolist(), [1.0] * 30), float(index % 2), 1.0)
        for index, place in enumerate(places)
    ]
    data = spark.createDataFrame(in_parts(spark, [rows[::2], rows[1::2]]), SCHEMA)
    before = worker_peaks(spark)
    with packed(cluster, data, 2, weighted=False) as blocks:
        assert blocks.sparse and blocks.bytes < 400 * 30 * 8 + 400 * 20
        assert blocks.features == width
    model = LogisticRegression(maxIter=3, regParam=0.1).fit(data)
    assert np.count_nonzero(model.coefficients.toArray()) == len(np.unique(places))
    # Dense, one partition's rows alone would be 800 MB.
    assert max(worker_peaks(spark)) - max(before) < 400 * 2**20


def worker_peaks(spark) -> list[int]:
    """Return the most memory that each Python worker ever had, in bytes."""
    peaks = spark.sparkContext.parallelize(range(8), 8).map(
        lambda _: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return peaks.collect()
