"""Minibatch optimizers against plain transcriptions of their formulas."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from sparknn.optimizers import SCHEDULES, SGD, Adam, constant, cosine, inverse_time, linear, step

STEPS = 25


def gradients(size=6, seed=0):
    """Return one gradient for each step, of very different sizes."""
    random = np.random.default_rng(seed)
    return random.normal(size=(STEPS, size)) * np.logspace(-4, 3, size)


def run(optimizer, start, steps, dtype=np.float64):
    """Return the parameters after each of the steps."""
    optimizer.start(len(start), dtype)
    theta, path = start.astype(dtype), []
    for count, gradient in enumerate(steps):
        optimizer.step(theta, gradient.astype(dtype), count / len(steps), count)
        path.append(theta.copy())
    return np.array(path)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_with_momentum_is_the_hand_written_loop(momentum):
    theta, velocity, expected = np.ones(6), np.zeros(6), []
    for gradient in gradients():
        velocity = momentum * velocity - 0.05 * gradient
        theta = theta + velocity
        expected.append(theta)
    path = run(SGD(0.05, momentum), np.ones(6), gradients())
    np.testing.assert_allclose(path, expected, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_gathering_gradients_gives_the_same_path_and_velocity_as_steps(momentum):
    plain, gathering = SGD(0.05, momentum), SGD(0.05, momentum)
    theta = np.ones(6)
    gathering.start(6, np.float64)
    # Long enough for the factor to be taken back into the velocity, more than once.
    steps = np.tile(gradients(), (4, 1))
    expected = run(plain, np.ones(6), steps)
    for gradient, wanted in zip(steps, expected, strict=True):
        scale = gathering.gather(0.0)
        gathering.state[0] += scale * gradient
        gathering.follow(theta)
        np.testing.assert_allclose(theta, wanted, rtol=1e-9)
    gathering.settle()
    np.testing.assert_allclose(gathering.state, plain.state, rtol=1e-9)


def test_sgd_with_nesterovs_gradient_is_the_hand_written_loop():
    theta, velocity, expected = np.ones(6), np.zeros(6), []
    for gradient in gradients():
        velocity = 0.9 * velocity - 0.05 * gradient
        theta = theta + 0.9 * velocity - 0.05 * gradient
        expected.append(theta)
    path = run(SGD(0.05, 0.9, nesterov=True), np.ones(6), gradients())
    np.testing.assert_allclose(path, expected, rtol=1e-12)


def test_nesterovs_gradient_is_the_one_at_the_point_looked_ahead():
    # Sutskever's form evaluates the gradient at theta + m v. Where it is linear in theta, the path
    # of the looked-ahead points is that of this formulation.
    curvature = np.array([1.0, 10.0])
    plain, velocity, expected = np.ones(2), np.zeros(2), []
    for _ in range(STEPS):
        velocity = 0.8 * velocity - 0.05 * curvature * (plain + 0.8 * velocity)
        plain = plain + velocity
        expected.append(plain + 0.8 * velocity)
    optimizer, theta = SGD(0.05, 0.8, nesterov=True), np.ones(2)
    optimizer.start(2, np.float64)
    for count in range(STEPS):
        optimizer.step(theta, curvature * theta, 0.0, count)
        np.testing.assert_allclose(theta, expected[count], rtol=1e-12)


def test_sgd_follows_schedules_of_step_size_and_momentum():
    theta, velocity, expected = np.ones(6), np.zeros(6), []
    for count, gradient in enumerate(gradients()):
        progress = count / STEPS
        velocity = (0.5 + 0.4 * progress) * velocity - 0.1 * (1 - progress) * gradient
        theta = theta + velocity
        expected.append(theta)
    path = run(SGD(linear(0.1), linear(0.5, 0.9)), np.ones(6), gradients())
    np.testing.assert_allclose(path, expected, rtol=1e-12)


def adam_by_the_paper(start, steps, step_size, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Kingma and Ba (2015), algorithm 1, line by line."""
    theta, m, v, t, path = start.astype(np.float64), 0.0, 0.0, 0, []
    for g in steps:
        t = t + 1
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta = theta - step_size * m_hat / (np.sqrt(v_hat) + epsilon)
        path.append(theta)
    return np.array(path)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-2])
def test_adam_is_algorithm_1_of_the_paper_with_bias_correction(epsilon):
    path = run(Adam(0.01, 0.8, 0.99, epsilon), np.ones(6), gradients())
    expected = adam_by_the_paper(np.ones(6), gradients(), 0.01, 0.8, 0.99, epsilon)
    np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-12)


def test_adam_in_float32_stays_close_to_the_paper():
    path = run(Adam(0.01), np.ones(6), gradients(), np.float32)
    assert path.dtype == np.float32
    np.testing.assert_allclose(path, adam_by_the_paper(np.ones(6), gradients(), 0.01), rtol=1e-4)


