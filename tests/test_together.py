"""Fits that share rounds end with the bits of fits alone, in fewer jobs."""

import numpy as np
import pytest
from cluster_helpers import frame, pack_frame
from job_groups import job_group

from sparknn import SGD, Adam, Network
from sparknn.cluster import Cluster
from sparknn.errors import DivergenceError
from sparknn.linear import LinearObjective
from sparknn.objective import L2
from sparknn.optimizers import linear
from sparknn.solvers import LBFGS, OWLQN
from sparknn.training import (
    FullBatchFit,
    HeldOut,
    Minibatch,
    MinibatchFit,
    fit_minibatch,
    loop,
    train_fits,
)


def rows_of(count: int, seed: int) -> list[tuple]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 3))
    labels = (features + random.normal(size=(count, 3))).argmax(axis=1)
    return [(f, float(y)) for f, y in zip(features.tolist(), labels, strict=True)]


@pytest.fixture(scope="module")
def cluster(spark):
    return Cluster(spark)


@pytest.fixture(scope="module")
def packed(spark, cluster):
    schema = "features array<double>, label double"
    done = []

    def pack(*parts):
        data = frame(spark, [list(part) for part in parts], schema)
        blocks = pack_frame(cluster, data, targets=("label",), classes=3, partitions=len(parts))
        done.append(blocks)
        return blocks

    yield pack
    for blocks in done:
        blocks.close()


@pytest.fixture(scope="module")
def training(packed):
    return packed(rows_of(210, 1), rows_of(90, 2))


@pytest.fixture(scope="module")
def validation(packed):
    return packed(rows_of(60, 3), rows_of(40, 4))


NETWORK = Network([3, 6, 3], "tanh", dropout=0.2)


@pytest.mark.parametrize("steps_per_round", [0, 1, 2])
def test_minibatch_fits_together_have_the_bits_of_fits_alone(training, steps_per_round):
    settings = [Minibatch(epochs, 20, steps_per_round, seed=7) for epochs in (3, 5)]
    optimizers = [lambda: SGD(linear(0.2), 0.9), lambda: Adam(0.01)]
    start = NETWORK.initial(1)
    penalty = NETWORK.penalty(0.01)
    alone = [
        fit_minibatch(training, NETWORK, penalty, optimizer(), start, each)
        for each, optimizer in zip(settings, optimizers, strict=True)
    ]
    together = train_fits(
        training,
        [
            MinibatchFit(training, NETWORK, penalty, optimizer(), start, each)
            for each, optimizer in zip(settings, optimizers, strict=True)
        ],
    )
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        assert one.objective_history == other.objective_history
        assert [r.loss for r in one.rounds] == [r.loss for r in other.rounds]


def test_full_batch_fits_together_have_the_bits_of_fits_alone(training):
    def objective():
        return LinearObjective(np.zeros(3), np.ones(3), 3, True)

    penalties = [objective().penalty(strength, np.ones(3), True) for strength in (0.0, 0.1, 1.0)]

    def solver():
        return LBFGS(np.zeros(12), 30, 1e-7)

    def fits():
        return [FullBatchFit(training, objective(), p, solver()) for p in penalties]

    alone = [train_fits(training, [fit])[0] for fit in fits()]
    together = train_fits(training, fits())
    assert len({len(fitted.rounds) for fitted in alone}) > 1
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        assert (one.objective_history, one.reason) == (other.objective_history, other.reason)


@pytest.mark.parametrize("used", [0.0, 1e9], ids=["never", "always"])
def test_steps_computed_ahead_spare_rounds_and_change_no_bits(
    spark, training, in_rounds, monkeypatch, used
):
    objective = LinearObjective(np.zeros(3), np.ones(3), 3, True)
    strengths = [objective.l1(strength, np.ones(3), True) for strength in (0.01, 0.03, 0.1)]

    def fits() -> list[FullBatchFit]:
        return [
            FullBatchFit(training, objective, L2(), OWLQN(np.zeros(12), strength, 30, 1e-12))
            for strength in strengths
        ]

    alone = [train_fits(training, [fit])[0] for fit in fits()]
    monkeypatch.setattr(loop, "USED", used)
    with job_group(spark) as jobs:
        together = train_fits(training, fits())
        longest = max(len(fitted.rounds) for fitted in alone)
        assert len(jobs()) <= 0.8 * longest if used else len(jobs()) == longest
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.theta, other.theta)
        assert (one.objective_history, one.reason) == (other.objective_history, other.reason)
        assert [each.loss for each in one.rounds] == [each.loss for each in other.rounds]


