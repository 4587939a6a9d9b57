"""Restricted Boltzmann machines small enough to know everything about."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from sparknn.boltzmann import (
    ContrastiveDivergence,
    Machine,
    annealed_log_partition,
    bernoulli,
    exact_log_partition,
    log_likelihood,
    packed,
    pseudo_likelihood,
    reconstruction_error,
    unpacked,
)
from sparknn.objective import Rows
from sparknn.optimizers import SGD

SIZES = 4, 3


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


def small(visible_type="binary", hidden_type="binary", spread=1.0):
    """Return a machine of (4, 3) units with parameters, (size,), that are not small."""
    machine = Machine(*SIZES, visible_type, hidden_type, dtype=np.float64)
    return machine, spread * np.random.default_rng(1).standard_normal(machine.size)


def states(units: int) -> np.ndarray:
    """Return all states of binary units, (2 ** units, units)."""
    return ((np.arange(2**units)[:, np.newaxis] >> np.arange(units)) & 1).astype(np.float64)


def joint(machine, theta) -> np.ndarray:
    """Return P(v, h), (visible states, hidden states), from the energy alone."""
    v, h = states(SIZES[0]), states(SIZES[1])
    energy = np.array([machine.energy(theta, np.tile(row, (len(h), 1)), h) for row in v])
    weights = np.exp(-energy)
    return weights / weights.sum()


def chances(means: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Return the probability of each outcome of binary units with each of some means."""
    return np.exp(np.log(means) @ outcomes.T + np.log(1 - means) @ (1 - outcomes).T)


def expected_update(machine, theta, rows, steps) -> np.ndarray:
    """Return the mean of CD-k's gradient over all its draws, by transition matrices."""
    v, h = states(SIZES[0]), states(SIZES[1])
    up = chances(machine.hidden(theta, v), h)
    down = chances(machine.visible(theta, h), v)
    first = chances(machine.hidden(theta, rows), h).mean(axis=0)
    at_end = first @ np.linalg.matrix_power(down @ up, steps - 1) @ down
    hidden = machine.hidden(theta, v)
    model = np.concatenate(
        [((at_end[:, None] * v).T @ hidden).ravel(), at_end @ hidden, at_end @ v]
    )
    data_hidden = machine.hidden(theta, rows)
    data = np.concatenate(
        [(rows.T @ data_hidden).ravel() / len(rows), data_hidden.mean(axis=0), rows.mean(axis=0)]
    )
    return model - data


def exact_gradient(machine, theta, rows) -> np.ndarray:
    """Return minus the gradient of the mean log-likelihood, by central differences."""

    def loss(at):
        return -log_likelihood(machine, at, rows, exact_log_partition(machine, at)).mean()

    steps = 1e-5 * np.eye(machine.size)
    return np.array([(loss(theta + step) - loss(theta - step)) / 2e-5 for step in steps])


ROWS = states(4)[[1, 1, 3, 7, 8, 14]]


def test_the_energy_is_that_of_the_papers():
    machine, theta = small()
    weights, b, a = machine.views(theta)
    v, h = states(4)[[5, 9]], states(3)[[6, 3]]
    expected = [-(a @ x) - b @ y - x @ weights @ y for x, y in zip(v, h, strict=True)]
    np.testing.assert_allclose(machine.energy(theta, v, h), expected)
    gaussian = Machine(*SIZES, "gaussian", dtype=np.float64)
    expected = [((x - a) ** 2).sum() / 2 - b @ y - x @ weights @ y for x, y in zip(v, h)]
    np.testing.assert_allclose(gaussian.energy(theta, v, h), expected)


@pytest.mark.parametrize("visible_type", ["binary", "gaussian"])
def test_free_energy_sums_the_energy_over_hidden_states(visible_type):
    machine, theta = small(visible_type)
    h = states(3)
    for row in np.random.default_rng(2).random((3, 4)):
        energies = machine.energy(theta, np.tile(row, (8, 1)), h)
        expected = -logsumexp(-energies)
        assert machine.free_energy(theta, row[np.newaxis])[0] == pytest.approx(expected)


def test_free_energy_integrates_gaussian_hidden_units():
    machine, theta = Machine(2, 1, "binary", "gaussian", np.float64), np.array([0.5, -1, 0.3, 2, 1])
    grid = np.linspace(-12, 12, 4001)[:, np.newaxis]
    row = np.array([[1.0, 1.0]])
    energies = machine.energy(theta, np.tile(row, (len(grid), 1)), grid)
    integral = np.exp(-energies).sum() * (grid[1, 0] - grid[0, 0])
    assert machine.free_energy(theta, row)[0] == pytest.approx(-np.log(integral), abs=1e-8)


