"""Block files: what is written comes back, and a file that is not what it was is noticed."""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
import shutil
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import sparknn.blockfiles
from sparknn.blockfiles import (
    RESERVE_BYTES,
    SEGMENTS,
    Block,
    BlockWriter,
    DiskFull,
    Summary,
    check_space,
)
from sparknn.dealing import alike
from sparknn.rows import Faults


def some_rows(count=50, columns=5, seed=0):
    return np.random.default_rng(seed).normal(size=(count, columns))


def packed(
    directory,
    windows,
    targets=1,
    weighted=False,
    *,
    shift=False,
    moments=False,
    classes=False,
    compare=False,
    name="block",
):
    """Write windows of rows to a block; they are copied, because a writer may work on them."""
    with BlockWriter(str(directory), name, targets, weighted, shift, moments) as writer:
        for window in windows:
            writer.add(window.copy())
        report = Summary(3, sum(len(window) for window in windows), Faults())
        return writer.finish(report, classes, compare)


def summary_of(result):
    (summary,) = result.summaries
    return summary


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("windows", [1, 3, 50])
def test_rows_come_back_as_they_were_written(tmp_path, windows, dtype):
    rows = some_rows().astype(dtype)
    block = packed(tmp_path, np.array_split(rows, windows), targets=2, weighted=True).block
    assert (block.rows, block.features, block.targets, block.columns) == (50, 2, 2, 5)
    opened = block.open()
    rows32 = rows.astype(np.float32)
    np.testing.assert_array_equal(opened.features, rows32[:, :2])
    np.testing.assert_array_equal(opened.targets, rows32[:, 2:4])
    np.testing.assert_array_equal(opened.weights, rows32[:, 4])
    assert opened.features.dtype == np.float32 and opened.offset is None
    assert os.listdir(tmp_path) == ["block"]
    assert os.path.getsize(block.path) == 50 * 5 * 4


def test_weights_are_none_where_there_is_no_such_column(tmp_path):
    rows = packed(tmp_path, [some_rows()], targets=1).block.open()
    assert rows.weights is None
    assert rows.features.shape == (50, 4) and rows.targets.shape == (50, 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_without_targets_the_features_are_their_own_targets_in_the_same_memory(tmp_path, weighted):
    rows = packed(tmp_path, [some_rows()], targets=0, weighted=weighted).block.open()
    assert rows.features.shape == (50, 4 if weighted else 5)
    assert np.shares_memory(rows.features, rows.targets)
    assert rows.targets.shape == rows.features.shape


def test_opened_rows_are_mapped_views_of_one_block_that_cannot_be_written_to(tmp_path):
    rows = packed(tmp_path, [some_rows()], targets=1, weighted=True).block.open()
    bases = {id(part.base) for part in (rows.features, rows.targets, rows.weights)}
    assert len(bases) == 1 and not np.shares_memory(rows.features, rows.targets)
    with pytest.raises(ValueError, match="read-only"):
        rows.features[0, 0] = 1


def test_a_part_of_the_rows_keeps_its_weights_targets_and_offset(tmp_path):
    rows = packed(tmp_path, [some_rows() + 100], 1, True, shift=True).block.open()
    part = rows.between(10, 17)
    np.testing.assert_array_equal(part.features, rows.features[10:17])
    np.testing.assert_array_equal(part.targets, rows.targets[10:17])
    np.testing.assert_array_equal(part.weights, rows.weights[10:17])
    assert part.offset is rows.offset is not None


def test_a_descriptor_travels_and_opens_elsewhere(tmp_path):
    result = packed(tmp_path, [some_rows()], moments=True, compare=True)
    rows = pickle.loads(pickle.dumps(result)).block.open()
    np.testing.assert_array_equal(rows.features, result.block.open().features)


def resident(array):
    """Return which pages of a mapped array, contiguous from its start, are in memory."""
    start = array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    size = array.ctypes.data + array.nbytes - start
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), pages) == 0
    return np.frombuffer(pages, np.uint8) & 1 == 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for what is in memory")
