"""A round visits every block once and adds up, with the same bits however it came about."""

import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
from cluster_helpers import (
    Counting,
    Failing,
    FullLater,
    Mixed,
    Vanishing,
    Weightless,
    in_parts,
    modified,
    pack_frame,
    pack_rdd,
    paths,
)
from pyspark import Broadcast

from sparknn import blocks as blocks_module
from sparknn import rounds as rounds_module
from sparknn.errors import DiskSpaceError, LostBlockError
from sparknn.rounds import Rounds, received, sent

SIZE = 1001
PARAMETERS = np.linspace(-1, 1, SIZE, dtype=np.float32)


@pytest.fixture
def blocks(cluster, spark):
    """Rows 1 to 30 in partitions of 5, 0, 20 and 5."""
    numbers = [[float(k)] for k in range(1, 31)]
    parts = [numbers[:5], [], numbers[5:25], numbers[25:]]
    with pack_rdd(cluster, in_parts(spark, parts), (), partitions=4) as blocks:
        yield blocks


@pytest.fixture
def in_slices(cluster, monkeypatch):
    """Let no vector through to the driver whole; fail a test in which none was cut."""
    cut = []
    way = Rounds._visit_in_slices
    monkeypatch.setattr(
        Rounds, "_visit_in_slices", lambda self, visit: cut.append(visit) or way(self, visit)
    )
    cluster.result_limit = 64
    yield
    assert cut


WEIGHTS = {0: 15.0, 2: 310.0, 3: 140.0}
"""What `Mixed` gives the partitions above: the sums of their rows."""


def expected(visitor: Mixed, task, parameters=PARAMETERS) -> np.ndarray:
    """Return the sum that `blocks` must give: float64, in the order of the partitions."""
    total = None
    for partition, weight in WEIGHTS.items():
        part = visitor.vector(parameters, task, partition).astype(np.float64) * weight
        total = part if total is None else total + part
    return total


def test_sums_are_weighted_and_taken_in_the_order_of_the_partitions(blocks):
    visitor = Mixed(SIZE)
    with Rounds(blocks, visitor) as rounds:
        for task in (3, 4):
            outcome = rounds.run(PARAMETERS, task, "test")
            assert outcome.vector.dtype == np.float64
            np.testing.assert_array_equal(outcome.vector, expected(visitor, task))
            assert outcome.weight == sum(WEIGHTS.values())
            loss = sum(w * (p + 0.25) for p, w in WEIGHTS.items()) / outcome.weight
            assert outcome.loss == pytest.approx(loss, rel=1e-15)
            assert outcome.compute > 0
            assert outcome.other > 0
    # The check above can fail: another order of adding gives other bits.
    backwards = sum(
        visitor.vector(PARAMETERS, 4, p).astype(np.float64) * WEIGHTS[p] for p in (3, 2, 0)
    )
    assert (backwards != expected(visitor, 4)).any()


def test_partitions_without_rows_are_not_visited(blocks):
    with Rounds(blocks, Counting()) as rounds:
        outcome = rounds.run(PARAMETERS, None, "test")
        assert outcome.weight == 3
        assert set(rounds.states) == {0, 2, 3}


def test_rows_that_do_not_count_give_a_sum_of_zero(blocks):
    with Rounds(blocks, Weightless()) as rounds:
        outcome = rounds.run(PARAMETERS, None, "test")
    assert (outcome.weight, outcome.loss) == (0, 0)
    np.testing.assert_array_equal(outcome.vector, np.zeros(SIZE))


@pytest.mark.parametrize("way", ["direct", "slices"])
def test_each_partition_gets_its_state_back(blocks, way, request):
    if way == "slices":
        request.getfixturevalue("in_slices")
    with Rounds(blocks, Counting()) as rounds:
        for turn in (1, 2, 3):
            outcome = rounds.run(PARAMETERS, None, "test")
            assert rounds.states == {0: 5 * turn, 2: 20 * turn, 3: 5 * turn}
            assert outcome.vector.tolist() == [30 * turn]