def test_conditionals_are_those_of_the_joint_distribution():
    machine, theta = small()
    p = joint(machine, theta)
    given_v = (p / p.sum(axis=1, keepdims=True)) @ states(3)
    given_h = (p / p.sum(axis=0)).T @ states(4)
    np.testing.assert_allclose(machine.hidden(theta, states(4)), given_v)
    np.testing.assert_allclose(machine.visible(theta, states(3)), given_h)


def test_the_first_parameters_are_a_layer_of_a_network():
    from sparknn.network import Network

    machine, theta = small()
    network = Network([4, 3], loss="sigmoid", dtype=np.float64)
    outputs = network.outputs(theta[: network.size], ROWS)
    np.testing.assert_allclose(outputs, machine.hidden(theta, ROWS))


def test_initial_visible_biases_give_the_means_of_the_rows():
    machine = Machine(3, 50, dtype=np.float64)
    theta = machine.initial(1, np.array([0.2, 0.0, 1.0]))
    weights, b, a = machine.views(theta)
    np.testing.assert_allclose(1 / (1 + np.exp(-a)), [0.2, 1e-3, 1 - 1e-3])
    assert not b.any()
    assert 0.005 < weights.std() < 0.02
    assert (Machine(2, 2, "gaussian").initial(1, np.array([3.0, -1]))[-2:] == [3, -1]).all()


@pytest.mark.parametrize(
    ("visible", "hidden", "visible_type"), [(4, 3, "binary"), (3, 4, "binary"), (4, 3, "gaussian")]
)
def test_the_partition_function_is_the_sum_over_all_states(visible, hidden, visible_type):
    machine = Machine(visible, hidden, visible_type, dtype=np.float64)
    theta = np.random.default_rng(3).standard_normal(machine.size)
    if visible_type == "binary":
        free = machine.free_energy(theta, states(visible))
        expected = logsumexp(-free)
    else:
        # Each hidden state leaves a normal density: completing the square by hand.
        weights, b, a = machine.views(theta)
        h = states(hidden)
        moved = h @ weights.T + a
        expected = logsumexp(h @ b + (moved**2 - a**2).sum(axis=1) / 2) + 2 * np.log(2 * np.pi)
    assert exact_log_partition(machine, theta) == pytest.approx(expected)


def test_enumeration_of_large_machines_is_refused():
    with pytest.raises(ValueError, match=r"at most 20 binary units.*annealed"):
        exact_log_partition(Machine(21, 21), np.zeros(Machine(21, 21).size))


def test_contrastive_divergence_tends_to_the_exact_gradient():
    machine, theta = small()
    exact = exact_gradient(machine, theta, ROWS)
    off = [
        np.abs(expected_update(machine, theta, ROWS, steps) - exact).max()
        for steps in (1, 2, 3, 4, 8)
    ]
    assert off == sorted(off, reverse=True)
    assert off[0] > 0.01
    assert off[-1] < 1e-4


@pytest.mark.parametrize("steps", [1, 3])
def test_the_mean_of_many_updates_is_the_expected_one(steps):
    machine, theta = small()
    rows = np.repeat(ROWS, 20_000, axis=0)
    out = np.empty(machine.size)
    objective = ContrastiveDivergence(machine, steps)
    loss, weight = objective.gradient(theta, Rows(rows, rows), out, generator())
    np.testing.assert_allclose(out, expected_update(machine, theta, ROWS, steps), atol=0.005)
    assert weight == len(rows)
    assert 0 < loss < 1


def test_persistent_chains_reach_the_model_whatever_the_rows():
    machine, theta = small()
    objective = ContrastiveDivergence(machine, 1, persistent=True)
    chains = objective.chains(None, 40_000, theta, generator(5))
    out, random = np.empty(machine.size), generator()
    for _ in range(60):
        objective.gradient(theta, Rows(ROWS, ROWS), out, random, chains)
    np.testing.assert_allclose(out, exact_gradient(machine, theta, ROWS), atol=0.01)


def test_chains_survive_as_bits_and_gaussian_ones_as_numbers():
    for hidden_type, size in (("binary", 2 * 2), ("gaussian", 2 * 9 * 4)):
        objective = ContrastiveDivergence(Machine(3, 9, "binary", hidden_type), persistent=True)
        theta = np.zeros(objective.size, np.float32)
        chains = objective.chains(None, 2, theta, generator())
        state = objective.state(chains)
        assert state.nbytes == size
        np.testing.assert_array_equal(objective.chains(state, 2, theta, generator(1)), chains)


