"""Sparse rows in the numbers' floor: the same as the dense rows they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array, issparse

import sparknn.objective
from sparknn.dealing import fingerprint
from sparknn.linear import LinearObjective
from sparknn.network import Network
from sparknn.objective import Rows
from sparknn.products import Product, TransposedProduct
from sparknn.sparse import SparseRows, between, csr


def some_features(rows=60, width=40, share=0.1, seed=0):
    """Return dense rows of which few values are set, with an empty row and an empty column."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, width)) * (random.random((rows, width)) < share)
    features[7], features[:, 3] = 0, 0
    return features.astype(np.float32)


def some_rows(features, units=1, weighted=False):
    random = np.random.default_rng(1)
    labels = random.integers(0, max(units, 2), (len(features), 1)).astype(np.float32)
    weights = random.uniform(0.2, 3, len(features)).astype(np.float32) if weighted else None
    return Rows(features, labels, weights)


def as_sparse(rows: Rows) -> Rows:
    return rows._replace(features=csr_array(rows.features))


def gradient_of(objective, theta, rows, *others):
    out = np.full(objective.size, np.nan, objective.dtype)
    return objective.gradient(theta, rows, out, *others), out


def test_csr_takes_its_arrays_as_they_are():
    values, indices = np.arange(5, dtype=np.float32), np.array([1, 3, 0, 2, 3], np.int32)
    rows = csr(values, indices, np.array([10, 12, 12, 15]), 4)
    assert rows.data is values and rows.indices is indices and rows.indptr.dtype == np.int32
    np.testing.assert_array_equal(rows.toarray(), [[0, 0, 0, 1], [0] * 4, [2, 0, 3, 4]])


@pytest.mark.parametrize(("start", "stop"), [(0, 60), (5, 9), (7, 8), (0, 0), (50, 99), (60, 70)])
def test_some_rows_are_views_of_all(start, stop):
    dense = some_features()
    rows = csr_array(dense)
    part = between(rows, start, stop)
    np.testing.assert_array_equal(part.toarray(), dense[start:stop])
    assert not part.nnz or np.shares_memory(part.data, rows.data)
    assert not part.nnz or np.shares_memory(part.indices, rows.indices)


