"""Dealing rows at random, reproducibly, and judging whether they need to be dealt."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kstest

from sparknn.blockfiles import RESERVE_BYTES, BlockWriter, DiskFull, Summary
from sparknn.dealing import WINDOW_BYTES, Spool, alike, row_keys
from sparknn.rows import Faults

POSITIONS = np.arange(20_000)


def test_keys_are_distinct_over_partitions_and_positions():
    keys = np.concatenate([row_keys(7, partition, POSITIONS) for partition in range(10)])
    assert keys.dtype == np.uint64 and len(np.unique(keys)) == 200_000


def test_keys_are_distinct_far_out():
    places = [(0, 2**40 - 1), (1, 0), (1, 2**40 - 1), (2, 0), (2**20, 5), (0, 0)]
    keys = [row_keys(1, partition, np.array([position]))[0] for partition, position in places]
    assert len(set(keys)) == len(places)


@pytest.mark.parametrize("seed", [0, 1, -1, -(2**63), 2**63 - 1, 2**64 - 1])
def test_a_key_depends_on_the_place_and_seed_alone(seed):
    keys = row_keys(seed, 3, POSITIONS)
    np.testing.assert_array_equal(row_keys(seed, 3, POSITIONS), keys)
    np.testing.assert_array_equal(row_keys(seed, 3, POSITIONS[::-7]), keys[::-7])
    np.testing.assert_array_equal(row_keys(seed, 3, POSITIONS.astype(np.int32)), keys)
    assert (row_keys(seed, 4, POSITIONS) != keys).all()


def test_keys_are_the_same_in_every_release():
    # The third and the first value of SplitMix64 from 0, less its own first step.
    assert row_keys(0, 0, np.array([0]))[0] == 0
    assert [hex(key) for key in row_keys(0, 0, np.array([1, 2, 3]))] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_keys_differ_by_seed():
    keys = row_keys(1, 0, POSITIONS)
    for seed in (2, -1, 1 + 2**32, 12345):
        assert (row_keys(seed, 0, POSITIONS) != keys).all()


def test_adjacent_seeds_give_unrelated_orders():
    keys = [row_keys(seed, 0, POSITIONS) for seed in (5, 6)]
    assert not len(np.intersect1d(*keys))


@pytest.mark.parametrize("seed", [0, 1, -5])
@pytest.mark.parametrize("partition", [0, 1, 1000])
def test_keys_are_uniform_and_unrelated_to_the_position(seed, partition):
    keys = row_keys(seed, partition, POSITIONS)
    assert kstest(keys / 2.0**64, "uniform").pvalue > 1e-4
    for shift in (0, 8, 24, 40, 56):
        counts = np.bincount(((keys >> np.uint64(shift)) & np.uint64(255)).astype(int))
        chi_square = ((counts - 20_000 / 256) ** 2).sum() / (20_000 / 256)
        assert chi_square < 255 + 6 * np.sqrt(2 * 255)
    assert abs(np.corrcoef(keys / 2.0**64, POSITIONS)[0, 1]) < 0.03
    assert abs(np.corrcoef(keys[1:] / 2.0**64, keys[:-1] / 2.0**64)[0, 1]) < 0.03


def spooled(path, keys, rows, pieces, dtype=np.float32):
    """Return what a spool gives back of keyed rows that it was given in these pieces."""
    with Spool(str(path), dtype) as spool:
        for piece in pieces:
            spool.add(keys[piece], rows[piece])
        windows = list(spool.windows())
    return windows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [1, 2, 13, 500])
def test_a_spool_gives_rows_by_key_however_they_came(tmp_path, parts, dtype):
    keys = row_keys(3, 0, np.arange(500))
    rows = np.random.default_rng(0).normal(size=(500, 3)).astype(dtype)
    order = np.random.default_rng(parts).permutation(500)
    windows = spooled(tmp_path / "spool", keys, rows, np.array_split(order, parts), dtype)
    result = np.vstack(windows)
    np.testing.assert_array_equal(result, rows[np.argsort(keys)])
    assert result.dtype == dtype
    assert 1 < len(windows) <= 64
    assert os.listdir(tmp_path) == []


def test_rows_are_read_in_runs_of_many_however_small_the_pieces_were(tmp_path):
    count = WINDOW_BYTES // 400
    keys = row_keys(3, 0, np.arange(count))
    rows = np.random.default_rng(0).normal(size=(count, 100)).astype(np.float32)
    with Spool(str(tmp_path / "spool"), np.float32) as spool:
        for piece in np.array_split(np.arange(count), 500):
            spool.add(keys[piece], rows[piece])
        found = np.vstack(list(spool.windows()))
        assert sum(map(len, spool.runs)) <= 2 * len(spool.runs)
    np.testing.assert_array_equal(found, rows[np.argsort(keys)])


def test_a_spool_converts_rows_to_its_type(tmp_path):
    keys, rows = row_keys(0, 0, np.arange(5)), np.arange(10.0).reshape(5, 2)
    windows = spooled(tmp_path / "spool", keys, rows, [slice(None)], np.float32)
    assert all(window.dtype == np.float32 for window in windows)
    np.testing.assert_array_equal(np.vstack(windows), rows[np.argsort(keys)])


def test_a_spool_takes_rows_without_any_among_others(tmp_path):
    keys, rows = row_keys(0, 0, np.arange(5)), np.arange(10.0).reshape(5, 2)
    none = slice(0, 0)
    windows = spooled(tmp_path / "spool", keys, rows, [none, slice(0, 2), none, slice(2, 5), none])
    np.testing.assert_array_equal(np.vstack(windows), rows[np.argsort(keys)])


def test_a_spool_without_rows_gives_none_and_leaves_no_file(tmp_path):
    assert spooled(tmp_path / "fit" / "spool", np.empty(0, np.uint64), np.empty((0, 2)), []) == []
    assert os.listdir(tmp_path / "fit") == []


def test_a_spool_leaves_keys_and_rows_as_they_are(tmp_path):
    keys, rows = row_keys(0, 0, np.arange(50)), np.arange(100.0).reshape(50, 2)
    before = keys.copy(), rows.copy()
    for window in spooled(tmp_path / "spool", keys, rows, [slice(None)], np.float64):
        window += 1
    np.testing.assert_array_equal(keys, before[0])
    np.testing.assert_array_equal(rows, before[1])


def test_a_spools_windows_can_be_asked_for_again(tmp_path):
    keys, rows = row_keys(0, 0, np.arange(300)), np.arange(600.0).reshape(300, 2)
    with Spool(str(tmp_path / "spool"), np.float64) as spool:
        spool.add(keys, rows)
        for window in spool.windows():
            window += 1
        np.testing.assert_array_equal(np.vstack(list(spool.windows())), rows[np.argsort(keys)])


def test_a_spools_file_is_gone_after_an_exception(tmp_path):
    with pytest.raises(KeyError), Spool(str(tmp_path / "spool"), np.float32) as spool:
        spool.add(row_keys(0, 0, np.arange(5)), np.ones((5, 2)))
        assert os.listdir(tmp_path) == ["spool"]
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_spool_on_a_full_disk_raises_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=RESERVE_BYTES))
    with pytest.raises(DiskFull), Spool(str(tmp_path / "spool"), np.float32) as spool:
        spool.add(row_keys(0, 0, np.arange(5)), np.ones((5, 2)))
        list(spool.windows())
    assert os.listdir(tmp_path) == []


@pytest.fixture
def segments(tmp_path):
    """A function from partitions' rows to their segments, as packing them gives."""

    def described(partitions, classes):
        pieces = []
        for rows in partitions:
            rows = np.reshape(rows, (len(rows), -1)).astype(np.float64)
            # Labels are targets after a feature; values are features that are their own targets.
            rows = np.hstack([np.zeros((len(rows), 1)), rows]) if classes else rows
            with BlockWriter(str(tmp_path), "block", int(classes), False) as writer:
                writer.add(rows)
                result = writer.finish(Summary(0, len(rows), Faults()), classes, compare=True)
            pieces.append(result.summaries[0].segments)
        return pieces

    return described


