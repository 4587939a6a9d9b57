"""Rows of a sparse layout: the same values as dense ones, and the same faults."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyspark.ml.linalg import Vectors
from test_rows import VECTOR, batch, noted, vectors

import sparknn.rows
from sparknn.rows import Layout, Parser, better_sparse

ROWS = [
    (4, [1, 3], [2.0, -1.0]),
    [0.0, 0.0, 5.0, 0.0],
    (4, [], []),
    (4, [0, 1, 2, 3], [1.0, 0.0, 3.0, 4.0]),
    [0.0] * 4,
    (4, [2], [7.0]),
]
DENSE = [[0, 2, 0, -1], [0, 0, 5, 0], [0] * 4, [1, 0, 3, 4], [0] * 4, [0, 0, 7, 0]]


def parsed(layout, *batches, objects=None, labelled=True):
    """Return a parser with all it has met: positions, features made dense, and the rest."""
    parser = Parser(layout)
    given = parser.batches(batches) if objects is None else parser.objects(objects, labelled)
    windows = list(given)
    positions = np.concatenate([each for each, _ in windows])
    features = np.vstack([rows.features.toarray() for _, rows in windows])
    return parser, positions.tolist(), features, np.vstack([rows.rest for _, rows in windows])


def sparse(**others):
    return Layout(width=4, sparse=True, **others)


def test_dense_and_sparse_vectors_become_sparse_rows():
    layout = sparse(targets=("y",), weight="w")
    given = batch(vectors(ROWS), np.arange(6.0), np.full(6, 0.5))
    parser, positions, features, rest = parsed(layout, given)
    np.testing.assert_array_equal(features, DENSE)
    np.testing.assert_array_equal(rest, np.column_stack([np.arange(6), np.full(6, 0.5)]))
    assert positions == list(range(6)) and not parser.faults.entries
    assert rest.dtype == features.dtype == np.float32


def test_zeros_are_stored_where_sparse_vectors_store_them_and_dropped_from_dense_ones():
    (_, rows), *_ = Parser(sparse()).batches([batch(vectors(ROWS))])
    assert np.diff(rows.features.indptr).tolist() == [2, 1, 0, 4, 0, 1]


@pytest.mark.parametrize("start", range(6))
def test_slices_of_batches_give_just_their_rows(start):
    given = batch(vectors([None, *ROWS, (3, [0], [1.0])])).slice(start, 4)
    _, _, features, _ = parsed(sparse(), given)
    np.testing.assert_array_equal(features, ([None, *DENSE])[start : start + 4][start == 0 :])


def test_large_batches_are_cut_into_windows_in_order(monkeypatch):
    monkeypatch.setattr(sparknn.rows, "WINDOW_BYTES", 64)
    parser = Parser(sparse())
    windows = list(parser.batches([batch(vectors(ROWS)), batch(vectors(ROWS))]))
    assert len(windows) > 4
    assert np.concatenate([positions for positions, _ in windows]).tolist() == list(range(12))
    np.testing.assert_array_equal(
        np.vstack([rows.features.toarray() for _, rows in windows]), DENSE + DENSE
    )


def test_windows_of_a_million_columns_are_as_small_as_what_they_store():
    rows = [(2**24, [k, 2**24 - 1], [1.0, 2.0]) for k in range(3000)]
    parser = Parser(Layout(width=2**24, sparse=True))
    (_, window), *more = parser.batches([batch(vectors(rows))])
    assert not more and window.features.shape == (3000, 2**24) and window.features.nnz == 6000


BROKEN = "indices do not ascend from 0 to 3"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (None, "null"),
        ((3, [0], [1.0]), "not 4 values wide"),
        ([1.0] * 5, "not 4 values wide"),
        ((4, [1, 4], [1.0, 1.0]), BROKEN),
        ((4, [-1, 2], [1.0, 1.0]), BROKEN),
        ((4, [2, 1], [1.0, 1.0]), BROKEN),
        ((4, [1, 1], [1.0, 1.0]), BROKEN),
        ((4, [1, 2], [1.0]), BROKEN),
        ((4, [1, None], [1.0, 1.0]), BROKEN),
        ((4, [1, 2], [1.0, math.nan]), "NaN, infinite"),
        ((4, [1, 2], [-math.inf, 1.0]), "NaN, infinite"),
        ((4, [1, 2], [1.0, 1e39]), "NaN, infinite"),
        ((4, [1, 2], [None, 1.0]), "NaN, infinite"),
        ([0.0, math.nan, 0.0, 0.0], "NaN, infinite"),
    ],
)
@pytest.mark.parametrize("is_sparse", [True, False], ids=["sparse layout", "dense layout"])
def test_invalid_rows_are_counted_and_the_first_is_named(bad, words, is_sparse):
    given = batch(vectors([*ROWS[:3], bad, ROWS[3], bad, *ROWS[4:]]))
    parser = Parser(Layout(width=4, sparse=is_sparse))
    windows = list(parser.batches([given]))
    ((count, position, example),) = parser.faults.entries.values()
    ((column, reason),) = parser.faults.entries
    assert (count, position, column) == (2, 3, "features") and words in reason
    assert ("at index" in example) == ("NaN" in words)
    rows = np.vstack([w.features.toarray() if is_sparse else w for _, w in windows])
    np.testing.assert_array_equal(rows, DENSE)
    assert parser.seen == 8 and parser.kept == 6


def test_the_invalid_value_of_a_sparse_row_is_named_with_its_place():
    given = batch(vectors([(4, [1, 3], [1.0, math.nan])]))
    parser = Parser(sparse())
    assert not list(parser.batches([given]))
    assert noted(parser, "features", "NaN") == (1, 0, "nan at index 3")


def test_labels_and_weights_are_checked_as_in_a_dense_layout():
    layout = sparse(targets=("y",), classes=3, weight="w")
    columns = [[0.0, 1.5, 2.0, 3.0, None, 1.0], [1.0, 1.0, -1.0, 1.0, 1.0, 1.0]]
    given = batch(vectors(ROWS), *[pa.array(column, pa.float64()) for column in columns])
    parser, positions, features, _ = parsed(layout, given)
    assert positions == [0, 5] and len(parser.faults.entries) == 4
    np.testing.assert_array_equal(features, [DENSE[0], DENSE[5]])


def test_objects_become_sparse_rows():
    objects = [
        (0.0, Vectors.sparse(4, [1, 3], [2.0, -1.0])),
        SimpleNamespace(label=1.0, features=Vectors.dense(0, 0, 5, 0)),
        (1, [0, 0, 7.0, 0]),
        (1.0, np.zeros(4)),
    ]
    parser, positions, features, rest = parsed(sparse(targets=("y",)), objects=objects)
    np.testing.assert_array_equal(features, [DENSE[0], DENSE[1], DENSE[5], [0] * 4])
    assert rest.ravel().tolist() == [0, 1, 1, 1] and positions == [0, 1, 2, 3]
    assert not parser.faults.entries


def test_invalid_objects_are_counted():
    def broken(indices, values):
        return SimpleNamespace(size=4, indices=indices, values=values)

    fine = Vectors.sparse(4, [1], [2.0])
    objects = [
        fine,
        None,
        "abcd",
        Vectors.sparse(5, []),
        [1.0, 2.0],
        broken([1, 9], [1.0, 1.0]),
        broken([2, 1], [1.0, 1.0]),
        broken([1, 2, 3], [1.0]),
        broken([2], [math.nan]),
        fine,
    ]
    parser, positions, features, _ = parsed(sparse(), objects=objects, labelled=False)
    assert positions == [0, 9]
    np.testing.assert_array_equal(features, [[0, 2, 0, 0]] * 2)
    assert noted(parser, "features", "null")[:2] == (2, 1)
    assert noted(parser, "features", "wide")[:2] == (2, 3)
    assert noted(parser, "features", BROKEN)[:2] == (3, 5)
    assert noted(parser, "features", "NaN") == (1, 8, "nan at index 2")


def test_a_parser_with_its_faults_travels():
    parser = Parser(sparse())
    list(parser.batches([batch(pa.array([None], VECTOR))]))
    assert pickle.loads(pickle.dumps(parser)).faults == parser.faults


@pytest.mark.parametrize(
    ("width", "stored", "expected"),
    [(1000, 30, True), (1000, 60, False), (20, 0.1, False), (2**22, 2**22, True)],
)
def test_rows_are_better_sparse_where_they_are_wide_and_little_is_set(width, stored, expected):
    assert better_sparse(width, stored) == expected
