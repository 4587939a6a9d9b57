"""Deep belief networks as numbers: what layers say of each other, and what they are good for."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sparknn.boltzmann import ContrastiveDivergence, Stack, Up, machines_of
from sparknn.network import Network
from sparknn.objective import Rows
from sparknn.optimizers import SGD


def stack_of(layers, seed=0, spread=1.0, **types) -> Stack:
    random = np.random.default_rng(seed)
    machines = machines_of(layers, **types)
    return Stack(machines, [spread * random.standard_normal(each.size) for each in machines])


def rows_of(columns: int, rows: int = 7) -> np.ndarray:
    return np.random.default_rng(1).random((rows, columns)).astype(np.float32)


def test_only_the_ends_of_the_stack_may_be_gaussian():
    machines = machines_of([5, 4, 3, 2], "gaussian", "gaussian")
    kinds = [(each.visible_units.name, each.hidden_units.name) for each in machines]
    assert kinds == [("gaussian", "binary"), ("binary", "binary"), ("binary", "gaussian")]
    assert [(each.visible_size, each.hidden_size) for each in machines] == [(5, 4), (4, 3), (3, 2)]
    with pytest.raises(ValueError, match=r"two or more sizes, input and hidden, got \[5\]"):
        machines_of([5])


def test_each_layers_means_are_the_next_ones_input():
    stack, v = stack_of([6, 5, 3]), rows_of(6)
    first = Up(stack.machines[0], stack.thetas[0])(v)
    np.testing.assert_array_equal(stack.up(v, 1), first)
    np.testing.assert_array_equal(stack.up(v), Up(stack.machines[1], stack.thetas[1])(first))
    np.testing.assert_array_equal(
        stack.down(first, 1), stack.machines[0].visible(stack.thetas[0], first)
    )


def test_a_perceptron_begins_with_the_machines_hidden_layers():
    stack, v = stack_of([6, 5, 3], hidden_type="gaussian"), rows_of(6)
    network = Network([6, 5, 3, 4], stack.activations())
    theta = stack.initial_weights(4, seed=2)
    assert theta.shape == (network.size,)
    weights, biases = network.views(theta)[-1]
    assert (biases == 0).all()
    assert np.abs(weights).max() <= np.sqrt(6 / 7)
    np.testing.assert_allclose(network.scores(theta, v), stack.up(v) @ weights, rtol=1e-4)
    assert (stack.initial_weights(4, seed=3) != theta).any()


@pytest.mark.parametrize("code", ["binary", "gaussian"])
@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_the_unrolled_network_goes_up_and_down_again(visible, code):
    stack = stack_of([6, 5, 3], visible_type=visible, hidden_type=code)
    v = rows_of(6)
    network, theta = stack.unrolled("squared")
    assert network.layers == [6, 5, 3, 5, 6]
    np.testing.assert_allclose(
        network.outputs(theta, v), stack.down(stack.up(v)), rtol=1e-5, atol=1e-6
    )
    # Its error is that of its own input.
    out = np.empty(network.size, np.float32)
    loss, _ = network.gradient(theta.astype(np.float32), Rows(v, v), out)
    expected = 0.5 * np.square(network.outputs(theta, v) - v).sum(axis=1).mean()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_cross_entropy_is_of_binary_inputs():
    network, theta = stack_of([6, 3]).unrolled("crossEntropy")
    v = rows_of(6)
    out = np.empty(network.size, np.float32)
    loss, _ = network.gradient(theta.astype(np.float32), Rows(v, v), out)
    o = network.outputs(theta, v).astype(np.float64)
    assert loss == pytest.approx(-(v * np.log(o) + (1 - v) * np.log(1 - o)).sum(axis=1).mean())
    with pytest.raises(ValueError, match="use loss='squared'"):
        stack_of([6, 3], visible_type="gaussian").unrolled("crossEntropy")


def exact_marginals(stack: Stack) -> np.ndarray:
    """Return P(v_i = 1) of a small stack of two machines, by going through all states."""
    (low, high), (low_theta, high_theta) = stack.machines, stack.thetas
    states = np.array(list(product([0.0, 1.0], repeat=high.visible_size)))
    log = -high.free_energy(high_theta.astype(np.float64), states)
    probability = np.exp(log - log.max())
    return probability @ low.visible(low_theta, states) / probability.sum()


def test_samples_from_the_top_down_have_the_exact_marginals():
    stack = stack_of([4, 3, 2], seed=5)
    samples = stack.sample(20_000, 60, seed=1)
    assert set(np.unique(samples)) == {0, 1}
    assert samples.mean(axis=0) == pytest.approx(exact_marginals(stack), abs=0.015)
    np.testing.assert_array_equal(stack.sample(5, 3, seed=1), stack.sample(5, 3, seed=1))


def test_samples_without_a_step_are_reconstructions_of_where_they_start():
    stack = stack_of([4, 3, 2], seed=3, spread=1000.0)
    start = np.array([[1, 0, 0, 1], [0, 1, 1, 0]], np.float32)
    # Weights so large that nothing is left to chance.
    expected = stack.machines[0].visible(stack.thetas[0], stack.up(start, 1))
    np.testing.assert_allclose(stack.sample(2, 0, 1, start), expected, atol=1e-6)


DEEP = [64, *[30] * 6]


def steps(objective, theta, rows, rate, epochs, momentum, batch=20) -> np.ndarray:
    """Return `theta` after some epochs of plain minibatch steps."""
    random = np.random.Generator(np.random.SFC64(3))
    optimizer = SGD(rate, momentum)
    optimizer.start(objective.size, np.float32)
    theta, out = theta.astype(np.float32), np.empty(objective.size, np.float32)
    for count in range(epochs * (rows.length // batch)):
        place = count % (rows.length // batch) * batch
        objective.gradient(theta, rows.between(place, place + batch), out, random)
        optimizer.step(theta, out, 0.0, count)
    return theta


@pytest.fixture(scope="module")
def deep(digits_arrays) -> tuple[Rows, Stack]:
    """The digits, and a stack of six narrow layers that was trained on them, layer by layer."""
    features, labels = digits_arrays
    order = np.random.default_rng(0).permutation(len(labels))
    features = features[order].astype(np.float32)
    rows, v, thetas = Rows(features, labels[order][:, np.newaxis]), features, []
    for machine in machines_of(DEEP):
        start = machine.initial(1, v.mean(axis=0))
        thetas.append(
            steps(ContrastiveDivergence(machine), start, Rows(v, v), 0.05, 100, momentum=0.5)
        )
        v = Up(machine, thetas[-1])(v)
    return rows, Stack(machines_of(DEEP), thetas)


def reach(network: Network, theta: np.ndarray, rows: Rows) -> float:
    """Return the size of the first layer's gradient as a share of the last one's."""
    out = np.empty(network.size, np.float32)
    network.gradient(theta.astype(np.float32), rows, out)
    norms = [np.sqrt(np.mean(weights**2)) for weights, _ in network.views(out)]
    return norms[0] / norms[-1]


def test_six_narrow_layers_learn_after_pretraining_and_not_before(deep):
    rows, stack = deep
    network = Network([*DEEP, 10])
    small = 0.1 * np.random.default_rng(2).standard_normal(network.size)
    pretrained = stack.initial_weights(10, seed=1)
    vanishing = reach(network, small, rows)
    assert vanishing < 1e-5
    # Three to two hundred times, by the chains' draws.
    assert reach(network, pretrained, rows) > 5 * vanishing

    def accuracy(start: np.ndarray) -> float:
        theta = steps(network, start, rows, 0.3, 20, momentum=0.9)
        return float((network.outputs(theta, rows.features).argmax(1) == rows.targets[:, 0]).mean())

    assert accuracy(small) < 0.2
    assert accuracy(pretrained) > 0.8