def shuffled_labels(count, classes, seed):
    return np.random.default_rng(seed).integers(0, classes, count)


@pytest.mark.parametrize(
    ("count", "classes", "partitions"),
    [(20, 2, 2), (150, 3, 2), (150, 3, 4), (1000, 10, 8), (10_000, 10, 4), (50_000, 2, 50)],
)
def test_shuffled_classes_are_alike(segments, count, classes, partitions):
    for seed in range(20 if count <= 1000 else 4):
        labels = shuffled_labels(count, classes, seed)
        assert alike(segments(np.array_split(labels, partitions), classes=True)), seed


@pytest.mark.parametrize(
    ("count", "columns", "partitions"),
    [(20, 2, 2), (150, 4, 2), (1000, 30, 8), (10_000, 5, 4), (50_000, 3, 50)],
)
def test_shuffled_values_are_alike(segments, count, columns, partitions):
    for seed in range(20 if count <= 1000 else 4):
        random = np.random.default_rng(seed)
        # Bell-shaped, even and skewed columns of all sizes, far from zero too.
        values = random.normal(size=(count, columns))
        values[:, ::3] = random.uniform(-1, 3, values[:, ::3].shape) * 1e4
        values[:, 1::3] = random.exponential(0.01, values[:, 1::3].shape) + 1
        assert alike(segments(np.array_split(values, partitions), classes=False)), seed


