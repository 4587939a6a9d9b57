"""Blocks made from other blocks: the same rows, mapped, and made again from the first rows."""

import logging
import os

import numpy as np
import pytest
from cluster_helpers import frame, in_parts, pack_frame, pack_rdd, paths, tables

from sparknn import mapping
from sparknn.errors import DiskSpaceError, LostBlockError
from sparknn.mapping import mapped
from sparknn.moments import column_moments
from sparknn.rounds import Answer, Rounds


class Doubled:
    """Twice the features, and their sum: three columns of two."""

    def __call__(self, features):
        return np.column_stack([2 * features, features.sum(axis=1)])


class Squared:
    def __call__(self, features):
        return features**2


class Sum:
    """Visits a block for the weighted sum of its columns."""

    def __call__(self, parameters, task, partition, rows, state):
        weights = np.ones(rows.length) if rows.weights is None else rows.weights
        return Answer(1.0, weights @ rows.features.astype(np.float64))


@pytest.fixture
def weighted(cluster, spark):
    parts = [[([1.0, 2.0], 0.0, 1.0), ([3.0, 4.0], 1.0, 2.0)], [], [([5.0, 6.0], 1.0, 0.5)]]
    data = frame(spark, parts, "features array<double>, label double, w double")
    with pack_frame(cluster, data, targets=("label",), weight="w", partitions=3) as blocks:
        yield blocks


def total(blocks) -> list[float]:
    with Rounds(blocks, Sum(), deterministic=True) as rounds:
        return rounds.run(np.zeros(blocks.features), None, "test").vector.tolist()


def test_rows_and_weights_stay_and_targets_go(weighted):
    with mapped(weighted, Doubled()) as blocks:
        assert (blocks.rows, blocks.features, blocks.targets) == (3, 3, 0)
        assert blocks.partition_rows == [2, 0, 1]
        assert blocks.weight == 3.5
        first, _, last = tables(blocks)
        assert first.tolist() == [[2, 4, 3, 1], [6, 8, 7, 2]]
        assert last.tolist() == [[10, 12, 11, 0.5]]
        # (2 + 2 * 6 + 0.5 * 10) / 3.5, and so on.
        assert column_moments(blocks)[0] == pytest.approx(np.array([19, 26, 22.5]) / 3.5)


def test_an_offset_that_was_subtracted_is_added_again(cluster, spark):
    rdd = in_parts(spark, [[[1e6 + i, 1.0] for i in range(50)]])
    with (
        pack_rdd(cluster, rdd, (), partitions=1, precise=True) as source,
        mapped(source, Doubled()) as blocks,
    ):
        assert source.packed[0].block.offset.any()
        assert tables(blocks)[0][:, 0] == pytest.approx(2e6 + 2 * np.arange(50.0))


def test_what_is_lost_is_made_again_through_all_layers(weighted, caplog):
    with mapped(weighted, Doubled()) as middle, mapped(middle, Squared()) as top:
        expected = total(top)
        middle.release()
        assert not os.path.exists(middle.packed[0].block.path)
        lost = paths(top)[0]
        os.remove(lost)
        os.remove(paths(weighted)[0])
        with caplog.at_level(logging.WARNING, "sparknn"):
            assert total(top) == expected
        assert "packing the blocks of partitions [0] again" in caplog.text
        assert paths(top)[0] != lost


def test_a_source_whose_file_is_missing_is_packed_again_first(weighted):
    os.remove(paths(weighted)[2])
    with mapped(weighted, Doubled()) as blocks:
        assert blocks.packed[2].block.rows == 1


def test_a_source_that_stays_missing_ends_in_a_clear_error(weighted, block_files, monkeypatch):
    os.remove(paths(weighted)[2])
    monkeypatch.setattr(mapping, "ATTEMPTS", 1)
    before = block_files()
    with pytest.raises(LostBlockError, match=r"partitions \[2\] are missing again"):
        mapped(weighted, Doubled())
    assert block_files() == before


def test_no_file_is_left(weighted, block_files):
    before = block_files()
    with mapped(weighted, Doubled()) as middle:
        middle.release()
        with mapped(middle, Squared()):
            assert len(block_files()) > len(before)
    assert block_files() == before


class Full:
    """A function in whose tasks the disk is full."""

    def __call__(self, features):
        from sparknn import blockfiles

        reserve, blockfiles.RESERVE_BYTES = blockfiles.RESERVE_BYTES, 2**62
        try:
            blockfiles.check_space(os.path.join(os.getcwd(), "x"), 1)
        finally:
            blockfiles.RESERVE_BYTES = reserve


def test_a_full_disk_is_an_error_that_says_so(weighted, block_files):
    before = block_files()
    with pytest.raises(DiskSpaceError, match="not enough disk for the training blocks"):
        mapped(weighted, Full())
    assert block_files() == before