def test_a_fit_that_diverges_leaves_the_others_alone(training):
    def fit(step: float) -> MinibatchFit:
        start, settings = NETWORK.initial(1), Minibatch(3, 20)
        return MinibatchFit(training, NETWORK, L2(), SGD(step), start, settings)

    with np.errstate(all="ignore"):
        (alone,) = train_fits(training, [fit(0.1)])
        fits = [fit(1e39), fit(0.1)]
        together = train_fits(training, fits)
    assert isinstance(fits[0].failure, DivergenceError) and fits[1].failure is None
    np.testing.assert_array_equal(together[1].theta, alone.theta)


def test_fits_together_run_as_many_jobs_as_the_longest_alone(spark, training, in_rounds):
    fits = [
        MinibatchFit(
            training, NETWORK, L2(), SGD(0.1), NETWORK.initial(seed), Minibatch(epochs, 20)
        )
        for seed, epochs in ((1, 2), (2, 4), (3, 4))
    ]
    with job_group(spark) as jobs:
        train_fits(training, fits)
        assert len(jobs()) == 4


def test_a_fit_ends_when_the_held_out_loss_rises_and_keeps_the_best(training, validation):
    network = Network([3, 40, 3], "tanh")

    def fits():
        return [
            MinibatchFit(
                training, network, L2(), Adam(rate), network.initial(1), Minibatch(200, 10)
            )
            for rate in (0.02, 0.05)
        ]

    for fitted in train_fits(training, fits(), held_out=HeldOut(validation, patience=3)):
        losses = fitted.held_out_history
        best = int(np.argmin(losses))
        assert len(losses) == best + 4 == fitted.iterations < 200
        assert fitted.reason == "held-out loss no longer falling"
        shorter = Minibatch(200, 10)
        kept = _held_out_loss(network, fitted.theta, validation)
        assert kept == pytest.approx(losses[best], rel=1e-5)
        assert shorter.epochs == 200


def test_held_out_rows_stop_a_full_batch_fit_too(training, validation):
    network = Network([3, 40, 3], "tanh")
    fit = FullBatchFit(training, network, L2(), LBFGS(network.initial(1), 300, 1e-12))
    (fitted,) = train_fits(training, [fit], held_out=HeldOut(validation, patience=4))
    best = int(np.argmin(fitted.held_out_history))
    assert fitted.iterations < 300
    assert len(fitted.held_out_history) == best + 5
    kept = _held_out_loss(network, fitted.theta, validation)
    assert kept == pytest.approx(fitted.held_out_history[best], rel=1e-5)


def test_a_small_gradient_ends_a_full_batch_fit(training):
    objective = LinearObjective(np.zeros(3), np.ones(3), 3, True)
    penalty = objective.penalty(0.1, np.ones(3), True)
    loose, tight = (
        train_fits(
            training,
            [FullBatchFit(training, objective, penalty, LBFGS(np.zeros(12), 100, 1e-14), tol)],
        )[0]
        for tol in (1e-2, 1e-5)
    )
    assert loose.reason == tight.reason == "gradient is small enough"
    assert 0 < loose.iterations < tight.iterations < 100


def _held_out_loss(network, theta, blocks) -> float:
    total, weight = 0.0, 0.0
    for item in blocks.packed:
        rows = item.block.open()
        out = np.empty(network.size, np.float32)
        loss, share = network.gradient(theta.astype(np.float32), rows, out)
        total, weight = total + loss * share, weight + share
    return total / weight
