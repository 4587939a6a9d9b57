"""Fits that go on inside tasks end with the bits of fits in rounds, in far fewer jobs."""

from pathlib import Path

import numpy as np
import pytest
from cluster_helpers import frame, pack_frame
from job_groups import job_group
from test_together import rows_of

from sparknn import SGD, Adam, Network, rounds
from sparknn.boltzmann import ContrastiveDivergence, Machine
from sparknn.cluster import Cluster
from sparknn.errors import DivergenceError
from sparknn.linear import LinearObjective
from sparknn.objective import L2
from sparknn.optimizers import linear
from sparknn.solvers import LBFGS, OWLQN, ConjugateGradient, GradientDescent
from sparknn.training import (
    FullBatchFit,
    HeldOut,
    Minibatch,
    MinibatchFit,
    in_task,
    train_fits,
)
from sparknn.training.loop import Loop, visitor_of


@pytest.fixture(scope="module")
def blocks(spark):
    # One partition of three has no rows.
    parts = [rows_of(210, 1), [], rows_of(90, 2)]
    data = frame(spark, parts, "features array<double>, label double")
    with pack_frame(Cluster(spark), data, targets=("label",), classes=3, partitions=3) as packed:
        yield packed


@pytest.fixture(scope="module")
def others(spark):
    """Rows that are held out."""
    data = frame(spark, [rows_of(40, 3), rows_of(25, 4)], "features array<double>, label double")
    with pack_frame(Cluster(spark), data, targets=("label",), classes=3, partitions=2) as packed:
        yield packed


NETWORK = Network([3, 6, 3], "tanh", dropout=0.2)
LINEAR = LinearObjective(np.full(3, 0.1), np.ones(3), 3, True)
MACHINE = Machine(3, 4, "gaussian")


def full_batch(blocks, objective, solver) -> FullBatchFit:
    return FullBatchFit(blocks, objective, L2(), solver)


def minibatch(blocks, optimizer, steps_per_round: int, objective=NETWORK) -> MinibatchFit:
    start = objective.initial(1) if objective is NETWORK else MACHINE.initial(1, np.zeros(3))
    settings = Minibatch(4, 20, steps_per_round, seed=7)
    return MinibatchFit(blocks, objective, L2(), optimizer, start, settings)


def chains(blocks, steps_per_round: int) -> MinibatchFit:
    objective = ContrastiveDivergence(MACHINE, persistent=True)
    return minibatch(blocks, SGD(0.01, 0.5), steps_per_round, objective)


KINDS = {
    "l-bfgs": lambda blocks: [full_batch(blocks, LINEAR, LBFGS(np.zeros(12), 30, 1e-9))],
    "owl-qn": lambda blocks: [
        full_batch(blocks, LINEAR, OWLQN(np.zeros(12), np.full(12, strength), 30, 1e-9))
        for strength in (0.001, 0.01, 0.1)
    ],
    "solvers": lambda blocks: [
        full_batch(blocks, NETWORK, LBFGS(NETWORK.initial(2), 20, 1e-9)),
        full_batch(blocks, NETWORK, ConjugateGradient(NETWORK.initial(2), 12, 1e-9)),
        full_batch(blocks, NETWORK, GradientDescent(NETWORK.initial(2), 0.1, 6, 1e-9)),
    ],
    "steps": lambda blocks: [minibatch(blocks, SGD(linear(0.2), 0.9), 1)],
    "passes": lambda blocks: [
        minibatch(blocks, SGD(0.1, 0.9), 0),
        minibatch(blocks, Adam(0.01), 0),
        minibatch(blocks, Adam(0.01), 2),
    ],
    "chains": lambda blocks: [chains(blocks, 0)],
    "chains, several": lambda blocks: [chains(blocks, 1), chains(blocks, 3), chains(blocks, 0)],
}