@pytest.mark.parametrize(
    ("count", "rare", "partitions"), [(10_000, 500, 8), (20_000, 200, 8), (3000, 100, 2)]
)
def test_shuffled_classes_of_which_one_is_uncommon_are_alike(segments, count, rare, partitions):
    for seed in range(5):
        labels = shuffled_labels(count, 2, seed)
        labels[np.random.default_rng(seed + 100).permutation(count)[:rare]] = 2
        assert alike(segments(np.array_split(labels, partitions), classes=True)), seed


@pytest.mark.parametrize(
    ("count", "rare", "partitions"),
    [(1000, 1, 8), (10_000, 1, 8), (10_000, 2, 8), (100_000, 1, 50), (100_000, 30, 50)],
)
def test_shuffled_classes_of_which_one_is_rare_are_alike(segments, count, rare, partitions):
    for seed in range(3):
        labels = shuffled_labels(count, 2, seed)
        labels[np.random.default_rng(seed + 100).permutation(count)[:rare]] = 2
        assert alike(segments(np.array_split(labels, partitions), classes=True)), seed


@pytest.mark.parametrize("kind", ["seldom set", "heavy-tailed"])
def test_shuffled_values_of_which_few_stand_out_are_alike(segments, kind):
    for seed in range(3):
        random = np.random.default_rng(seed)
        values = random.random((20_000, 5)) < 2e-4
        if kind == "heavy-tailed":
            values = np.exp(2.5 * random.normal(size=(20_000, 5)))
        assert alike(segments(np.array_split(values, 16), classes=False)), seed


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize(
    ("count", "kinds", "partitions"),
    [(150, 3, 2), (150, 3, 4), (100, 2, 2), (1000, 10, 2), (20_000, 10, 8), (50_000, 2, 50)],
)
def test_data_sorted_by_label_is_unlike(segments, count, kinds, partitions, classes):
    labels = np.sort(shuffled_labels(count, kinds, 0))
    assert not alike(segments(np.array_split(labels, partitions), classes))


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize(
    ("count", "kinds", "partitions"), [(150, 3, 2), (1000, 10, 4), (20_000, 10, 8)]
)
def test_partitions_that_are_alike_but_sorted_within_are_unlike(
    segments, count, kinds, partitions, classes
):
    parts = np.array_split(shuffled_labels(count, kinds, 0), partitions)
    assert not alike(segments([np.sort(part) for part in parts], classes))


def test_one_partition_that_is_sorted_within_is_unlike(segments):
    labels = np.sort(shuffled_labels(2000, 5, 0))
    assert not alike(segments([labels], classes=True))
    assert alike(segments([np.random.default_rng(0).permutation(labels)], classes=True))


@pytest.mark.parametrize("odd", [0, 17, 49])
def test_one_odd_partition_among_fifty_is_unlike(segments, odd):
    labels = np.array_split(shuffled_labels(50_000, 10, 0), 50)
    labels[odd] = np.full_like(labels[odd], 3)
    assert not alike(segments(labels, classes=True))
    values = np.array_split(np.random.default_rng(0).normal(size=(50_000, 3)), 50)
    values[odd] = values[odd] + [0, 2, 0]
    assert not alike(segments(values, classes=False))


def test_a_class_that_one_partition_alone_has_is_unlike(segments):
    labels = [shuffled_labels(5000, 2, seed) for seed in range(4)]
    labels[2][:1000] = 2
    np.random.default_rng(0).shuffle(labels[2])
    assert not alike(segments(labels, classes=True))
    labels[2][labels[2] == 2] = 1
    labels = [shuffled_labels(5000, 2, seed) for seed in range(4)]
    assert alike(segments(labels, classes=True))


def test_a_column_that_drifts_slowly_through_the_data_is_unlike(segments):
    values = np.random.default_rng(0).normal(size=(40_000, 3))
    values[:, 1] += np.linspace(-0.5, 0.5, 40_000)
    assert not alike(segments(np.array_split(values, 8), classes=False))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -3e-8])
def test_constant_columns_are_alike(segments, value):
    assert alike(segments([np.full((1000, 2), value)] * 3, classes=False))
    values = np.random.default_rng(0).normal(size=(3000, 2))
    values[:, 1] = value
    assert alike(segments(np.array_split(values, 3), classes=False))


def test_a_single_class_is_alike(segments):
    assert alike(segments([np.zeros(1000)] * 3, classes=True))


def test_nothing_and_a_single_piece_are_alike(segments):
    assert alike([])
    (pieces,) = segments([np.arange(100.0)], classes=False)
    assert alike([pieces[:1]])
    assert not alike([pieces])


def test_partitions_may_be_of_different_sizes(segments):
    labels = shuffled_labels(20_000, 3, 0)
    parts = np.split(labels, [10, 300, 12_000])
    assert alike(segments(parts, classes=True))
    parts[1] = np.zeros_like(parts[1])
    assert not alike(segments(parts, classes=True))
