"""The linear objective: virtual centring and scaling change the coordinates, not the loss."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.special import expit, log_softmax, softmax

from sparknn.linear import LinearObjective
from sparknn.objective import L2, ElasticNet, Rows

FEATURES = 5


def some_columns(count=40, seed=0):
    """Return columns of very different places and sizes, (rows, features) float64."""
    random = np.random.default_rng(seed)
    places, sizes = [0.0, 30.0, -2.0, 0.5, 100.0], [1.0, 10.0, 0.1, 3.0, 2.0]
    return random.normal(size=(count, FEATURES)) * sizes + places


def some_rows(columns, units, weighted=False, offset=None, seed=1):
    """Return rows with labels for as many classes, stored less the offset."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, max(units, 2), (len(columns), 1)).astype(np.float64)
    weights = random.uniform(0.2, 3.0, len(columns)) if weighted else None
    return Rows(columns if offset is None else columns - offset, labels, weights, offset)


def objective_for(columns, units, intercept, dead=None):
    """Return an objective that standardises the columns; the `dead` one takes no part."""
    scale = columns.std(axis=0, ddof=1)
    if dead is not None:
        scale[dead] = 0.0
    centre = columns.mean(axis=0) if intercept else np.zeros(columns.shape[1])
    return LinearObjective(centre, scale, units, intercept)


def some_theta(objective, seed=2):
    return np.random.default_rng(seed).normal(0, 0.5, objective.size)


def value_and_gradient(objective, theta, rows, penalty=None):
    gradient = np.full(objective.size, np.nan)
    value, _ = objective.gradient(theta, rows, gradient)
    if penalty is not None:
        value += penalty.value(theta)
        penalty.add_gradient(theta, gradient)
    return value, gradient


def plain_loss(weights, intercepts, columns, labels, row_weights=None):
    """Return the mean loss of logistic regression on columns as they are, from the textbook."""
    scores = columns @ weights + intercepts
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    losses = -log_softmax(scores, axis=1)[np.arange(len(labels)), labels[:, 0].astype(int)]
    return np.average(losses, weights=row_weights)


def assert_gradient_agrees(objective, rows, penalty=None, step=1e-6):
    theta = some_theta(objective)
    _, gradient = value_and_gradient(objective, theta, rows, penalty)
    expected = np.empty_like(theta)
    for index in range(len(theta)):
        there, back = theta.copy(), theta.copy()
        there[index] += step
        back[index] -= step
        expected[index] = (
            value_and_gradient(objective, there, rows, penalty)[0]
            - value_and_gradient(objective, back, rows, penalty)[0]
        ) / (2 * step)
    assert np.linalg.norm(expected) > 1e-3
    assert np.linalg.norm(gradient - expected) <= 1e-6 * np.linalg.norm(expected)


@pytest.fixture(params=[1, 4], ids=["two-classes", "four-classes"])
def units(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["intercept", "no-intercept"])
def intercept(request):
    return request.param


@pytest.mark.parametrize("dead", [None, 3], ids=["all", "zero-scale"])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("shifted", [False, True], ids=["whole", "offset"])
def test_gradient_agrees_with_finite_differences(units, intercept, shifted, weighted, dead):
    columns = some_columns()
    offset = np.array([0.0, 29.5, -2.25, 0.0, 100.0]) if shifted else None
    objective = objective_for(columns, units, intercept, dead)
    assert_gradient_agrees(objective, some_rows(columns, units, weighted, offset))


@pytest.mark.parametrize("standardization", [True, False])
@pytest.mark.parametrize("dead", [None, 3], ids=["all", "zero-scale"])
def test_gradient_agrees_with_finite_differences_with_penalty(
    units, intercept, standardization, dead
):
    columns = some_columns()
    objective = objective_for(columns, units, intercept, dead)
    penalty = objective.penalty(0.3, columns.std(axis=0, ddof=1), standardization)
    assert_gradient_agrees(objective, some_rows(columns, units), penalty)


def test_value_is_the_plain_loss_of_the_raw_weights_on_the_raw_columns(units, intercept):
    columns = some_columns()
    rows = some_rows(columns, units, weighted=True)
    objective = objective_for(columns, units, intercept)
    theta = some_theta(objective)
    value, _ = value_and_gradient(objective, theta, rows)
    expected = plain_loss(*objective.raw(theta), columns, rows.targets, rows.weights)
    assert value == pytest.approx(expected, rel=1e-12)


