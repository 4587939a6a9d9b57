"""Blocks of sparse rows: what is written comes back, and a block that is not whole is noticed."""

from __future__ import annotations

import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import csr_array

import sparknn.blockfiles
from sparknn.blockfiles import RESERVE_BYTES, DiskFull, Summary
from sparknn.dealing import SparseSpool, row_keys
from sparknn.rows import Faults
from sparknn.sparse import SparseRows
from sparknn.sparsefiles import PARTS, SparseWriter

WIDTH = 30


def some_window(rows=50, others=2, seed=0):
    """Return rows with a weight last, among them some that store nothing."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, WIDTH)) * (random.random((rows, WIDTH)) < 0.05)
    rest = random.integers(0, 4, (rows, others)).astype(np.float32)
    return SparseRows(csr_array(features.astype(np.float32)), rest)


def in_windows(window, count):
    return [window[part] for part in np.array_split(np.arange(len(window)), count)]


def packed(directory, windows, targets=1, weighted=True, classes=False, compare=False):
    with SparseWriter(str(directory), "block", targets, weighted) as writer:
        for window in windows:
            writer.add(window)
        return writer.finish(Summary(3, 50, Faults()), classes, compare)


@pytest.mark.parametrize("windows", [1, 3, 50])
def test_rows_come_back_as_they_were_written(tmp_path, windows):
    window = some_window()
    result = packed(tmp_path, in_windows(window, windows))
    rows = pickle.loads(pickle.dumps(result)).block.open()
    np.testing.assert_array_equal(rows.features.toarray(), window.features.toarray())
    np.testing.assert_array_equal(rows.targets, window.rest[:, :1])
    np.testing.assert_array_equal(rows.weights, window.rest[:, 1])
    assert rows.features.dtype == np.float32 and rows.features.indices.dtype == np.int32
    assert rows.offset is None and result.block.sparse
    assert os.listdir(tmp_path) == ["block"]
    sizes = [os.path.getsize(os.path.join(result.block.path, part)) for part in PARTS]
    assert result.block.bytes == sum(sizes)


def test_opened_rows_are_mapped_and_cannot_be_written_to(tmp_path):
    rows = packed(tmp_path, [some_window()]).block.open()
    for part in (rows.features.data, rows.features.indices, rows.targets):
        with pytest.raises(ValueError, match="read-only"):
            part[:1] = 1
    assert np.shares_memory(rows.between(10, 40).features.data, rows.features.data)


def test_without_targets_the_features_are_their_own(tmp_path):
    rows = packed(tmp_path, [some_window(others=0)], 0, False).block.open()
    assert rows.targets is rows.features and rows.weights is None
    assert rows.between(0, 5).length == 5


def test_stored_zeros_stay(tmp_path):
    window = some_window()
    window.features.data[:] = 0
    assert packed(tmp_path, [window]).block.open().features.nnz == window.features.nnz > 0


def test_rows_that_store_nothing_at_all_make_a_block(tmp_path):
    window = SparseRows(csr_array((4, WIDTH), dtype=np.float32), np.ones((4, 2), np.float32))
    rows = packed(tmp_path, [window]).block.open()
    assert rows.features.shape == (4, WIDTH) and rows.features.nnz == 0
    assert rows.between(1, 3).length == 2


def test_a_block_without_rows_opens_as_no_rows(tmp_path):
    assert packed(tmp_path, []).block.open().length == 0


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["gone", "short", "long"])
def test_a_block_of_which_a_file_is_gone_or_of_another_size_opens_as_none(tmp_path, part, damage):
    block = packed(tmp_path, [some_window()]).block
    path = os.path.join(block.path, part)
    assert block.open() is not None
    if damage == "gone":
        os.remove(path)
    else:
        os.truncate(path, os.path.getsize(path) + (4 if damage == "long" else -1))
    assert block.open() is None


def test_a_block_whose_directory_is_gone_opens_as_none(tmp_path):
    block = packed(tmp_path / "fit", [some_window()]).block
    shutil.rmtree(tmp_path / "fit")
    assert block.open() is None


def test_checksum_is_of_the_content_and_not_of_the_windows(tmp_path):
    window = some_window()
    checksums = {packed(tmp_path / str(n), in_windows(window, n)).block.checksum for n in (1, 2, 9)}
    assert len(checksums) == 1
    moved = window[np.arange(50)]
    moved.features.indices[0] = (moved.features.indices[0] + 1) % WIDTH
    larger = window[np.arange(50)]
    larger.features.data[-1] += 1
    others = [window[np.arange(49)], window[np.arange(50)[::-1]], moved, larger]
    others.append(SparseRows(window.features, window.rest + 1))
    for number, other in enumerate(others):
        assert packed(tmp_path / f"o{number}", [other]).block.checksum not in checksums


def test_summary_holds_weights_and_histogram_and_no_moments(tmp_path):
    window = some_window()
    (summary,) = packed(tmp_path, in_windows(window, 4), classes=True).summaries
    labels, weights = window.rest.astype(np.float64).T
    assert summary.weight == weights.sum() and summary.weight_squares == (weights**2).sum()
    np.testing.assert_array_equal(summary.histogram, np.bincount(labels.astype(int), weights))
    assert len(summary.sums) == len(summary.squares) == 0


@pytest.mark.parametrize("most", [512, 7])
def test_segments_are_means_and_mean_squares_of_columns_spread_over_all(
    tmp_path, monkeypatch, most
):
    monkeypatch.setattr(sparknn.blockfiles, "MOST_COMPARED", most)
    window = some_window()
    (summary,) = packed(tmp_path, [window], compare=True).summaries
    step = 1 if most > WIDTH else 5
    values = np.column_stack([window.features.toarray()[:, ::step], window.rest[:, 0]])
    sizes, width = summary.segments[:, 0], values.shape[1]
    assert summary.segments.shape[1] == 1 + 2 * width and sizes.sum() == 50
    pieces = np.split(values.astype(np.float64), sizes.cumsum().astype(int)[:-1])
    means, squares = summary.segments[:, 1 : 1 + width], summary.segments[:, 1 + width :]
    np.testing.assert_allclose(means, [piece.mean(axis=0) for piece in pieces], atol=1e-12)
    np.testing.assert_allclose(squares, [(piece**2).mean(axis=0) for piece in pieces], rtol=1e-6)


def test_a_disk_that_fills_up_midway_is_left_without_a_file(tmp_path, monkeypatch):
    free = iter([10 * RESERVE_BYTES, 10 * RESERVE_BYTES, RESERVE_BYTES])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free)))
    with pytest.raises(DiskFull):
        packed(tmp_path, in_windows(some_window(), 4))
    assert os.listdir(tmp_path) == []


def test_a_block_takes_its_name_only_when_it_is_complete(tmp_path):
    with pytest.raises(KeyError), SparseWriter(str(tmp_path), "block", 1, True) as writer:
        writer.add(some_window())
        assert os.listdir(tmp_path) == ["block.part"]
        raise KeyError
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("parts", [1, 13])
def test_a_spool_gives_sparse_rows_by_key_however_they_came(tmp_path, parts, others):
    window, keys = some_window(200, others), row_keys(3, 0, np.arange(200))
    with SparseSpool(str(tmp_path / "spool"), WIDTH, others) as spool:
        for piece in np.array_split(np.random.default_rng(parts).permutation(200), parts):
            spool.add(keys[piece], window[piece])
        windows = list(spool.windows())
    found = np.vstack([each.features.toarray() for each in windows])
    np.testing.assert_array_equal(found, window.features.toarray()[np.argsort(keys)])
    rest = np.vstack([each.rest for each in windows])
    np.testing.assert_array_equal(rest, window.rest[np.argsort(keys)])
    assert len(windows) > 1 and os.listdir(tmp_path) == []


def test_a_spool_of_rows_without_a_word_keeps_their_number(tmp_path):
    window = SparseRows(csr_array((5, WIDTH), dtype=np.float32), np.empty((5, 0), np.float32))
    with SparseSpool(str(tmp_path / "spool"), WIDTH, 0) as spool:
        spool.add(row_keys(0, 0, np.arange(5)), window)
        assert sum(map(len, spool.windows())) == 5
