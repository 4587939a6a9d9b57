"""Products that models with the same rows have made together: the bits of their own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from sparknn import products
from sparknn.linear import LinearObjective
from sparknn.network import Network
from sparknn.objective import Rows
from sparknn.products import Product, in_step, run
from sparknn.training.full_batch import _Gradient
from sparknn.training.together import Together, _Share


def some_rows(count: int, features: int = 97, seed: int = 0) -> Rows:
    """Return rows as a block has them: views of an array that holds the labels, too."""
    random = np.random.default_rng(seed)
    block = random.normal(size=(count, features + 1)).astype(np.float32)
    block[:, -1] = random.integers(0, 3, count)
    return Rows(block[:, :-1], block[:, -1:])


def some_models(features: int = 97) -> list:
    """Return models of other sizes, and of both kinds, as objectives."""
    scale = np.linspace(0.5, 2, features)
    return [
        LinearObjective(np.full(features, 0.1), scale, 3, True),
        LinearObjective(np.zeros(features), scale, 10, False),
        LinearObjective(np.zeros(features), scale, 1, True),
        Network([features, 10, 3]),
        Network([features, 30, 7, 3], "relu"),
        Network([features, 3]),
        Network([features, 100, 3]),
    ]


def gradients(models: list, rows: Rows, together: bool) -> tuple[list, list[np.ndarray]]:
    """Return each model's answer and gradient, at parameters of its own."""
    outs = [np.full(model.size, np.nan, model.dtype) for model in models]
    thetas = [
        np.random.default_rng(number).normal(size=model.size).astype(model.dtype)
        for number, model in enumerate(models)
    ]
    computations = [
        model.computation(theta, rows, out)
        for model, theta, out in zip(models, thetas, outs, strict=True)
    ]
    return in_step(computations) if together else [run(each) for each in computations], outs


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("count", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("sparse", [False, True])
def test_models_in_step_have_the_bits_of_models_alone(count, precise, sparse):
    rows, models = some_rows(count), some_models()
    if sparse:
        rows = rows._replace(features=csr_array(rows.features))
    for model in models[:3]:
        model.precise = precise
    alone, expected = gradients(models, rows, together=False)
    shared, found = gradients(models, rows, together=True)
    assert shared == alone
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("count", [100, 1000])
def test_joined_products_share_one_call(count, monkeypatch):
    calls = []
    whole = Product.whole
    monkeypatch.setattr(
        Product, "whole", staticmethod(lambda x, w: calls.append(w.shape) or whole(x, w))
    )
    monkeypatch.setattr(products, "_same_bits", lambda *shape: True)
    gradients([Network([97, 10, 3]), Network([97, 30, 3])], some_rows(count), together=True)
    assert calls == [(97, 12 + 32)]  # ten units in strides of four, thirty likewise


def test_where_bits_would_differ_products_stay_separate(monkeypatch):
    """A BLAS that rounds many units otherwise than few."""
    rows = some_rows(50)
    models = [Network([97, 10, 3]), Network([97, 30, 3])]
    expected = gradients(models, rows, together=False)[1]
    monkeypatch.setattr(Product, "whole", staticmethod(lambda x, w: (x @ w) * np.float32(1 + 1e-6)))
    products._same_bits.cache_clear()
    try:
        found = gradients(models, rows, together=True)[1]
    finally:
        products._same_bits.cache_clear()
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("number", range(7))
def test_a_model_visits_rows_at_two_points_at_once(number):
    """As when the step after the next one is computed ahead: both share the objective."""
    model, rows = some_models()[number], some_rows(700)
    model.chunk = 300
    visit = _Gradient(model)
    random = np.random.default_rng(1)
    points = [random.normal(size=model.size).astype(np.float32) for _ in range(2)]
    shares = [
        _Share(0, start, start + model.size, np.dtype(np.float32), False)
        for start in (0, model.size)
    ]
    answer = Together([visit])(np.concatenate(points), shares, 0, rows, None)
    parts = np.split(answer.vector, 2)
    for point, part in zip(points, parts, strict=True):
        alone = visit(point, False, 0, rows, None)
        np.testing.assert_array_equal(part[: model.size], alone.vector * np.float64(700))
        assert part[model.size :].tolist() == [700, alone.loss * 700]


def test_models_that_end_early_leave_the_others_to_go_on():
    rows, models = some_rows(40), some_models()[:2]
    nothing = rows._replace(weights=np.zeros(rows.length, np.float32))
    outs = [np.full(model.size, np.nan) for model in models]
    theta = [np.zeros(model.size) for model in models]
    results = in_step(
        [
            models[0].computation(theta[0], nothing, outs[0]),
            models[1].computation(theta[1], rows, outs[1]),
        ]
    )
    assert results[0] == (0.0, 0.0) and results[1][1] == 40
    assert not outs[0].any() and np.isfinite(outs[1]).all()