def test_means_in_place_of_samples_draw_less_and_end_elsewhere():
    machine, theta = small()
    rows = np.repeat(ROWS, 20_000, axis=0)
    sampled, means = np.empty(machine.size), np.empty(machine.size)
    for visible, out in ((True, sampled), (False, means)):
        objective = ContrastiveDivergence(machine, 1, sample_visible=visible)
        objective.gradient(theta, Rows(rows, rows), out, generator())
    # The visible statistics agree in the mean, the hidden ones do not.
    np.testing.assert_allclose(means[-4:], sampled[-4:], atol=0.01)
    assert np.abs(means[:12] - sampled[:12]).max() > 0.01


@pytest.mark.parametrize("persistent", [False, True])
def test_training_raises_the_log_likelihood(persistent):
    machine = Machine(4, 3, dtype=np.float64)
    rows = np.repeat(states(4)[[0, 15, 3, 3]], 25, axis=0)
    theta = machine.initial(1, rows.mean(axis=0))
    objective = ContrastiveDivergence(machine, 1, persistent)
    optimizer, random, out = SGD(0.2, 0.5), generator(2), np.empty(machine.size)
    optimizer.start(machine.size, np.float64)
    chains = [objective.chains(None, 100, theta, random)] if persistent else []

    def likelihood():
        log_z = exact_log_partition(machine, theta)
        return log_likelihood(machine, theta, rows, log_z).mean()

    before = likelihood()
    for step in range(600):
        objective.gradient(theta, Rows(rows, rows), out, random, *chains)
        optimizer.step(theta, out, 0.0, step)
    # Of the rows' own distribution it is -1.04, without weights -2.25.
    assert before < -2.2
    assert likelihood() > -1.6


def test_sampled_marginals_are_the_exact_ones():
    machine, theta = small()
    p = joint(machine, theta).sum(axis=1)
    v = machine.sample(theta, np.zeros((40_000, 4)), 60, generator(4))
    np.testing.assert_allclose(v.mean(axis=0), p @ states(4), atol=0.012)
    pairs = (v[:, 0] * v[:, 1]).mean()
    assert pairs == pytest.approx(p @ (states(4)[:, 0] * states(4)[:, 1]), abs=0.012)


def test_clamped_units_stay_and_the_others_follow_their_conditional():
    machine, theta = small()
    p = joint(machine, theta).sum(axis=1)
    start = np.tile([1.0, 0, 0, 0], (40_000, 1))
    v = machine.sample(theta, start, 60, generator(4), np.array([True, False, False, False]))
    kept = states(4)[:, 0] == 1
    assert (v[:, 0] == 1).all()
    expected = (p * kept) @ states(4) / p[kept].sum()
    np.testing.assert_allclose(v.mean(axis=0), expected, atol=0.012)


@pytest.mark.parametrize(
    ("visible_type", "hidden_type"),
    [("binary", "binary"), ("gaussian", "binary"), ("binary", "gaussian")],
)
def test_annealed_importance_sampling_agrees_with_enumeration(visible_type, hidden_type):
    machine = Machine(16, 12, visible_type, hidden_type)
    theta = 0.4 * np.random.default_rng(6).standard_normal(machine.size)
    means = np.full(16, 0.4)
    estimate, error = annealed_log_partition(machine, theta, means, 200, 500, 1)
    assert estimate == pytest.approx(exact_log_partition(machine, theta), abs=0.1)
    assert 0 < error < 0.1


def test_an_infinite_partition_function_is_refused():
    machine = Machine(2, 2, "gaussian", "gaussian")
    theta = np.concatenate([2 * np.eye(2).ravel(), np.zeros(4)])
    with pytest.raises(ValueError, match=r"infinite.*singular value of the weights is 2"):
        annealed_log_partition(machine, theta, np.zeros(2), 10, 10, 1)
    estimate, _ = annealed_log_partition(machine, 0.25 * theta, np.zeros(2), 100, 100, 1)
    # For orthogonal weights w: two independent pairs, each with 2 pi / sqrt(1 - w^2).
    assert estimate == pytest.approx(2 * np.log(2 * np.pi / np.sqrt(0.75)), abs=0.1)


