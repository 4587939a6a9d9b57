"""The network's numbers: gradients, layout, initial parameters, dropout, workspace."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from sparknn.network import Network
from sparknn.objective import Rows

ACTIVATIONS = ["sigmoid", "tanh", "relu", "linear"]
LOSSES = ["softmax", "sigmoid", "squared", "absolute", "huber", "sigmoid-squared"]


def rows_for(network, count=9, weighted=False, seed=3):
    """Return random float64 rows that suit the network: class labels, or a value per unit."""
    random = np.random.default_rng(seed)
    units = network.layers[-1]
    features = random.normal(size=(count, network.layers[0]))
    if network.loss.name == "softmax":
        targets = random.integers(0, units, (count, 1)).astype(np.float64)
    else:
        targets = random.uniform(0.1, 0.9, (count, units))
    weights = random.uniform(0.2, 3.0, count) if weighted else None
    return Rows(features, targets, weights)


def float64_start(network, seed=5):
    """Return parameters with biases that are not zero, so that no gradient vanishes by symmetry."""
    random = np.random.default_rng(seed)
    return network.initial(seed) + 0.1 * random.normal(size=network.size)


def value_and_gradient(network, theta, rows, penalty=None, dropped_with=None):
    """Return the penalised mean loss and its gradient; dropout draws with the given seed."""
    random = None if dropped_with is None else np.random.default_rng(dropped_with)
    gradient = np.full(network.size, np.nan, network.dtype)
    value, _ = network.gradient(theta, rows, gradient, random)
    if penalty is not None:
        value += penalty.value(theta)
        penalty.add_gradient(theta, gradient)
    return value, gradient


def finite_differences(function, theta, step=1e-6):
    """Return the central differences of a function of one vector."""
    gradient = np.empty(len(theta))
    for index in range(len(theta)):
        there, back = theta.copy(), theta.copy()
        there[index] += step
        back[index] -= step
        gradient[index] = (function(there) - function(back)) / (2 * step)
    return gradient


def assert_gradient_agrees(network, rows, penalty=None, dropped_with=None):
    theta = float64_start(network)

    def value(point):
        return value_and_gradient(network, point, rows, penalty, dropped_with)[0]

    _, gradient = value_and_gradient(network, theta, rows, penalty, dropped_with)
    expected = finite_differences(value, theta)
    assert np.linalg.norm(expected) > 1e-4
    assert np.linalg.norm(gradient - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize(("activation", "loss"), list(itertools.product(ACTIVATIONS, LOSSES)))
def test_gradient_agrees_with_finite_differences_for_every_activation_and_loss(activation, loss):
    network = Network([4, 5, 3], activation, loss, dtype=np.float64)
    assert_gradient_agrees(network, rows_for(network))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layers", [[4, 3], [4, 6, 5, 4, 3]], ids=["no-hidden", "three-hidden"])
def test_gradient_agrees_with_finite_differences_without_and_with_many_layers(layers, loss):
    network = Network(layers, "tanh", loss, dtype=np.float64)
    assert_gradient_agrees(network, rows_for(network))


@pytest.mark.parametrize("loss", ["sigmoid", "squared", "sigmoid-squared"])
def test_gradient_agrees_with_finite_differences_for_a_single_output_unit(loss):
    network = Network([4, 3, 1], "sigmoid", loss, dtype=np.float64)
    assert_gradient_agrees(network, rows_for(network))


def test_gradient_agrees_with_finite_differences_with_an_activation_for_each_layer():
    network = Network([4, 5, 4, 3, 2], ["relu", "sigmoid", "tanh"], dtype=np.float64)
    assert_gradient_agrees(network, rows_for(network))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_agrees_with_finite_differences_with_row_weights_and_penalty(loss):
    network = Network([4, 5, 3], "tanh", loss, dtype=np.float64)
    assert_gradient_agrees(network, rows_for(network, weighted=True), network.penalty(0.3))


@pytest.mark.parametrize("dropout", [0.4, [0.3, 0.0, 0.5], [0.3, 0.4, 0.0]])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradient_agrees_with_finite_differences_under_dropout(activation, dropout):
    network = Network([6, 7, 5, 3], activation, dropout=dropout, dtype=np.float64)
    assert_gradient_agrees(network, rows_for(network), dropped_with=11)


def test_penalty_is_half_the_strength_times_the_squared_weights_without_biases():
    network = Network([2, 3, 2], dtype=np.float64)
    theta = np.arange(1.0, network.size + 1)
    (first, _), (second, _) = network.views(theta)
    expected = 0.5 * 0.7 * (np.sum(first**2) + np.sum(second**2))
    assert network.penalty(0.7).value(theta) == pytest.approx(expected, rel=1e-14)
    gradient = np.zeros(network.size)
    network.penalty(0.7).add_gradient(theta, gradient)
    for (weights, biases), (seen, seen_biases) in zip(
        network.views(theta), network.views(gradient), strict=True
    ):
        np.testing.assert_allclose(seen, 0.7 * weights, rtol=1e-14)
        assert not seen_biases.any() and biases.all()


@pytest.mark.parametrize(("activation", "loss"), list(itertools.product(ACTIVATIONS, LOSSES)))
def test_float32_gradient_is_close_to_the_float64_one(activation, loss):
    exact = Network([20, 15, 10, 3], activation, loss, dtype=np.float64)
    single = Network([20, 15, 10, 3], activation, loss)
    rows = rows_for(exact, 200, weighted=True)
    theta = float64_start(exact)
    rows32 = Rows(*(part.astype(np.float32) for part in rows[:3]))
    value, gradient = value_and_gradient(exact, theta, rows)
    value32, gradient32 = value_and_gradient(single, theta.astype(np.float32), rows32)
    assert gradient32.dtype == np.float32
    assert value32 == pytest.approx(value, rel=1e-5)
    assert np.linalg.norm(gradient32 - gradient) <= 1e-4 * np.linalg.norm(gradient)


def test_equal_row_weights_change_nothing_and_a_whole_weight_counts_as_repeated_rows():
    network = Network([4, 5, 3], dtype=np.float64)
    plain = rows_for(network, 6)
    theta = float64_start(network)
    value, gradient = value_and_gradient(network, theta, plain)
    same_value, same = value_and_gradient(network, theta, plain._replace(weights=np.full(6, 2.5)))
    assert same_value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(same, gradient, rtol=1e-10, atol=1e-14)
    counts = np.array([1, 0, 3, 1, 2, 1])
    repeated = Rows(plain.features.repeat(counts, axis=0), plain.targets.repeat(counts, axis=0))
    value, gradient = value_and_gradient(network, theta, repeated)
    same_value, same = value_and_gradient(
        network, theta, plain._replace(weights=counts.astype(np.float64))
    )
    assert same_value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(same, gradient, rtol=1e-10, atol=1e-14)


def test_total_weight_is_returned_beside_the_mean_loss():
    network = Network([4, 3], dtype=np.float64)
    rows = rows_for(network, 5)
    theta, out = float64_start(network), np.empty(network.size)
    assert network.gradient(theta, rows, out)[1] == 5.0
    assert network.gradient(theta, rows._replace(weights=np.full(5, 0.5)), out)[1] == 2.5


def test_class_labels_stand_for_indicator_targets_of_the_other_losses():
    for loss in ("sigmoid", "squared", "sigmoid-squared"):
        network = Network([4, 5, 3], "tanh", loss, dtype=np.float64)
        labels = np.array([[0.0], [2.0], [1.0], [2.0]])
        features = np.random.default_rng(0).normal(size=(4, 4))
        theta = float64_start(network)
        value, gradient = value_and_gradient(network, theta, Rows(features, labels))
        encoded = np.eye(3)[[0, 2, 1, 2]]
        same_value, same = value_and_gradient(network, theta, Rows(features, encoded))
        assert value == same_value
        np.testing.assert_array_equal(gradient, same)


def test_flat_layout_is_weights_in_c_order_then_biases_layer_by_layer_as_in_mllib():
    network = Network([2, 3, 2], "linear", "squared", dtype=np.float64)
    theta = np.array(
        # the first layer's weights, from either input to three units, and the units' biases
        [1, 2, 3, 4, 5, 6, 0.1, 0.2, 0.3]
        # the second layer's, from each of three inputs to two units, and biases
        + [1, -1, 2, -2, 3, -3, 10, 20]
    )
    assert network.size == len(theta)
    # hidden: 7*(1,2,3) + 9*(4,5,6) + (.1,.2,.3) = (43.1, 59.2, 75.3)
    # output: 43.1*(1,-1) + 59.2*(2,-2) + 75.3*(3,-3) + (10,20) = (397.4, -367.4)
    outputs = network.outputs(theta, np.array([[7.0, 9.0]]))
    np.testing.assert_allclose(outputs, [[397.4, -367.4]], rtol=1e-14)


def test_views_share_memory_with_the_flat_vector():
    network = Network([2, 3, 2])
    theta = np.zeros(network.size, np.float32)
    views = network.views(theta)
    assert [(w.shape, b.shape) for w, b in views] == [((2, 3), (3,)), ((3, 2), (2,))]
    for number, (weights, biases) in enumerate(views):
        weights[:] = 10 + number
        biases[:] = 20 + number
    np.testing.assert_array_equal(theta, [10] * 6 + [20] * 3 + [11] * 6 + [21] * 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES)
def test_extreme_scores_give_finite_losses_and_gradients(loss, dtype):
    network = Network([1, 2], loss=loss, dtype=dtype)
    theta = np.array([1e4, -1e4, 0, 0], dtype)
    rows = Rows(np.array([[1], [-1]], dtype), np.array([[0], [0]], dtype))
    value, gradient = value_and_gradient(network, theta, rows)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    # The first row is right by a wide margin and the second one wrong: 20,000 for a softmax, and
    # 10,000 for each of two sigmoids; the squares saturate at one half a unit.
    errors = [0.5 * (1e4 - 1) ** 2 + 0.5e8, 0.5 * (1e4 + 1) ** 2 + 0.5e8]
    expected = {
        "softmax": 1e4,
        "sigmoid": 1e4,
        "squared": np.mean(errors),
        "absolute": 2e4,
        "huber": 2 * (1.35 * 1e4 - 0.5 * 1.35**2),
        "sigmoid-squared": 0.5,
    }
    assert value == pytest.approx(expected[loss], rel=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "sigmoid-squared"])
def test_extreme_scores_give_outputs_of_exactly_zero_and_one(loss, dtype):
    network = Network([1, 2], loss=loss, dtype=dtype)
    outputs = network.outputs(np.array([1e4, -1e4, 0, 0]), np.array([[1], [-1]]))
    np.testing.assert_array_equal(outputs, [[1, 0], [0, 1]])


@pytest.mark.filterwarnings("error")
def test_sigmoid_units_of_hidden_layers_saturate_without_warning():
    network = Network([1, 2, 1], "sigmoid", "squared")
    theta = np.array([1e4, -1e4, 0, 0, 1, 2, 0], np.float32)
    np.testing.assert_array_equal(network.outputs(theta, np.array([[1], [-1]])), [[1], [2]])


def test_softmax_outputs_are_probabilities_that_sum_to_one():
    network = Network([6, 8, 5])
    theta = 5 * network.initial(2)
    outputs = network.outputs(theta, np.random.default_rng(1).normal(size=(50, 6)))
    assert outputs.dtype == np.float32 and outputs.shape == (50, 5)
    assert (outputs > 0).all() and (outputs < 1).all()
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)


def test_outputs_leave_features_and_parameters_as_they_are():
    network = Network([3, 2], loss="softmax")
    theta = network.initial(0).astype(np.float32)
    features = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    before = theta.copy(), features.copy()
    network.outputs(theta, features)
    network.gradient(theta, Rows(features, np.zeros((4, 1), np.float32)), np.empty_like(theta))
    np.testing.assert_array_equal(theta, before[0])
    np.testing.assert_array_equal(features, before[1])


def test_initial_sigmoid_parameters_are_uniform_within_mllibs_bounds_with_biases():
    network = Network([50, 400, 30], "sigmoid")
    for (weights, biases), fan_in in zip(network.views(network.initial(1)), [50, 400], strict=True):
        drawn = np.concatenate([weights.ravel(), biases]) * np.sqrt(fan_in) / 2.4
        assert np.abs(drawn).max() <= 1
        assert np.abs(biases).min() > 0
        assert np.abs(drawn).max() > 0.99
        assert drawn.mean() == pytest.approx(0, abs=0.03)
        assert drawn.var() == pytest.approx(1 / 3, rel=0.03)


@pytest.mark.parametrize("activation", ["tanh", "linear"])
def test_initial_tanh_and_linear_weights_keep_glorots_bounds_with_zero_biases(activation):
    network = Network([50, 400, 30], activation)
    for weights, biases in network.views(network.initial(1)):
        bound = np.sqrt(6 / sum(weights.shape))
        assert 0.99 * bound < np.abs(weights).max() <= bound
        assert weights.var() == pytest.approx(bound**2 / 3, rel=0.03)
        assert not biases.any()


def test_initial_relu_weights_have_hes_variance_with_zero_biases():
    network = Network([50, 400, 300], "relu")
    for weights, biases in network.views(network.initial(1)):
        assert weights.var() == pytest.approx(2 / len(weights), rel=0.03)
        assert weights.mean() == pytest.approx(0, abs=0.02 * np.sqrt(2 / len(weights)) * 3)
        assert np.abs(weights).max() > 3 * weights.std()
        assert not biases.any()


def test_output_layer_is_drawn_as_the_last_hidden_one_and_alone_as_for_sigmoid_units():
    (_, hidden), (last, biases) = Network([30, 20, 10], "tanh").views(
        Network([30, 20, 10], "tanh").initial(4)
    )
    assert not hidden.any() and not biases.any()
    assert np.abs(last).max() <= np.sqrt(6 / 30)
    network = Network([30, 10])
    ((weights, biases),) = network.views(network.initial(4))
    assert np.abs(weights).max() <= 2.4 / np.sqrt(30) and biases.all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", [0, 1, -1, -(2**63), 2**63 - 1, 2**64 - 2])
def test_same_seed_draws_the_same_parameters_also_negative_and_64_bit(seed, activation):
    network = Network([5, 4, 3], activation)
    first = network.initial(seed)
    assert first.shape == (network.size,) and first.dtype == np.float64
    np.testing.assert_array_equal(Network([5, 4, 3], activation).initial(seed), first)
    assert (network.initial(seed + 1) != first).any()


def test_a_seed_and_its_negative_draw_different_parameters():
    network = Network([5, 4, 3])
    assert (network.initial(7) != network.initial(-7)).all()


def test_zero_total_weight_gives_zero_gradient_loss_and_weight():
    network = Network([4, 5, 3])
    rows = rows_for(network, 3)._replace(weights=np.zeros(3, np.float32))
    out = np.full(network.size, np.nan, np.float32)
    assert network.gradient(np.ones(network.size, np.float32), rows, out) == (0.0, 0.0)
    assert not out.any()


def test_no_rows_give_zero_gradient_loss_and_weight():
    network = Network([4, 3])
    out = np.full(network.size, np.nan, np.float32)
    rows = Rows(np.empty((0, 4), np.float32), np.empty((0, 1), np.float32))
    assert network.gradient(np.ones(network.size, np.float32), rows, out) == (0.0, 0.0)
    assert not out.any()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layers": [4]}, "layers"),
        ({"layers": []}, "layers"),
        ({"layers": [4, 0, 2]}, "layers"),
        ({"layers": [4, -3, 2]}, "layers"),
        ({"layers": [4, 3, 2], "activation": "sigmoidal"}, "activation 'sigmoidal'"),
        ({"layers": [4, 3, 2], "activation": ["tanh", "relu"]}, "activation"),
        ({"layers": [4, 3, 3, 2], "activation": ["tanh"]}, "activation"),
        ({"layers": [4, 3, 2], "loss": "hinge"}, "loss 'hinge'"),
        ({"layers": [4, 3, 1], "loss": "softmax"}, "loss"),
        ({"layers": [4, 3, 2], "dropout": 1.0}, "dropout"),
        ({"layers": [4, 3, 2], "dropout": -0.1}, "dropout"),
        ({"layers": [4, 3, 2], "dropout": float("nan")}, "dropout"),
        ({"layers": [4, 3, 2], "dropout": [0.1]}, "dropout"),
        ({"layers": [4, 3, 2], "dropout": [0.1, 0.2, 0.3]}, "dropout"),
        ({"layers": [4, 3, 2], "dropout": [0.1, 1.5]}, "dropout"),
    ],
)
def test_bad_options_raise_value_error_that_names_the_option(options, named):
    with pytest.raises(ValueError, match=named):
        Network(**options)


def test_loss_is_softmax_by_default_and_sigmoid_for_one_output_unit():
    assert Network([4, 2]).loss.name == "softmax"
    assert Network([4, 1]).loss.name == "sigmoid"


def test_dropout_is_off_without_a_generator_and_at_prediction():
    with_dropout, without = (
        Network([4, 5, 3], dropout=rate, dtype=np.float64) for rate in (0.5, 0)
    )
    rows, theta = rows_for(without), float64_start(without)
    value, gradient = value_and_gradient(with_dropout, theta, rows)
    expected_value, expected = value_and_gradient(without, theta, rows)
    assert value == expected_value
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_array_equal(
        with_dropout.outputs(theta, rows.features), without.outputs(theta, rows.features)
    )
    assert with_dropout.stochastic and not without.stochastic


def test_dropout_follows_its_generator():
    network = Network([4, 50, 3], dropout=0.5, dtype=np.float64)
    rows, theta = rows_for(network), float64_start(network)
    first, same, other = (
        value_and_gradient(network, theta, rows, dropped_with=seed)[1] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize("dropout", [[0.3, 0.0], [0.0, 0.6], [0.3, 0.6]])
def test_dropout_keeps_the_expected_activation(dropout):
    # In a linear network the output's bias has the mean score as its gradient, and the mean over
    # many draws of what is left out must be the score with nothing left out.
    network = Network([3, 4, 1], "linear", "squared", dropout, dtype=np.float64)
    theta = np.abs(float64_start(network)) + 0.5
    row = np.array([[1.0, 2.0, 3.0]])
    rows = Rows(row.repeat(40_000, axis=0), np.zeros((40_000, 1)))
    _, gradient = value_and_gradient(network, theta, rows, dropped_with=9)
    assert gradient[-1] == pytest.approx(network.scores(theta, row)[0, 0], rel=0.02)
    _, one = value_and_gradient(network, theta, rows.between(0, 1), dropped_with=9)
    assert one[-1] != pytest.approx(network.scores(theta, row)[0, 0], rel=0.02)


def test_dropped_inputs_are_left_out_at_their_rate():
    # With one input, a dropped row scores its bias: no loss against a target of that value.
    network = Network([1, 1], loss="squared", dropout=[0.25], dtype=np.float64)
    rows = Rows(np.ones((40_000, 1)), np.zeros((40_000, 1)))
    value, _ = value_and_gradient(network, np.array([1.0, 0.0]), rows, dropped_with=3)
    assert value == pytest.approx(0.75 * 0.5 * (1 / 0.75) ** 2, rel=0.02)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_one_workspace_serves_smaller_and_larger_batches_as_a_fresh_network_does(dropout):
    def network():
        return Network([4, 6, 5, 3], "relu", dropout=[dropout] * 3)

    reused = network()
    theta = float64_start(reused).astype(np.float32)
    for size in (8, 3, 8, 20, 1, 20, 19):
        rows = rows_for(reused, size, seed=size)
        rows = Rows(*(part.astype(np.float32) for part in rows[:2]))
        value, gradient = value_and_gradient(reused, theta, rows, dropped_with=size)
        fresh_value, fresh = value_and_gradient(network(), theta, rows, dropped_with=size)
        assert value == fresh_value
        np.testing.assert_array_equal(gradient, fresh)


def test_pickled_network_leaves_its_workspace_behind_and_computes_the_same():
    network = Network([4, 6, 3], ["tanh"], dropout=0.5)
    bare = len(pickle.dumps(network))
    theta = network.initial(1).astype(np.float32)
    rows = rows_for(network, 5000)
    rows = Rows(*(part.astype(np.float32) for part in rows[:2]))
    value, gradient = value_and_gradient(network, theta, rows, dropped_with=1)
    sent = pickle.dumps(network)
    assert len(sent) == bare
    same_value, same = value_and_gradient(pickle.loads(sent), theta, rows, dropped_with=1)
    assert value == same_value
    np.testing.assert_array_equal(gradient, same)
    # The sender goes on with its own.
    np.testing.assert_array_equal(value_and_gradient(network, theta, rows, dropped_with=1)[1], same)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dropout", [0.0, [0.4, 0.4]])
def test_features_targets_and_weights_may_be_columns_of_a_wider_block(dropout, dtype):
    network = Network([4, 5, 3], "tanh", dropout=dropout, dtype=dtype)
    random = np.random.default_rng(0)
    block = random.normal(size=(30, 6)).astype(np.float32)
    block[:, 4] = random.integers(0, 3, 30)
    block[:, 5] = random.uniform(0.5, 2, 30)
    strided = Rows(block[:, :4], block[:, 4:5], block[:, 5])
    copied = Rows(*(np.ascontiguousarray(part) for part in strided[:3]))
    theta = float64_start(network).astype(dtype)
    for part, same_part in ((strided, copied), (strided.between(7, 19), copied.between(7, 19))):
        value, gradient = value_and_gradient(network, theta, part, dropped_with=2)
        same_value, same = value_and_gradient(network, theta, same_part, dropped_with=2)
        assert value == pytest.approx(same_value, rel=1e-6)
        np.testing.assert_allclose(gradient, same, rtol=1e-5, atol=1e-6)
    assert block.flags.c_contiguous and not strided.features.flags.c_contiguous


def test_a_read_only_block_is_enough():
    network = Network([4, 3], dropout=[0.5])
    block = np.random.default_rng(0).uniform(0, 3, (10, 5)).astype(np.float32)
    block[:, 4] = np.floor(block[:, 4])
    block.flags.writeable = False
    theta = network.initial(0).astype(np.float32)
    theta.flags.writeable = False
    value, _ = value_and_gradient(network, theta, Rows(block[:, :4], block[:, 4:]), dropped_with=1)
    assert np.isfinite(value)