def test_rows_that_are_announced_are_read_and_no_others(tmp_path):
    block = packed(tmp_path, [np.ones((8000, 1000), np.float32)], targets=0).block
    with open(block.path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    rows = block.open()
    if resident(rows.features).any():
        pytest.skip("files lie in memory here")
    rows.announce(4000, 4100)
    wanted = rows.features[4000:4100]
    for _ in range(100):
        if resident(wanted).all():
            break
        time.sleep(0.1)
    assert resident(wanted).all()
    # Where nothing is announced, a page that is missed brings along its neighbours.
    rows.features[7000:7001].sum()
    assert resident(rows.features).sum() < 130


def large_columns(count=400):
    """Return columns of 1.5e9 ± 1e3, of 0 ± 1, of 5 ± 1, and targets of 1e6 ± 1."""
    random = np.random.default_rng(0)
    return random.normal(size=(count, 4)) * [1e3, 1, 1, 1] + [1.5e9, 0, 5, 1e6]


@pytest.mark.parametrize("windows", [1, 7])
def test_a_large_column_is_restored_from_its_offset(tmp_path, windows):
    rows = large_columns()
    block = packed(tmp_path, np.array_split(rows, windows), targets=1, shift=True).block
    opened = block.open()
    assert opened.offset.dtype == np.float64 and opened.offset.shape == (3,)
    restored = opened.features.astype(np.float64) + opened.offset
    np.testing.assert_allclose(restored[:, 0], rows[:, 0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(restored[:, 1:], rows[:, 1:3], rtol=1e-6, atol=1e-7)
    # Columns that float32 holds well stay as they are, and so do targets.
    np.testing.assert_array_equal(opened.offset[1:], 0)
    np.testing.assert_array_equal(opened.targets[:, 0], rows[:, 3].astype(np.float32))


def test_without_shift_there_is_no_offset(tmp_path):
    block = packed(tmp_path, [large_columns()], shift=False).block
    assert block.offset is None and block.open().offset is None


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("windows", [1, 6])
def test_moments_are_numpys(tmp_path, windows, weighted, shift):
    rows = large_columns()
    weights = np.ones(len(rows))
    if weighted:
        # Such as float32 holds, because that is how they are stored.
        weights = np.random.default_rng(1).integers(0, 9, len(rows)) / 4
        rows = np.column_stack([rows, weights])
    result = packed(tmp_path, np.array_split(rows, windows), 1, weighted, shift=shift, moments=True)
    summary = summary_of(result)
    assert summary.weight == pytest.approx(weights.sum(), rel=1e-14)
    assert summary.weight_squares == pytest.approx((weights**2).sum(), rel=1e-14)
    offset = result.block.offset if shift else np.zeros(3)
    left = rows[:, :3] - offset
    np.testing.assert_allclose(summary.sums, weights @ left, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(summary.squares, weights @ left**2, rtol=1e-12)
    if shift:
        mean = np.average(rows[:, :3], axis=0, weights=weights)
        variance = np.average((rows[:, :3] - mean) ** 2, axis=0, weights=weights)
        seen = summary.sums / summary.weight
        np.testing.assert_allclose(seen + offset, mean, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(summary.squares / summary.weight - seen**2, variance, rtol=1e-10)


def test_moments_of_float32_windows_are_added_in_float64(tmp_path):
    rows = (some_rows(3000, 2) * 1e-3 + 1000).astype(np.float32)
    summary = summary_of(packed(tmp_path, np.array_split(rows, 3), targets=1, moments=True))
    exact = rows[:, :1].astype(np.float64)
    np.testing.assert_allclose(summary.sums, exact.sum(axis=0), rtol=1e-14)
    np.testing.assert_allclose(summary.squares, (exact**2).sum(axis=0), rtol=1e-14)


@pytest.mark.parametrize("windows", [1, 4])
def test_a_constant_column_has_no_moments_about_its_offset(tmp_path, windows):
    for value in (0.1, 0.7, 1 / 3, 0.9203553823904261, 1.1e-5, -123.456, 3.0):
        for count in (50, 997, 1000, 2311):
            rows = np.column_stack([np.full(count, value), np.arange(count)])
            result = packed(
                tmp_path, np.array_split(rows, windows), targets=1, shift=True, moments=True
            )
            assert result.block.offset[0] == value
            assert not result.block.open().features.any()
            assert summary_of(result).sums[0] == summary_of(result).squares[0] == 0.0


def test_summary_completes_the_report_it_is_given(tmp_path):
    faults = Faults({("x", "null"): (2, 7, "")})
    with BlockWriter(str(tmp_path), "block", 1, False) as writer:
        writer.add(some_rows())
        result = writer.finish(Summary(5, 52, faults), classes=False, compare=False)
    summary = summary_of(result)
    assert (summary.partition, summary.seen, summary.faults) == (5, 52, faults)
    assert summary.histogram is None and summary.segments is None
    assert result.problem is None


@pytest.mark.parametrize("weighted", [False, True])
def test_histogram_holds_the_weight_of_each_class(tmp_path, weighted):
    labels = np.array([0, 2, 2, 5, 0, 2])
    rows = np.column_stack([some_rows(6, 2), labels])
    if weighted:
        rows = np.column_stack([rows, [0.5, 1, 2, 3, 0.25, 0]])
    summary = summary_of(packed(tmp_path, [rows], 1, weighted, classes=True))
    expected = [0.75, 0, 3, 0, 0, 3] if weighted else [2, 0, 3, 0, 0, 1]
    np.testing.assert_array_equal(summary.histogram, expected)
    assert summary.histogram.dtype == np.float64


def test_segments_of_classes_are_their_shares_piece_by_piece(tmp_path):
    labels = np.arange(100) // 50 * 2
    rows = np.column_stack([some_rows(100, 2), labels])
    segments = summary_of(packed(tmp_path, [rows], classes=True, compare=True)).segments
    assert segments.shape == (SEGMENTS, 1 + 2 * 3)
    assert segments[:, 0].sum() == 100
    np.testing.assert_array_equal(segments[:, 1], [1] * 8 + [0] * 8)
    np.testing.assert_array_equal(segments[:, 3], [0] * 8 + [1] * 8)
    np.testing.assert_array_equal(segments[:, 1:4], segments[:, 4:7])


@pytest.mark.parametrize("targets", [0, 1, 2])
def test_segments_of_values_are_means_and_mean_squares_of_features_and_targets(tmp_path, targets):
    rows = some_rows(67, 5).astype(np.float32).astype(np.float64)
    segments = summary_of(packed(tmp_path, [rows], targets, compare=True)).segments
    assert segments.shape == (SEGMENTS, 1 + 2 * 5)
    stops = segments[:, 0].cumsum().astype(int)
    assert stops[-1] == 67
    pieces = np.split(rows, stops[:-1])
    np.testing.assert_allclose(segments[:, 1:6], [piece.mean(axis=0) for piece in pieces])
    np.testing.assert_allclose(segments[:, 6:], [(piece**2).mean(axis=0) for piece in pieces])


def test_fewer_rows_than_segments_make_a_piece_each(tmp_path):
    segments = summary_of(packed(tmp_path, [some_rows(5, 2)], compare=True)).segments
    np.testing.assert_array_equal(segments[:, 0], [1] * 5)


def test_very_wide_rows_are_compared_by_some_of_their_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(sparknn.blockfiles, "MOST_COMPARED", 4)
    rows = some_rows(40, 11).astype(np.float32).astype(np.float64)
    segments = summary_of(packed(tmp_path, [rows], compare=True)).segments
    # Of ten features every third one, and the target.
    assert segments.shape == (SEGMENTS, 1 + 2 * 5)
    mean = segments[:, 0] @ segments[:, 1:6] / 40
    np.testing.assert_allclose(mean, rows[:, [0, 3, 6, 9, 10]].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(("step", "expected"), [(1e4, False), (0.0, True)])
def test_segments_of_blocks_with_offsets_of_their_own_are_comparable(tmp_path, step, expected):
    random = np.random.default_rng(0)
    pieces = []
    for partition in range(4):
        # A mean of 8 deviations, at which a block shifts by chance or not, or sorted data.
        columns = random.normal(size=(4000, 2)) + [100 + step * partition if step else 8.0, 0]
        result = packed(tmp_path, [columns], shift=True, compare=True)
        pieces.append(summary_of(result).segments)
    assert alike(pieces) == expected


def test_checksum_is_of_the_content_and_not_of_the_windows(tmp_path):
    rows = some_rows()
    checksums = [
        packed(tmp_path, np.array_split(rows, windows)).block.checksum for windows in (1, 2, 7)
    ]
    assert len(set(checksums)) == 1
    others = [rows[::-1], rows[:-1], np.vstack([rows, rows[:1]]), rows + (rows == rows[7, 2])]
    for other in others:
        assert packed(tmp_path, [np.ascontiguousarray(other)]).block.checksum != checksums[0]


def test_a_missing_file_opens_as_none(tmp_path):
    block = packed(tmp_path, [some_rows()]).block
    os.remove(block.path)
    assert block.open() is None


def test_a_missing_directory_opens_as_none(tmp_path):
    block = packed(tmp_path / "fit", [some_rows()]).block
    shutil.rmtree(tmp_path / "fit")
    assert block.open() is None


@pytest.mark.parametrize("change", [-4, -1, 1, 4, 20])
def test_a_shorter_or_longer_file_opens_as_none(tmp_path, change):
    block = packed(tmp_path, [some_rows()]).block
    size = os.path.getsize(block.path)
    assert block.open() is not None
    with open(block.path, "r+b") as file:
        file.truncate(size + change)
    assert block.open() is None


def test_an_empty_file_opens_as_none(tmp_path):
    block = packed(tmp_path, [some_rows()]).block
    open(block.path, "wb").close()
    assert block.open() is None


@pytest.mark.parametrize("compare", [False, True])
def test_a_block_without_rows_opens_as_no_rows(tmp_path, compare):
    result = packed(tmp_path, [], 1, shift=True, moments=True, classes=True, compare=compare)
    rows = result.block.open()
    assert result.block.rows == 0 and len(rows.features) == len(rows.targets) == 0
    summary = summary_of(result)
    assert summary.weight == 0 and summary.histogram is None and summary.segments is None
    os.remove(result.block.path)
    assert result.block.open() is not None


def test_a_descriptor_of_nothing_opens_as_no_rows():
    assert len(Block("", 0, 0, 0, False, None, 0).open().features) == 0


def fake_disk(monkeypatch, free):
    """Let the disk have so many bytes free, one value after another."""
    left = iter(free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=next(left)))


def test_a_disk_without_room_for_a_window_and_the_reserve_is_full(tmp_path, monkeypatch):
    fake_disk(monkeypatch, [RESERVE_BYTES + 50 * 5 * 4 - 1])
    with pytest.raises(DiskFull, match="MB free"):
        packed(tmp_path, [some_rows()])
    assert os.listdir(tmp_path) == []


def test_a_disk_with_just_room_enough_takes_the_window(tmp_path, monkeypatch):
    fake_disk(monkeypatch, [RESERVE_BYTES + 50 * 5 * 4])
    assert packed(tmp_path, [some_rows()]).block.rows == 50


def test_a_disk_that_fills_up_midway_is_left_without_a_file(tmp_path, monkeypatch):
    fake_disk(monkeypatch, [10 * RESERVE_BYTES, 10 * RESERVE_BYTES, RESERVE_BYTES])
    with pytest.raises(DiskFull):
        packed(tmp_path, np.array_split(some_rows(), 5))
    assert os.listdir(tmp_path) == []


def test_check_space_names_the_local_directory_and_the_bytes(monkeypatch):
    fake_disk(monkeypatch, [3 * 2**20])
    with pytest.raises(DiskFull, match=r"^/local has 3 MB free.* needs 257 MB"):
        check_space("/local/fit/block", 2**20)


def test_the_real_disk_is_asked(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(DiskFull):
        check_space(str(tmp_path / "block"), free)


def test_a_file_takes_its_name_only_when_it_is_complete(tmp_path):
    with BlockWriter(str(tmp_path), "block", 1, False) as writer:
        writer.add(some_rows())
        assert not (tmp_path / "block").exists()
        writer.finish(Summary(0, 50, Faults()), classes=False, compare=False)
        assert os.listdir(tmp_path) == ["block"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_no_file(tmp_path, error):
    with pytest.raises(error), BlockWriter(str(tmp_path / "fit"), "block", 1, False) as writer:
        writer.add(some_rows())
        raise error
    assert os.listdir(tmp_path / "fit") == []


def test_a_writer_whose_directory_was_removed_raises_and_leaves_nothing(tmp_path):
    directory = tmp_path / "fit"
    with (
        pytest.raises(FileNotFoundError),
        BlockWriter(str(directory), "block", 1, False) as writer,
    ):
        writer.add(some_rows())
        shutil.rmtree(directory)
        writer.finish(Summary(0, 50, Faults()), classes=False, compare=False)
    assert os.listdir(tmp_path) == []


def test_a_writer_makes_its_directory_and_leaves_what_is_there(tmp_path):
    packed(tmp_path / "a" / "b", [some_rows()], name="one")
    packed(tmp_path / "a" / "b", [some_rows()], name="two")
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["one", "two"]