@pytest.mark.parametrize("size", [SIZE, 1])
def test_sums_in_slices_have_the_same_bits(blocks, in_slices, size):
    visitor = Mixed(size)
    with Rounds(blocks, visitor) as rounds:
        outcome = rounds.run(PARAMETERS, 1, "test")
    np.testing.assert_array_equal(outcome.vector, expected(visitor, 1))
    assert outcome.weight == sum(WEIGHTS.values())
    assert outcome.compute > 0


def test_rows_that_do_not_count_give_a_sum_of_zero_in_slices(blocks, in_slices):
    with Rounds(blocks, Weightless()) as rounds:
        outcome = rounds.run(PARAMETERS, None, "test")
    assert outcome.weight == 0
    np.testing.assert_array_equal(outcome.vector, np.zeros(SIZE))


@pytest.mark.parametrize("limit, kind", [(4 * SIZE, Broadcast), (4 * SIZE + 1, np.ndarray)])
def test_parameters_arrive_the_same_whichever_way_they_are_sent(blocks, monkeypatch, limit, kind):
    monkeypatch.setattr(rounds_module, "BROADCAST_BYTES", limit)
    visitor = Mixed(SIZE)
    with Rounds(blocks, visitor) as rounds:
        with sent(blocks.cluster, PARAMETERS, PARAMETERS.nbytes) as way:
            assert isinstance(way, kind)
            np.testing.assert_array_equal(received(way), PARAMETERS)
        for task, parameters in enumerate([PARAMETERS, -PARAMETERS]):
            outcome = rounds.run(parameters, task, "test")
            np.testing.assert_array_equal(outcome.vector, expected(visitor, task, parameters))


def test_a_visitor_that_fails_leaves_the_rounds_usable(blocks):
    with Rounds(blocks, Failing()) as rounds:
        with pytest.raises(Exception, match="a visitor's own mistake"):
            rounds.run(PARAMETERS, "fail", "test")
        assert rounds.run(PARAMETERS, "work", "test").weight == 3


def delete(path: str) -> None:
    os.remove(path)


def truncate(path: str) -> None:
    os.truncate(path, os.path.getsize(path) - 4)


def lengthen(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"\0\0\0\0")


@pytest.mark.parametrize("way", ["direct", "slices"])
@pytest.mark.parametrize("harm", [delete, truncate, lengthen])
def test_a_block_that_is_lost_is_packed_again_and_it_alone(blocks, harm, way, request, caplog):
    if way == "slices":
        request.getfixturevalue("in_slices")
    visitor = Mixed(SIZE)
    before = paths(blocks)
    times = modified(before)
    with Rounds(blocks, visitor, deterministic=True) as rounds:
        rounds.run(PARAMETERS, 0, "test")
        harm(before[2])
        with caplog.at_level(logging.WARNING, "sparknn"):
            outcome = rounds.run(PARAMETERS, 1, "test")
        np.testing.assert_array_equal(outcome.vector, expected(visitor, 1))
        assert "packing the blocks of partitions [2] again" in caplog.text
        caplog.clear()
        rounds.run(PARAMETERS, 2, "test")
    after = paths(blocks)
    assert {p for p in after if after[p] != before[p]} == {2}
    del times[2]
    assert {p: t for p, t in modified(after).items() if p != 2} == times


@pytest.mark.parametrize("way", ["direct", "slices"])
def test_a_partition_s_state_survives_the_loss_of_its_block(blocks, way, request, caplog):
    if way == "slices":
        request.getfixturevalue("in_slices")
    with Rounds(blocks, Counting()) as rounds:
        rounds.run(PARAMETERS, None, "test")
        os.remove(paths(blocks)[2])
        outcome = rounds.run(PARAMETERS, None, "test")
    assert "packing the blocks of partitions [2] again" in caplog.text
    # Nobody lost a count, and those visited twice for it were not counted twice.
    assert rounds.states == {0: 10, 2: 40, 3: 10}
    assert outcome.vector.tolist() == [60]