def test_intercepts_alone_are_the_loss_where_all_weights_are_zero(units):
    columns = some_columns()
    rows = some_rows(columns, units)
    objective = objective_for(columns, units, True)
    theta = np.zeros(objective.size)
    theta[-units:] = intercepts = np.linspace(0.5, 1.5, units)
    value, gradient = value_and_gradient(objective, theta, rows)
    none = np.zeros((FEATURES, units))
    assert value == pytest.approx(plain_loss(none, intercepts, columns, rows.targets), rel=1e-13)
    if units == 1:
        expected = [expit(0.5) - rows.targets.mean()]
    else:
        shares = np.bincount(rows.targets[:, 0].astype(int), minlength=units) / len(columns)
        expected = softmax(intercepts) - shares
    np.testing.assert_allclose(gradient[-units:], expected, rtol=1e-12, atol=1e-15)


def exact_loss(theta, centre, scale, columns, labels):
    """Return the mean log loss of the raw weights on the raw columns, to fifty digits.

    In float64 raw weights and columns of 1.5e9 would give margins right to nine places only.
    """
    with localcontext() as context:
        context.prec = 50
        exact = [Decimal(float(t)) for t in theta]
        weights = [t / Decimal(float(s)) for t, s in zip(exact, scale)]
        intercept = exact[-1] - sum(w * Decimal(float(c)) for w, c in zip(weights, centre))
        total = Decimal(0)
        for row, label in zip(columns, labels[:, 0]):
            margin = intercept + sum(w * Decimal(float(x)) for w, x in zip(weights, row))
            total += (1 + (-margin if label else margin).exp()).ln()
        return float(total / len(columns))