def test_pseudo_likelihood_is_the_sum_of_exact_conditionals():
    machine, theta = small()
    p = joint(machine, theta).sum(axis=1)
    v = states(4)
    expected = np.zeros(len(v))
    for number in range(len(v)):
        for unit in range(4):
            expected[number] += np.log(p[number] / (p[number] + p[number ^ (1 << unit)]))
    np.testing.assert_allclose(pseudo_likelihood(machine, theta, v), expected)


def test_pseudo_likelihood_of_gaussian_units_is_refused():
    machine, theta = small("gaussian")
    with pytest.raises(ValueError, match="binary visible units; these are gaussian"):
        pseudo_likelihood(machine, theta, ROWS)


def test_reconstruction_error_and_the_objectives_measure_agree():
    machine, theta = small()
    errors = reconstruction_error(machine, theta, ROWS)
    by_hand = ((ROWS - machine.visible(theta, machine.hidden(theta, ROWS))) ** 2).mean(axis=1)
    np.testing.assert_allclose(errors, by_hand)
    objective = ContrastiveDivergence(machine)
    assert objective.measure(theta, Rows(ROWS, ROWS)) == pytest.approx((errors.mean(), len(ROWS)))


def test_sparsity_pulls_hidden_means_to_the_target():
    machine, theta = small()
    plain, pulled = np.empty(machine.size), np.empty(machine.size)
    for cost, out in ((0.0, plain), (2.0, pulled)):
        objective = ContrastiveDivergence(machine, sparsity_target=0.1, sparsity_cost=cost)
        objective.gradient(theta, Rows(ROWS, ROWS), out, generator())
    # The gradient of the cross-entropy between target and mean, with respect to the input.
    off = machine.hidden(theta, ROWS).mean(axis=0) - 0.1
    np.testing.assert_allclose(pulled[12:15] - plain[12:15], 2.0 * off)
    expected = 2.0 * np.outer(ROWS.mean(axis=0), off)
    np.testing.assert_allclose((pulled - plain)[:12].reshape(4, 3), expected, atol=1e-12)


def test_projection_shortens_long_incoming_weights_only():
    machine, theta = small()
    before = machine.views(theta)[0].copy()
    lengths = np.linalg.norm(before, axis=0)
    limit = float(np.sort(lengths)[1])
    ContrastiveDivergence(machine, max_norm=limit).project(theta)
    after = np.linalg.norm(machine.views(theta)[0], axis=0)
    np.testing.assert_allclose(after, np.minimum(lengths, limit))
    long = lengths > limit
    np.testing.assert_array_equal(machine.views(theta)[0][:, ~long], before[:, ~long])


def test_bits_come_back():
    values = bernoulli(np.full((5, 13), 0.5, np.float32), generator())
    assert packed(values).shape == (5, 2)
    np.testing.assert_array_equal(unpacked(packed(values), 13), values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_coins_fall_as_often_as_they_should(dtype):
    p = np.array([0, 3e-6, 0.25, 0.7, 1 - 3e-6, 1], dtype)
    random = generator(8)
    count = 400
    totals = sum(
        bernoulli(np.tile(p, (5000, 1)), random).sum(axis=0, dtype=np.float64) for _ in range(count)
    )
    trials = 5000 * count
    deviation = np.sqrt(trials * p * (1 - p))
    assert (np.abs(totals - trials * p) <= 5 * deviation).all()
    # Below the resolution of 16 bits, which alone would give 0 or 1.5e-5.
    assert 0 < totals[1] < 20


def test_rows_without_any_change_nothing():
    machine, theta = small()
    out = np.arange(machine.size, dtype=np.float64)
    empty = Rows(np.empty((0, 4)), np.empty((0, 4)))
    assert ContrastiveDivergence(machine).gradient(theta, empty, out, generator()) == (0.0, 0.0)
    np.testing.assert_array_equal(out, np.arange(machine.size))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_can_be_added_to_a_momentum(dtype):
    machine = Machine(*SIZES, dtype=dtype)
    theta, rows = small()[1].astype(dtype), ROWS.astype(dtype)
    plain = np.full(machine.size, np.nan, dtype)
    objective = ContrastiveDivergence(machine, 2)
    objective.gradient(theta, Rows(rows, rows), plain, generator())
    moved = np.arange(machine.size, dtype=dtype)
    objective.gradient(theta, Rows(rows, rows), moved, generator(), scale=-2.0)
    expected = np.arange(machine.size) - 2 * plain
    np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-5)


def test_unknown_units_are_refused_by_name():
    with pytest.raises(ValueError, match="unknown units 'ternary'; choose one of binary, gaussian"):
        Machine(2, 2, "ternary")