@pytest.mark.parametrize("way", ["direct", "slices"])
def test_a_lost_block_for_which_there_is_no_room_ends_the_fit(
    cluster, spark, monkeypatch, way, request
):
    if way == "slices":
        request.getfixturevalue("in_slices")
    monkeypatch.setattr(blocks_module, "Packer", FullLater)
    rdd = in_parts(spark, [[[1.0]], [[2.0]]])
    with pack_rdd(cluster, rdd, (), partitions=2) as blocks, Rounds(blocks, Mixed(SIZE)) as rounds:
        rounds.run(PARAMETERS, 0, "test")
        os.remove(paths(blocks)[1])
        with pytest.raises(DiskSpaceError, match="not enough disk for the training blocks"):
            rounds.run(PARAMETERS, 0, "test")


def test_a_dealt_block_that_is_lost_is_packed_again_from_the_same_rows(cluster, spark, caplog):
    data = spark.range(1, 3001, 1, 3).selectExpr("cast(id as double) x")
    with pack_frame(cluster, data, ["x"], partitions=2) as blocks:
        before = paths(blocks)
        with Rounds(blocks, Mixed(SIZE), deterministic=True) as rounds:
            first = rounds.run(PARAMETERS, 0, "test")
            contents = Path(before[1]).read_bytes()
            os.remove(before[1])
            second = rounds.run(PARAMETERS, 0, "test")
        np.testing.assert_array_equal(first.vector, second.vector)
        assert Path(paths(blocks)[1]).read_bytes() == contents
    assert "packing the blocks of partitions [1] again" in caplog.text
    assert "came out different" not in caplog.text


@pytest.fixture
def unsteady(cluster, spark):
    """Rows that come out different each time they are computed."""

    def rows(partition, _):
        return [[float(value)] for value in np.random.default_rng(time.time_ns()).random(10)]

    rdd = spark.sparkContext.parallelize(range(2), 2).mapPartitionsWithIndex(rows)
    with pack_rdd(cluster, rdd, (), partitions=2) as blocks:
        yield blocks


def test_rows_that_come_out_different_are_warned_of(unsteady, caplog):
    with Rounds(unsteady, Mixed(SIZE)) as rounds:
        os.remove(paths(unsteady)[1])
        rounds.run(PARAMETERS, 0, "test")
        assert "partition 1 was packed again and its rows came out different" in caplog.text
        assert "partition 0" not in caplog.text
        caplog.clear()
        # Once is enough: what is there now stays.
        rounds.run(PARAMETERS, 1, "test")
        assert not caplog.text


def test_rows_that_come_out_different_are_an_error_if_the_fit_must_be_repeatable(unsteady):
    with Rounds(unsteady, Mixed(SIZE), deterministic=True) as rounds:
        os.remove(paths(unsteady)[1])
        with pytest.raises(LostBlockError, match=r"partition 1 was packed again.*different"):
            rounds.run(PARAMETERS, 0, "test")


@pytest.mark.parametrize("way", ["direct", "slices"])
def test_a_block_that_vanishes_each_time_ends_the_fit(
    cluster, spark, block_files, monkeypatch, caplog, way, request
):
    if way == "slices":
        request.getfixturevalue("in_slices")
    monkeypatch.setattr(blocks_module, "Packer", Vanishing)
    rdd = in_parts(spark, [[[1.0]], [[2.0]]])
    with (
        pack_rdd(cluster, rdd, (), partitions=2) as blocks,
        Rounds(blocks, Mixed(1)) as rounds,
        pytest.raises(LostBlockError, match=r"partitions \[1\] are missing again after 5"),
    ):
        rounds.run(PARAMETERS, 0, "test")
    assert caplog.text.count("packing the blocks of partitions [1] again") == 4
    assert not block_files()