@pytest.mark.parametrize("seconds", [in_task.SECONDS, 0.0], ids=["at once", "bit by bit"])
@pytest.mark.parametrize("kind", KINDS)
def test_fits_in_tasks_have_the_bits_of_fits_in_rounds(spark, blocks, monkeypatch, kind, seconds):
    monkeypatch.setattr(in_task, "SECONDS", seconds)
    if not seconds:
        # As where so much is sent that it does not go with the tasks.
        monkeypatch.setattr(rounds, "BROADCAST_BYTES", 0)
    with job_group(spark) as jobs:
        in_tasks = train_fits(blocks, KINDS[kind](blocks))
        few = len(jobs())
    monkeypatch.setattr(in_task, "MOST_BYTES", -1)
    with job_group(spark) as jobs:
        in_rounds = train_fits(blocks, KINDS[kind](blocks))
        many = len(jobs())
    assert (few == 1) == bool(seconds)
    assert many >= 4
    for one, other in zip(in_tasks, in_rounds, strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        assert one.objective_history == other.objective_history
        assert (one.reason, one.iterations) == (other.reason, other.iterations)
        assert [(r.epoch, r.loss, r.batch) for r in one.rounds] == [
            (r.epoch, r.loss, r.batch) for r in other.rounds
        ]


def test_fits_that_go_from_rounds_to_tasks_in_mid_epoch_keep_their_bits(blocks, monkeypatch):
    def fits():
        return [minibatch(blocks, SGD(0.1, 0.9), 1), minibatch(blocks, SGD(0.2), 2)]

    suit, asked = in_task.InTasks.suit, []
    with monkeypatch.context() as patched:
        patched.setattr(in_task, "SECONDS", 0.0)
        # Rounds to begin with, as where another fit has many parameters.
        patched.setattr(
            in_task.InTasks,
            "suit",
            lambda self, each: asked.append(1) or (len(asked) > 3 and suit(self, each)),
        )
        late = train_fits(blocks, fits())
    assert len(asked) > 3
    for one, other in zip(late, train_fits(blocks, fits()), strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        assert one.objective_history == other.objective_history


def test_a_partition_with_fewer_rows_than_steps_adds_nothing(spark, monkeypatch):
    """Where there is no row for a step, no memory may be taken for its gradient."""
    empty = np.empty

    def filled(shape, dtype=float, **others):
        array = empty(shape, dtype, **others)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    data = frame(spark, [rows_of(200, 1), rows_of(3, 2)], "features array<double>, label double")
    with pack_frame(Cluster(spark), data, targets=("label",), classes=3, partitions=2) as uneven:
        fits = [
            minibatch(uneven, SGD(step), 1, ContrastiveDivergence(MACHINE)) for step in (0.01, 0.02)
        ]
        rows = [packed.block.open() for packed in uneven.packed]
        loop, at_hand = Loop(fits, "test"), in_task._AtHand(rows, visitor_of(fits))
        assert fits[0].steps > rows[1].length > 0
        monkeypatch.setattr(np, "empty", filled)
        while loop.active:
            loop.round(at_hand, loop.active)
    for fit in fits:
        assert fit.failure is None and np.isfinite(fit.theta).all()


WATCHED = {
    "one": lambda blocks: [full_batch(blocks, NETWORK, LBFGS(NETWORK.initial(2), 60, 1e-9))],
    "several": lambda blocks: [
        minibatch(blocks, SGD(step), steps) for step, steps in ((0.01, 0), (20.0, 0), (0.3, 3))
    ],
    "monitored": lambda blocks: [chains(blocks, 0)],
}


@pytest.mark.parametrize("seconds", [in_task.SECONDS, 0.0], ids=["at once", "bit by bit"])
@pytest.mark.parametrize("kind", WATCHED)
def test_held_out_rows_are_looked_at_in_tasks_as_in_rounds(
    blocks, others, monkeypatch, kind, seconds
):
    monkeypatch.setattr(in_task, "SECONDS", seconds)

    def trained() -> list:
        return train_fits(blocks, WATCHED[kind](blocks), held_out=HeldOut(others, 1, blocks))

    in_tasks = trained()
    monkeypatch.setattr(in_task, "MOST_BYTES", -1)
    in_rounds = trained()
    for one, other in zip(in_tasks, in_rounds, strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        assert one.held_out_history == other.held_out_history
        assert one.monitored == other.monitored
        assert len(one.monitored) == (one.iterations if kind == "monitored" else 0)
        assert (one.reason, one.iterations) == (other.reason, other.iterations)
    reasons = {fitted.reason for fitted in in_tasks}
    assert kind == "monitored" or "held-out loss no longer falling" in reasons


def test_time_in_tasks_is_told(blocks):
    (fitted,) = train_fits(blocks, KINDS["passes"](blocks)[:1])
    assert all(each.compute > 0 and each.other > 0 for each in fitted.rounds)
    told = sum(each.compute + each.other for each in fitted.rounds)
    assert 0.5 * fitted.seconds < told < fitted.seconds


def test_a_fit_that_diverges_in_a_task_is_an_error_as_in_rounds(blocks):
    def fit(step: float) -> MinibatchFit:
        return minibatch(blocks, SGD(step), 0)

    (alone,) = train_fits(blocks, [fit(0.1)])
    fits = [fit(1e39), fit(0.1)]
    together = train_fits(blocks, fits)
    assert isinstance(fits[0].failure, DivergenceError) and fits[1].failure is None
    np.testing.assert_array_equal(together[1].theta, alone.theta)
    with pytest.raises(DivergenceError, match=r"epoch 1: the loss is .*stepSize"):
        train_fits(blocks, [fit(1e39)])


def test_block_files_that_are_missing_are_packed_again_in_rounds(blocks, monkeypatch, caplog):
    expected = train_fits(blocks, KINDS["owl-qn"](blocks))
    # The first jobs end at once, so that tasks are sent again after the loss.
    monkeypatch.setattr(in_task, "SECONDS", 0.0)
    count = in_task._add_overhead

    def lose(fit, seconds):
        if len(fit.fitted.rounds) == 3:
            Path(blocks.packed[0].block.path).unlink(missing_ok=True)
        count(fit, seconds)

    monkeypatch.setattr(in_task, "_add_overhead", lose)
    found = train_fits(blocks, KINDS["owl-qn"](blocks))
    assert "packing the blocks of partitions [0] again" in caplog.text
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)


def test_fits_are_dealt_out_evenly_by_their_work(blocks):
    tasks = in_task.InTasks(blocks, "model")
    assert tasks._dealt([5.0, 4.0, 3.0, 2.0, 1.0]) == [[0, 3, 4], [1, 2]]
    assert tasks._dealt([1.0]) == [[0]]


@pytest.mark.parametrize(
    "work, suits",
    [
        # Two cores share a round out evenly; a fit in a task has one of them.
        ([2.9e9], True),
        ([3.1e9], False),
        ([1e12, 1e12], True),
        ([1e12, 1e12, 1e12], False),
        ([1e9] * 3, True),
    ],
)
def test_tasks_suit_fits_whose_rounds_take_no_longer_than_a_job(blocks, work, suits):
    class Idle:
        objective = LINEAR

        def __init__(self, work: float):
            self.work = work

    tasks = in_task.InTasks(blocks, "model")
    assert tasks.suit([Idle(each) for each in work]) == suits


@pytest.mark.parametrize("limit", ["MOST_BYTES", "MOST_PARAMETERS"])
def test_many_rows_or_parameters_do_not_go_to_tasks(blocks, monkeypatch, limit):
    fits = KINDS["owl-qn"](blocks)
    assert in_task.InTasks(blocks, "model").suit(fits)
    least = blocks.bytes if limit == "MOST_BYTES" else 36
    monkeypatch.setattr(in_task, limit, least - 1)
    assert not in_task.InTasks(blocks, "model").suit(fits)


def test_work_is_six_operations_for_each_weight_and_row(blocks):
    assert KINDS["l-bfgs"](blocks)[0].work == 6 * 12 * 300
    # Two partitions of 20 rows a step, and as many steps as a pass has.
    assert minibatch(blocks, SGD(0.1), 1).work == 6 * NETWORK.size * 40
    assert minibatch(blocks, SGD(0.1), 0).work == 6 * NETWORK.size * 40 * 8