def test_adams_first_step_is_the_step_size_whatever_the_gradients_scale():
    path = run(Adam(0.01), np.zeros(3), np.array([[1e-3, 1.0, -1e3]]))
    np.testing.assert_allclose(path[0], [-0.01, -0.01, 0.01], rtol=1e-4)


def test_adam_leaves_a_parameter_without_gradient_where_it_is():
    steps = gradients()
    steps[:, 2] = 0
    path = run(Adam(0.01), np.ones(6), steps, np.float32)
    assert (path[:, 2] == 1).all() and np.isfinite(path).all()


def test_adam_follows_a_schedule_of_its_step_size():
    half = run(Adam(linear(0.02, 0.0)), np.ones(6), gradients())
    steps = np.diff(np.vstack([np.ones(6), half]), axis=0)
    full = np.diff(np.vstack([np.ones(6), run(Adam(0.02), np.ones(6), gradients())]), axis=0)
    left = 1 - np.arange(STEPS) / STEPS
    np.testing.assert_allclose(steps, full * left[:, np.newaxis], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"),
    [
        (constant(0.3), 0.3, 0.3, 0.3),
        (linear(0.8, 0.2), 0.8, 0.5, 0.2),
        (linear(0.8), 0.8, 0.4, 0.0),
        (linear(0.5, 0.95), 0.5, 0.725, 0.95),
        (cosine(0.8, 0.2), 0.8, 0.5, 0.2),
        (cosine(0.8), 0.8, 0.4, 0.0),
        (step(0.8), 0.8, 0.08, 0.008),
        (step(0.8, 0.5, (0.2, 0.4, 0.9)), 0.8, 0.2, 0.1),
        (inverse_time(0.8), 0.8, 0.8 / 5.5, 0.08),
    ],
)
def test_schedules_go_from_start_by_the_middle_to_the_end(schedule, start, middle, end):
    assert schedule(0.0) == pytest.approx(start, abs=1e-15)
    assert schedule(0.5) == pytest.approx(middle, abs=1e-15)
    assert schedule(1.0) == pytest.approx(end, abs=1e-15)


def test_a_cosine_is_flat_at_both_ends():
    schedule = cosine(1.0)
    assert schedule(0.25) == pytest.approx(0.5 * (1 + math.sqrt(0.5)))
    assert 1 - schedule(0.01) < 0.001 and schedule(0.99) < 0.001


def test_schedules_are_known_by_name_and_travel():
    assert {name: kind(0.1)(0.0) for name, kind in SCHEDULES.items()} == {
        "constant": 0.1,
        "linear": 0.1,
        "cosine": 0.1,
        "step": 0.1,
        "inverseTime": 0.1,
    }
    assert pickle.loads(pickle.dumps(cosine(0.1, 0.01))) == cosine(0.1, 0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("optimizer", "vectors", "carries"), [(SGD(0.1, 0.9), 1, 0), (Adam(0.1), 2, 2)]
)
def test_state_has_a_row_of_the_parameters_size_for_each_vector(optimizer, vectors, carries, dtype):
    optimizer.start(7, dtype)
    assert optimizer.state.shape == (vectors, 7) and optimizer.state.dtype == dtype
    assert not optimizer.state.any()
    assert optimizer.carries == carries
    optimizer.step(np.ones(7, dtype), np.ones(7, dtype), 0.0, 0)
    assert optimizer.state.all() and optimizer.state.dtype == dtype


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9), SGD(0.1, 0.9, True), Adam(0.1)])
def test_start_forgets_all_that_was(optimizer):
    first = run(optimizer, np.ones(6), gradients(seed=1))
    run(optimizer, np.zeros(6), gradients(seed=2))
    np.testing.assert_array_equal(run(optimizer, np.ones(6), gradients(seed=1)), first)


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9), SGD(0.1, 0.9, True), Adam(0.1)])
def test_state_set_from_outside_continues_where_another_left_off(optimizer):
    whole = run(optimizer, np.ones(6), gradients())
    optimizer.start(6, np.float64)
    theta = np.ones(6)
    for count, gradient in enumerate(gradients()):
        if count == 10:
            kept = optimizer.state.copy()
            optimizer.start(6, np.float64)
            optimizer.state[:] = kept
        optimizer.step(theta, gradient.copy(), count / STEPS, count)
    np.testing.assert_array_equal(theta, whole[-1])


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9), SGD(0.1, 0.9, True), Adam(0.1)])
def test_float32_parameters_stay_float32_and_are_moved_in_place(optimizer):
    optimizer.start(3, np.float32)
    theta = np.ones(3, np.float32)
    same = theta
    optimizer.step(theta, np.ones(3, np.float32), 0.0, 0)
    assert same is theta and theta.dtype == np.float32 and (theta < 1).all()