def large_columns():
    """Return columns of which one is 1.5e9 ± 1e3, in whole numbers, and their offset."""
    columns = some_columns().astype(np.float32).astype(np.float64)
    spread = np.random.default_rng(5).integers(-1000, 1001, len(columns))
    columns[:, 1] = 1.5e9 + spread
    return columns, np.array([0, 1.5e9 + 17, 0, 0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value_is_that_of_the_raw_columns_for_a_large_column_stored_with_an_offset(dtype):
    columns, offset = large_columns()
    rows = some_rows(columns, 1, offset=offset)
    rows = rows._replace(features=rows.features.astype(dtype))
    objective = objective_for(columns, 1, True)
    theta = some_theta(objective)
    value, _ = value_and_gradient(objective, theta, rows)
    scale = columns.std(axis=0, ddof=1)
    expected = exact_loss(theta, objective.centre, scale, columns, rows.targets)
    assert value == pytest.approx(expected, rel=1e-12)
    # The raw weights are float64 themselves: their margins on 1.5e9 are right to nine places.
    raw = plain_loss(*objective.raw(theta), columns, rows.targets)
    assert value == pytest.approx(raw, rel=1e-8)


def test_gradient_agrees_with_finite_differences_for_a_large_column_stored_with_an_offset(units):
    columns, offset = large_columns()
    rows = some_rows(columns, units, weighted=True, offset=offset)
    rows = rows._replace(features=rows.features.astype(np.float32))
    assert_gradient_agrees(objective_for(columns, units, True), rows)


def test_offset_of_the_stored_rows_changes_neither_value_nor_gradient(units, intercept):
    columns = some_columns()
    objective = objective_for(columns, units, intercept)
    theta = some_theta(objective)
    value, gradient = value_and_gradient(objective, theta, some_rows(columns, units))
    offset = np.array([1.0, 30.0, -2.0, 0.0, 99.0])
    same_value, same = value_and_gradient(
        objective, theta, some_rows(columns, units, offset=offset)
    )
    assert same_value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(same, gradient, rtol=1e-9, atol=1e-12)


def test_raw_and_theta_are_inverses(units, intercept):
    objective = objective_for(some_columns(), units, intercept)
    theta = some_theta(objective)
    weights, intercepts = objective.raw(theta)
    assert weights.shape == (FEATURES, units) and intercepts.shape == (units,)
    np.testing.assert_allclose(objective.theta(weights, intercepts), theta, rtol=1e-12, atol=1e-13)
    if not intercept:
        np.testing.assert_array_equal(intercepts, 0)


def test_raw_weights_and_intercepts_are_a_networks_of_one_layer_on_the_raw_columns(units):
    columns = some_columns()
    objective = objective_for(columns, units, True)
    theta = some_theta(objective)
    weights, intercepts = objective.raw(theta)
    standardised = (columns - objective.centre) / columns.std(axis=0, ddof=1)
    scores = standardised @ theta[:-units].reshape(FEATURES, units) + theta[-units:]
    np.testing.assert_allclose(columns @ weights + intercepts, scores, rtol=1e-10, atol=1e-12)


def test_a_column_of_scale_zero_takes_no_part(units, intercept):
    columns = some_columns()
    objective = objective_for(columns, units, intercept, dead=3)
    theta = some_theta(objective)
    value, gradient = value_and_gradient(objective, theta, some_rows(columns, units))
    dead = slice(3 * units, 4 * units)
    assert not gradient[dead].any() and gradient[: 3 * units].all()
    assert not objective.raw(theta)[0][3].any()
    assert not objective.theta(*objective.raw(theta))[dead].any()
    moved = theta.copy()
    moved[dead] += 100
    other = columns.copy()
    other[:, 3] = 7e5
    same_value, same = value_and_gradient(objective, moved, some_rows(other, units))
    assert same_value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(same, gradient, rtol=1e-9, atol=1e-10)
    for standardization in (True, False):
        penalty = objective.penalty(1.0, columns.std(axis=0, ddof=1), standardization)
        assert penalty.value(moved) == pytest.approx(penalty.value(theta), rel=1e-13)


@pytest.mark.parametrize("floor", [0.0, 0.7], ids=["deviation", "deviation-and-floor"])
def test_penalty_is_mllibs_on_the_weights_of_standardised_or_of_raw_columns(
    units, intercept, floor
):
    columns = some_columns()
    deviation = columns.std(axis=0, ddof=1)
    centre = columns.mean(axis=0) if intercept else np.zeros(FEATURES)
    objective = LinearObjective(centre, deviation + floor, units, intercept)
    theta = some_theta(objective)
    weights, _ = objective.raw(theta)
    raw = objective.penalty(0.3, deviation, standardization=False).value(theta)
    assert raw == pytest.approx(0.15 * np.sum(weights**2), rel=1e-13)
    standardised = objective.penalty(0.3, deviation, standardization=True).value(theta)
    expected = 0.15 * np.sum((weights * deviation[:, np.newaxis]) ** 2)
    assert standardised == pytest.approx(expected, rel=1e-13)


def test_penalty_of_strength_zero_is_nothing(units):
    objective = objective_for(some_columns(), units, True)
    penalty = objective.penalty(0.0, np.ones(FEATURES), True)
    gradient = np.ones(objective.size)
    penalty.add_gradient(some_theta(objective), gradient)
    assert penalty.value(some_theta(objective)) == 0.0 and (gradient == 1).all()


def test_imprecise_products_are_close_and_the_switch_goes_both_ways(units, intercept):
    columns, offset = large_columns()
    columns = columns if intercept else some_columns()
    rows = some_rows(columns, units, weighted=True, offset=offset if intercept else None)
    rows = rows._replace(features=rows.features.astype(np.float32))
    objective = objective_for(columns, units, intercept)
    theta = some_theta(objective)
    value, gradient = value_and_gradient(objective, theta, rows)
    assert objective.precise
    objective.precise = False
    rough_value, rough = value_and_gradient(objective, theta, rows)
    assert rough_value == pytest.approx(value, rel=1e-5)
    assert np.linalg.norm(rough - gradient) <= 1e-5 * np.linalg.norm(gradient)
    assert (rough != gradient).any()
    objective.precise = True
    np.testing.assert_array_equal(value_and_gradient(objective, theta, rows)[1], gradient)


def test_chunks_add_up_to_the_whole_by_their_weights(units):
    columns = some_columns()
    rows = some_rows(columns, units, weighted=True)
    objective = objective_for(columns, units, True)
    theta = some_theta(objective)
    value, gradient = value_and_gradient(objective, theta, rows)
    total, total_gradient, weight = 0.0, np.zeros(objective.size), 0.0
    for start in range(0, 40, 13):
        part = np.empty(objective.size)
        part_value, part_weight = objective.gradient(theta, rows.between(start, start + 13), part)
        total += part_value * part_weight
        total_gradient += part * part_weight
        weight += part_weight
    assert weight == pytest.approx(rows.weights.sum(), rel=1e-14)
    assert total / weight == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(total_gradient / weight, gradient, rtol=1e-10, atol=1e-14)


def test_zero_total_weight_gives_zero_gradient_loss_and_weight(units):
    columns = some_columns()
    rows = some_rows(columns, units)._replace(weights=np.zeros(len(columns)))
    objective = objective_for(columns, units, True)
    out = np.full(objective.size, np.nan)
    assert objective.gradient(some_theta(objective), rows, out) == (0.0, 0.0)
    assert not out.any()


def test_a_read_only_strided_float32_block_is_enough(units):
    columns = some_columns().astype(np.float32)
    rows = some_rows(columns, units, weighted=True)
    block = np.hstack([columns, rows.targets, rows.weights[:, np.newaxis]]).astype(np.float32)
    block.flags.writeable = False
    objective = objective_for(columns.astype(np.float64), units, True)
    theta = some_theta(objective)
    theta.flags.writeable = False
    strided = Rows(block[:, :FEATURES], block[:, FEATURES : FEATURES + 1], block[:, -1])
    value, gradient = value_and_gradient(objective, theta, strided)
    copied = Rows(*(np.array(part, np.float64) for part in strided[:3]))
    same_value, same = value_and_gradient(objective, theta, copied)
    assert value == pytest.approx(same_value, rel=1e-12)
    np.testing.assert_allclose(gradient, same, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("standardization", [True, False])
def test_l1_weighs_raw_or_standardised_weights_and_no_intercept(standardization):
    columns = some_columns()
    deviation = columns.std(axis=0, ddof=1)
    objective = objective_for(columns, 3, True, dead=2)
    theta = some_theta(objective)
    weights, _ = objective.raw(theta)
    weighed = weights * deviation[:, np.newaxis] if standardization else weights
    strengths = objective.l1(0.7, deviation, standardization)
    assert strengths.shape == theta.shape and not strengths[-3:].any()
    assert strengths @ np.abs(theta) == pytest.approx(0.7 * np.abs(weighed).sum())


def test_bounds_are_those_of_raw_weights():
    columns = some_columns()
    objective = objective_for(columns, 3, True, dead=2)
    theta = some_theta(objective)
    weights, _ = objective.raw(theta)
    lower = objective.bounds(weights, np.full(3, -np.inf))
    split = objective.features * objective.units
    alive = np.repeat(objective.inverse_scale != 0, 3)
    np.testing.assert_allclose(lower[:split][alive], theta[:split][alive])
    np.testing.assert_array_equal(lower[:split][~alive], 0)
    assert np.isneginf(lower[split:]).all()
    infinite = objective.bounds(np.full_like(weights, np.inf), np.full(3, np.inf))
    assert not np.isnan(infinite).any()


def test_intercepts_cannot_be_bounded_where_columns_are_centred():
    columns = some_columns()
    weights = np.zeros((FEATURES, 1))
    with pytest.raises(ValueError, match="centred"):
        objective_for(columns, 1, True).bounds(weights, np.zeros(1))
    plain = LinearObjective(np.zeros(FEATURES), columns.std(axis=0), 1, True)
    assert plain.bounds(weights, np.full(1, 0.5))[-1] == 0.5


def test_an_elastic_net_adds_both_penalties_and_their_gradients():
    theta = np.array([1.5, -2.0, 0.0, 3.0])
    l2 = L2(0.5, [(slice(0, 3), 1.0)])
    both = ElasticNet(0.5, [(slice(0, 3), 1.0)], np.array([0.1, 0.2, 0.3, 0.0]))
    assert both.value(theta) == pytest.approx(l2.value(theta) + 0.15 + 0.4, rel=1e-14)
    with_l2, with_both = np.zeros(4), np.zeros(4)
    l2.add_gradient(theta, with_l2)
    both.add_gradient(theta, with_both)
    np.testing.assert_allclose(with_both - with_l2, [0.1, -0.2, 0.0, 0.0], atol=1e-15)