@pytest.mark.parametrize("rows", [1, 3, 60], ids=["few columns met", "some", "most"])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (5,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transposed_products_are_the_dense_ones(rows, shape, dtype):
    features = some_features()[:rows]
    delta = np.random.default_rng(2).normal(size=(rows, *shape)).astype(dtype)
    for given in (features.astype(dtype), csr_array(features.astype(dtype))):
        out = np.full((40, *shape), np.nan, dtype)
        TransposedProduct(given, delta, out).make()
        np.testing.assert_allclose(out, features.T @ delta, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("units", [1, 2, 3, 4, 5, 10])
def test_products_are_the_dense_ones(units, dtype):
    features = some_features().astype(dtype)
    weights = np.random.default_rng(2).normal(size=(40, units)).astype(dtype)
    for given in (features, csr_array(features)):
        for cast in (np.float32, np.float64):
            found = np.full((60, units), np.nan, cast)
            Product(given, weights, found).make()
            np.testing.assert_allclose(found, features @ weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("units", [1, 4])
@pytest.mark.parametrize("count", [60, 2])
def test_linear_gradient_is_that_of_the_dense_rows(units, intercept, weighted, count):
    features = some_features()
    centre = features.mean(axis=0) if intercept else np.zeros(40)
    objective = LinearObjective(centre, features.std(axis=0), units, intercept)
    theta = np.random.default_rng(3).normal(size=objective.size)
    rows = some_rows(features, units, weighted).between(0, count)
    for precise, tolerance in ((True, 1e-12), (False, 1e-4)):
        objective.precise = precise
        answer, expected = gradient_of(objective, theta, rows)
        sparse_answer, found = gradient_of(objective, theta, as_sparse(rows))
        assert sparse_answer == pytest.approx(answer, rel=tolerance)
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("layers", [[40, 3], [40, 8, 5, 3], [40, 1]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_network_gradient_is_that_of_the_dense_rows(layers, dtype):
    network = Network(layers, "tanh", dtype=dtype)
    theta = network.initial(5).astype(dtype)
    rows = some_rows(some_features(), layers[-1], weighted=True)
    answer, expected = gradient_of(network, theta, rows)
    sparse_answer, found = gradient_of(network, theta, as_sparse(rows))
    assert sparse_answer == pytest.approx(answer, rel=1e-6)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    scores = network.scores(theta, csr_array(rows.features))
    np.testing.assert_allclose(scores, network.scores(theta, rows.features), rtol=1e-5, atol=1e-6)


def test_dropped_inputs_are_drawn_among_the_stored_values_and_scaled_up():
    network = Network([40, 2], dropout=[0.25])
    rows = as_sparse(Rows(np.eye(40, dtype=np.float32).repeat(50, 0), np.zeros((2000, 1))))
    theta = np.zeros(network.size, np.float32)
    _, found = gradient_of(network, theta, rows, np.random.default_rng(0))
    # Every column is set in 50 rows of 2000, with a delta of -1/2: kept, it counts 4/3.
    kept = found[:80:2] * -2 * 2000 / (4 / 3)
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-3)
    assert kept.sum() == pytest.approx(1500, abs=100) and kept.std() > 1
    assert set(rows.features.data) == {1.0}


def test_chunks_of_sparse_rows_go_by_what_is_stored(monkeypatch):
    monkeypatch.setattr(sparknn.objective, "STORED", 30)
    features = some_features(600, 40, 0.1)
    rows = some_rows(features, weighted=True)
    chunks = list(as_sparse(rows).chunks(4))
    # Four times the width is 160 values, about 40 rows of four.
    assert 100 < chunks[0].features.nnz < 230
    assert {len(chunk.targets) for chunk in chunks[:-1]} == {chunks[0].length}
    joined = np.vstack([chunk.features.toarray() for chunk in chunks])
    np.testing.assert_array_equal(joined, features)
    assert [chunk.length for chunk in rows.chunks(250)] == [250, 250, 100]
    assert [chunk.length for chunk in as_sparse(rows).chunks(300)] == [300, 300]


def test_chunks_of_rows_without_a_stored_value_are_all_the_rows():
    rows = as_sparse(some_rows(np.zeros((70, 40), np.float32)))
    assert [chunk.length for chunk in rows.chunks(4)] == [70]


def test_rows_that_are_their_own_targets_stay_so_in_part():
    features = csr_array(some_features())
    part = Rows(features, features).between(3, 9)
    assert part.targets is part.features and issparse(part.targets) and part.length == 6


def sparse_window(others, seed=0, rows=50):
    features = csr_array(some_features(rows, seed=seed))
    features.data[::5] = 0
    rest = np.random.default_rng(seed).normal(size=(rows, others)).astype(np.float32)
    return SparseRows(features, rest)


def assert_equal_rows(found: SparseRows, expected: SparseRows):
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(
            getattr(found.features, part), getattr(expected.features, part)
        )
    np.testing.assert_array_equal(found.rest, expected.rest)
    assert found.features.shape == expected.features.shape


@pytest.mark.parametrize("others", [0, 1, 3])
def test_encoded_rows_come_back_with_their_stored_zeros(others):
    window = sparse_window(others)
    words, lengths = window.encoded()
    assert words.dtype == np.int32 and len(words) == lengths.sum()
    assert lengths[7] == others
    assert_equal_rows(SparseRows.decoded(words, lengths, 40, others), window)
    # Any run of rows can be cut out.
    part = words[lengths[:10].sum() : lengths[:30].sum()]
    chosen = np.arange(10, 30)
    assert_equal_rows(SparseRows.decoded(part, lengths[10:30], 40, others), window[chosen])


def test_fingerprints_of_sparse_rows_add_up_and_notice_what_changes():
    window = sparse_window(2)
    order = np.random.default_rng(4).permutation(50)
    whole = fingerprint(window)
    parts = fingerprint(window[order[:13]]) + fingerprint(window[order[13:]])
    assert (whole - parts) % 2**64 == 0
    twice = window[np.append(np.arange(49), 0)]
    moved = SparseRows(window.features.copy(), window.rest)
    moved.features.indices[0] += 1
    other = SparseRows(window.features, window.rest + 1)
    without_zeros = SparseRows(csr_array(window.features.toarray()), window.rest)
    for changed in (twice, moved, other, without_zeros):
        assert (whole - fingerprint(changed)) % 2**64 != 0
