"""The fit loops do what they say: checked against plain NumPy loops and SciPy."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cluster_helpers import frame, pack_frame
from pyspark.mllib.linalg import Vectors as OldVectors
from pyspark.mllib.regression import LabeledPoint
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from sparknn import SGD, Adam, Network, train
from sparknn.classification import MultilayerPerceptronClassifier
from sparknn.cluster import Cluster
from sparknn.errors import DivergenceError, InvalidDataError
from sparknn.linear import LinearObjective
from sparknn.objective import L2, Rows
from sparknn.optimizers import linear
from sparknn.solvers import LBFGS, GradientDescent
from sparknn.training import FullBatchFit, Minibatch, fit_minibatch, train_fits
from sparknn.training.minibatch import MinibatchFit

SIZES = [230, 101, 168]
"""Rows of the partitions below: no multiples of the batch, nor of one another."""


def drawn(rows: int, seed: int = 5) -> np.ndarray:
    """Return rows of three features, a class of three and a weight, (rows, 5) float32."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 3))
    labels = features.argmax(axis=1)
    weights = random.uniform(0.5, 2, rows)
    return np.column_stack([features, labels, weights]).astype(np.float32)


def full_batch(blocks, objective, penalty, solver, name="model"):
    """Train one model with a full-batch solver."""
    return train_fits(blocks, [FullBatchFit(blocks, objective, penalty, solver)], name)[0]


def cut(table: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(table, np.cumsum(sizes)[:-1])


@pytest.fixture(scope="module")
def cluster(spark):
    return Cluster(spark)


@pytest.fixture(scope="module")
def packed(spark, cluster):
    """A function that packs tables as they are, each in its own block, until the module ends."""
    done = {}

    def pack_parts(parts: list[np.ndarray], weighted: bool = False):
        # By what is in them: tests pack other rows in as many.
        key = (weighted, *((part.shape, part.tobytes()) for part in parts))
        if key not in done:
            rows = [[(r[:3], r[3], r[4]) for r in part.astype(float).tolist()] for part in parts]
            done[key] = pack_frame(
                cluster,
                frame(spark, rows, "features array<double>, label double, weight double"),
                targets=("label",),
                weight="weight" if weighted else None,
                classes=3,
                partitions=len(parts),
            )
        return done[key]

    yield pack_parts
    for blocks in done.values():
        blocks.close()


def as_rows(part: np.ndarray, weighted: bool = False) -> Rows:
    table = np.ascontiguousarray(part if weighted else part[:, :4])
    return Rows(table[:, :3], table[:, 3:4], table[:, 4] if weighted else None)


def generator(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(entropy)))


def chunk(rows: Rows, number: int, steps: int) -> Rows:
    count = len(rows.features)
    return rows.between(number * count // steps, (number + 1) * count // steps)


def numpy_loop(network, rows, optimizer, theta, settings, penalty, steps) -> tuple:
    """Train on one partition's rows as minibatch training is defined, without Spark."""
    theta = theta.astype(network.dtype)
    mean_weight = 1.0
    if rows.weights is not None:
        mean_weight = float(rows.weights.astype(np.float64).sum()) / len(rows.weights)
    optimizer.start(network.size, network.dtype)
    out = np.empty(network.size, network.dtype)
    losses = []
    with threadpool_limits(1, "blas"):
        for epoch in range(settings.epochs):
            order = generator(settings.seed, epoch, 0).permutation(steps)
            for step, number in enumerate(order):
                random = generator(settings.seed, epoch, 0, step + 1)
                part = chunk(rows, number, steps)
                loss, weight = network.gradient(theta, part, out, random)
                if part.weights is not None:
                    factor = weight / (mean_weight * len(part.features))
                    out *= factor
                    loss *= factor
                penalty.add_gradient(theta, out)
                done = epoch * steps + step
                optimizer.step(theta, out, done / (settings.epochs * steps), done)
                losses.append(loss)
    return theta, losses


@pytest.mark.parametrize("steps_per_round", [1, 0, 3])
def test_every_chunk_is_announced_before_it_is_visited(steps_per_round):
    said = []

    class Watched(Network):
        def gradient(self, theta, rows, out, random=None):
            said.append(("visited", *rows.features[[0, -1], 0].astype(int)))
            return super().gradient(theta, rows, out, random)

    table = drawn(500)
    table[:, 0] = np.arange(500)
    rows = as_rows(table)._replace(announce=lambda a, b: said.append(("announced", a, b - 1)))
    blocks = SimpleNamespace(
        rows=500, filled=1, weight=500.0, skipped=0, cluster=SimpleNamespace(threads=1)
    )
    network = Watched([3, 3])
    settings = Minibatch(1, 5, steps_per_round)
    fit = MinibatchFit(blocks, network, L2(), SGD(1e-9), network.initial(1), settings)
    for first in range(0, 100, steps_per_round or 100):
        fit.visitor(fit.ask().parameters, (0, first), 0, rows, None)
    visits = [span for what, *span in said if what == "visited"]
    assert [span for what, *span in said if what == "announced"] == visits
    assert sorted(visits) == [[5 * number, 5 * number + 4] for number in range(100)]
    for span in visits:
        assert said.index(("announced", *span)) < said.index(("visited", *span))


@pytest.mark.parametrize("steps_per_round", [1, 0, 3])
@pytest.mark.parametrize("kind", ["momentum", "adam", "weights", "dropout and penalty"])
def test_one_partition_takes_exactly_the_steps_of_a_numpy_loop(packed, steps_per_round, kind):
    network = Network([3, 7, 3], "tanh", dropout=0.3 if "dropout" in kind else 0.0)
    penalty = network.penalty(0.01 if "penalty" in kind else 0.0)
    weighted = kind == "weights"

    def optimizer():
        return Adam(0.01) if kind == "adam" else SGD(linear(0.1), momentum=0.9)

    settings = Minibatch(2, 47, steps_per_round, seed=11)
    table, start = drawn(500), network.initial(3)
    steps = 11  # ceil(500 / 47), which 3 does not divide
    blocks = packed([table], weighted)
    fitted = fit_minibatch(blocks, network, penalty, optimizer(), start, settings)
    theta, losses = numpy_loop(
        network, as_rows(table, weighted), optimizer(), start, settings, penalty, steps
    )
    np.testing.assert_array_equal(fitted.theta, theta)
    assert fitted.theta.dtype == np.float32
    assert len(fitted.rounds) == 2 * {1: 11, 0: 1, 3: 4}[steps_per_round]
    if steps_per_round == 1 and not penalty.strength:
        np.testing.assert_allclose([r.loss for r in fitted.rounds], losses, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_several_partitions_add_up_to_their_weighted_mean(packed, weighted):
    network, parts = Network([3, 5, 3], "tanh"), cut(drawn(sum(SIZES)), SIZES)
    settings = Minibatch(3, 20, steps_per_round=1, seed=4)
    steps = math.ceil(sum(SIZES) / (20 * 3))
    penalty = network.penalty(0.01)
    start = network.initial(3)
    blocks = packed(parts, weighted)
    fitted = fit_minibatch(blocks, network, penalty, SGD(0.2, 0.8), start, settings)
    mean_weight = np.concatenate(parts)[:, 4].mean(dtype=np.float64)

    theta, velocity = start.copy(), np.zeros(network.size)
    for epoch in range(3):
        orders = [generator(4, epoch, partition).permutation(steps) for partition in range(3)]
        for step in range(steps):
            total, gradient = 0.0, np.zeros(network.size)
            for part, order in zip(parts, orders, strict=True):
                out = np.empty(network.size, np.float32)
                rows = chunk(as_rows(part, weighted), order[step], steps)
                _, weight = network.gradient(theta.astype(np.float32), rows, out)
                gradient += weight * out.astype(np.float64)
                total += len(rows.features)
            gradient /= total * (mean_weight if weighted else 1.0)
            penalty.add_gradient(theta, gradient)
            velocity = 0.8 * velocity - 0.2 * gradient
            theta += velocity
    np.testing.assert_allclose(fitted.theta, theta, rtol=1e-5, atol=1e-6)
    assert len(fitted.rounds) == 3 * steps
    assert {each.batch for each in fitted.rounds} == {60}


@pytest.mark.parametrize("steps_per_round", [0, 1])
def test_uneven_row_weights_count_over_all_minibatches_and_partitions(packed, steps_per_round):
    """Rows of one class in few heavy chunks: their weight must survive each chunk's mean."""
    table = drawn(sum(SIZES))
    table[:, 3] = table[:, 0] > 0
    table[:, 4] = np.where(np.arange(len(table)) < SIZES[0], 0.01, 3.0)
    table[:, 3][: SIZES[0]] = 1 - table[:, 3][: SIZES[0]]
    network = Network([3, 3])
    settings = Minibatch(60, 20, steps_per_round, seed=2)
    blocks = packed(cut(table, SIZES), True)
    penalty, start = network.penalty(0.05), np.zeros(network.size)
    fitted = fit_minibatch(blocks, network, penalty, SGD(linear(0.5)), start, settings)
    rows, out = as_rows(table, True), np.empty(network.size, np.float32)

    def value(theta):
        loss, _ = network.gradient(theta.astype(np.float32), rows, out)
        return loss + penalty.value(theta)

    best = full_batch(blocks, network, penalty, LBFGS(start, 100, 1e-9))
    assert value(fitted.theta) < value(best.theta) + 0.01


@pytest.mark.parametrize("steps_per_round", [0, 4])
def test_local_steps_are_averaged_by_rows_and_followed_by_an_outer_step(packed, steps_per_round):
    network, parts = Network([3, 5, 3], "tanh"), cut(drawn(sum(SIZES)), SIZES)
    settings = Minibatch(3, 20, steps_per_round, seed=4)
    steps = math.ceil(sum(SIZES) / (20 * 3))
    start = network.initial(3)
    blocks = packed(parts)
    fitted = fit_minibatch(blocks, network, L2(), SGD(0.1, 0.8), start, settings)

    theta, outer = start.copy(), np.zeros(network.size)
    out = np.empty(network.size, np.float32)
    for epoch in range(3):
        for first in range(0, steps, steps_per_round or steps):
            mean = np.zeros(network.size)
            total = 0
            for partition, part in enumerate(parts):
                order = generator(4, epoch, partition).permutation(steps)
                local = theta.astype(np.float32)
                inner = SGD(0.1, 0.8)
                inner.start(network.size, np.float32)
                used = 0
                for step in range(first, min(first + (steps_per_round or steps), steps)):
                    rows = chunk(as_rows(part), order[step], steps)
                    network.gradient(local, rows, out)
                    inner.step(local, out, 0, 0)
                    used += len(rows.features)
                mean += used * local.astype(np.float64)
                total += used
            difference = theta - mean / total
            outer = 0.6 * outer - 0.9 * difference
            theta += 0.6 * outer - 0.9 * difference
    np.testing.assert_allclose(fitted.theta, theta, rtol=1e-5, atol=2e-6)


def test_adams_state_travels_with_averaged_parameters(packed):
    network, parts = Network([3, 5, 3], "tanh"), cut(drawn(sum(SIZES)), SIZES)
    blocks = packed(parts)
    fitted = fit_minibatch(blocks, network, L2(), Adam(0.02), network.initial(3), Minibatch(6, 20))
    assert fitted.objective_history[-1] < 0.5 * fitted.objective_history[0]


def test_a_partition_without_rows_changes_nothing(packed):
    network, parts = Network([3, 4, 3], "tanh"), cut(drawn(sum(SIZES)), SIZES)
    none = np.empty((0, 5), np.float32)

    def theta(parts, steps_per_round):
        blocks = packed(parts)
        settings = Minibatch(2, 20, steps_per_round)
        return fit_minibatch(
            blocks, network, L2(), SGD(0.1, 0.9), network.initial(1), settings
        ).theta

    for steps_per_round in (0, 1):
        np.testing.assert_array_equal(
            theta(parts, steps_per_round), theta([*parts, none], steps_per_round)
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_full_batch_fit_of_a_linear_model_reaches_scipys_optimum(packed, weighted):
    table = drawn(sum(SIZES))
    blocks = packed(cut(table, SIZES), weighted)
    objective = LinearObjective(np.full(3, 0.1), np.full(3, 0.9), 3, True)
    penalty = objective.penalty(0.02, np.full(3, 0.9), True)
    solver = LBFGS(np.zeros(objective.size), 200, 1e-12)
    fitted = full_batch(blocks, objective, penalty, solver)

    check = LinearObjective(np.full(3, 0.1), np.full(3, 0.9), 3, True)
    rows, out = as_rows(table, weighted), np.empty(check.size)

    def value(theta):
        loss, _ = check.gradient(theta, rows, out)
        gradient = out.copy()
        penalty.add_gradient(theta, gradient)
        return loss + penalty.value(theta), gradient

    best = minimize(value, np.zeros(check.size), jac=True, method="BFGS", options={"gtol": 1e-9})
    assert fitted.objective_history[-1] == pytest.approx(best.fun, rel=1e-9)
    np.testing.assert_allclose(
        objective.raw(fitted.theta)[0], check.raw(best.x)[0], rtol=1e-4, atol=1e-5
    )
    assert fitted.objective_history[0] == pytest.approx(math.log(3))
    assert fitted.iterations == len(fitted.objective_history) - 1 < len(fitted.rounds)
    assert {each.batch for each in fitted.rounds} == {sum(SIZES)}


def test_full_batch_fit_of_a_network_reaches_scipys_optimum(packed):
    table = drawn(sum(SIZES))
    network, exact = Network([3, 3]), Network([3, 3], dtype=np.float64)
    penalty = network.penalty(0.01)
    blocks = packed(cut(table, SIZES))
    fitted = full_batch(blocks, network, penalty, LBFGS(network.initial(1), 100, 1e-9))
    out = np.empty(network.size)

    def value(theta):
        loss, _ = exact.gradient(theta, as_rows(table), out)
        gradient = out.copy()
        penalty.add_gradient(theta, gradient)
        return loss + penalty.value(theta), gradient

    best = minimize(value, network.initial(1), jac=True, method="BFGS")
    assert fitted.objective_history[-1] == pytest.approx(best.fun, rel=1e-5)
    weights = slice(0, 9)
    np.testing.assert_allclose(fitted.theta[weights], best.x[weights], rtol=2e-2, atol=2e-3)


def test_gradient_descent_takes_steps_against_the_full_gradient(packed, spark):
    table = drawn(sum(SIZES))
    network = Network([3, 4, 3], "tanh")
    start = network.initial(1)
    blocks = packed(cut(table, SIZES))
    fitted = full_batch(blocks, network, L2(), GradientDescent(start, 0.5, 5, 0.0))
    theta, out = start.copy(), np.empty(network.size, np.float32)
    history = []
    for _ in range(5):
        history.append(network.gradient(theta.astype(np.float32), as_rows(table), out)[0])
        theta -= 0.5 * out
    np.testing.assert_allclose(fitted.theta, theta, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fitted.objective_history, history, rtol=1e-6)
    assert fitted.reason == "max iterations reached"


class Jobs:
    """The jobs that Spark ran since this was made: what they were called."""

    def __init__(self, spark):
        self.context = spark.sparkContext._jsc.sc()
        self.before = {number for number, _ in self._all()}

    def _all(self) -> list[tuple[int, str]]:
        self.context.listenerBus().waitUntilEmpty()
        jobs = self.context.statusStore().jobsList(None)
        jobs = [jobs.apply(index) for index in range(jobs.size())]
        described = [(job.jobId(), job.description()) for job in jobs]
        return [(number, text.get() if text.isDefined() else "") for number, text in described]

    def descriptions(self) -> list[str]:
        """Return the descriptions in the order of the jobs."""
        return [text for number, text in sorted(self._all()) if number not in self.before]


@pytest.mark.parametrize("steps_per_round, each", [(0, 1), (1, 5), (2, 3)])
def test_history_has_a_round_for_every_job(packed, spark, in_rounds, steps_per_round, each):
    network, parts = Network([3, 3]), cut(drawn(sum(SIZES)), SIZES)
    blocks = packed(parts)
    jobs = Jobs(spark)
    settings = Minibatch(2, 39, steps_per_round)
    fitted = fit_minibatch(blocks, network, L2(), SGD(0.1), network.initial(1), settings)
    assert len(jobs.descriptions()) == len(fitted.rounds) == 2 * each
    assert [r.epoch for r in fitted.rounds] == [1] * each + [2] * each
    assert all(r.compute > 0 and r.other > 0 for r in fitted.rounds)
    assert {r.batch for r in fitted.rounds} == {3 * 39}
    assert len(fitted.objective_history) == fitted.iterations == 2
    epochs = np.reshape([r.loss for r in fitted.rounds], (2, -1)).mean(axis=1)
    np.testing.assert_allclose(fitted.objective_history, epochs, rtol=1e-12)
    assert fitted.seconds > sum(r.compute for r in fitted.rounds)
    assert (fitted.rows, fitted.skipped, fitted.threads) == (sum(SIZES), 0, 1)


def test_history_of_a_full_batch_fit_has_a_round_for_every_evaluation(packed, spark, in_rounds):
    network, parts = Network([3, 3]), cut(drawn(sum(SIZES)), SIZES)
    blocks = packed(parts)
    jobs = Jobs(spark)
    fitted = full_batch(blocks, network, L2(), LBFGS(network.initial(1), 4), "thing")
    described = jobs.descriptions()
    assert len(described) == len(fitted.rounds)
    assert [r.epoch for r in fitted.rounds] == list(range(1, len(described) + 1))
    assert described[0] == "sparknn thing: iteration 1 of 4"
    assert described[-1].startswith("sparknn thing: iteration 4 of 4, loss 0.")


def test_history_counts_the_rows_there_are_where_the_batch_is_larger(packed):
    blocks = packed([drawn(50)])
    network = Network([3, 3])
    fitted = fit_minibatch(blocks, network, L2(), SGD(0.1), network.initial(1), Minibatch(1, 128))
    assert [r.batch for r in fitted.rounds] == [50]


def test_jobs_are_described_by_model_epoch_and_loss(spark, digits, in_rounds):
    jobs = Jobs(spark)
    classifier = MultilayerPerceptronClassifier(
        layers=[64, 10], solver="sgd", maxIter=3, numPartitions=4, tol=0.0
    )
    model = classifier.fit(digits)
    described = jobs.descriptions()
    assert "sparknn: packing rows into blocks" in described
    loss = model.training.objective_history[0]
    assert f"sparknn perceptron: epoch 2 of 3, loss {loss:.4g}" in described
    assert described[-1] == "sparknn: removing blocks"
    assert spark.sparkContext.getLocalProperty("spark.job.description") is None


def test_training_ends_when_the_loss_hardly_changes(packed):
    network = Network([3, 3])
    blocks = packed([drawn(500)])

    def fit(tol):
        settings = Minibatch(8, 50, tol=tol)
        return fit_minibatch(blocks, network, L2(), SGD(0.2), network.initial(1), settings)

    early, late = fit(0.15), fit(1e-6)
    assert 1 < early.iterations < late.iterations == 8
    before, last = early.objective_history[-2:]
    assert abs(before - last) <= 0.15 * before
    assert early.reason == "training loss converged"
    assert late.reason == "max iterations reached"


def test_a_huge_step_is_an_error_that_names_epoch_and_step_size(packed):
    network = Network([3, 5, 3], "relu")
    blocks = packed([drawn(500)])
    settings = Minibatch(5, 25)
    with pytest.raises(DivergenceError, match=r"epoch \d: the loss is .*stepSize"):
        fit_minibatch(blocks, network, L2(), SGD(1e30), network.initial(1), settings)
    solver = GradientDescent(network.initial(1), 1e30, 5, 0.0)
    with pytest.raises(DivergenceError, match=r"iteration \d: the loss is .*stepSize"):
        full_batch(blocks, network, L2(), solver)


@pytest.mark.parametrize("batch, warned", [(27, True), (24, False)])
def test_few_steps_an_epoch_are_warned_of(packed, caplog, batch, warned):
    network = Network([3, 3])
    blocks = packed([drawn(480)])
    fit_minibatch(blocks, network, L2(), SGD(0.1), network.initial(1), Minibatch(1, batch))
    text = "an epoch has only 18 steps of 27 rows (blockSize times 1 partitions)"
    assert (text in caplog.text) == warned == bool(caplog.text)


def rings(spark, rows: int = 1200):
    """Return two rings around one another as an RDD sorted by label, and as arrays."""
    random = np.random.default_rng(2)
    labels = np.repeat([0.0, 1.0], rows // 2)
    angles = random.uniform(0, 2 * np.pi, rows)
    radii = 1 + labels + random.normal(0, 0.1, rows)
    features = np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])
    pairs = list(zip(labels.tolist(), features.tolist(), strict=True))
    return spark.sparkContext.parallelize(pairs, 2), features, labels


def accuracy(network, theta, features, labels) -> float:
    outputs = network.outputs(theta, features)
    found = outputs.argmax(axis=1) if outputs.shape[1] > 1 else outputs[:, 0] > 0.5
    return float(np.mean(found == labels))


@pytest.mark.parametrize("outputs", [2, 1])
def test_a_perceptron_learns_two_rings(spark, outputs):
    rdd, features, labels = rings(spark)
    network = Network([2, 16, outputs], "tanh")
    fitted = train(network, rdd, SGD(0.3, 0.9), epochs=15, batch=20)
    assert accuracy(network, fitted.theta, features, labels) > 0.95
    assert fitted.objective_history[-1] < fitted.objective_history[0]


def test_a_linear_network_cannot_learn_two_rings(spark):
    rdd, features, labels = rings(spark)
    network = Network([2, 2])
    fitted = train(network, rdd, SGD(0.3, 0.9), epochs=5, batch=20)
    assert accuracy(network, fitted.theta, features, labels) < 0.7


def test_labeled_points_can_be_trained_on_and_partitions_chosen(spark):
    rdd, _, _ = rings(spark, 600)
    points = rdd.map(lambda pair: LabeledPoint(pair[0], OldVectors.dense(pair[1])))
    network = Network([2, 8, 2], "tanh")
    start = network.initial(9)
    same = [
        train(network, data, epochs=2, batch=10, partitions=3, start=start, seed=5).theta
        for data in (rdd, points)
    ]
    np.testing.assert_array_equal(*same)
    other = train(network, rdd, epochs=2, batch=10, partitions=3, start=start, seed=6).theta
    assert (other != same[0]).any()


def test_several_targets_are_fitted_by_linear_units(spark):
    random = np.random.default_rng(3)
    features = random.normal(size=(800, 3))
    weights, biases = random.normal(size=(3, 2)), np.array([1.0, -2.0])
    targets = features @ weights + biases
    pairs = list(zip(targets.tolist(), features.tolist(), strict=True))
    network = Network([3, 2], loss="squared")
    rdd = spark.sparkContext.parallelize(pairs, 2)
    fitted = train(network, rdd, SGD(0.1, 0.5), epochs=10, batch=16)
    np.testing.assert_allclose(network.outputs(fitted.theta, features), targets, atol=1e-2)
    np.testing.assert_allclose(fitted.theta[:6].reshape(3, 2), weights, atol=1e-2)
    assert fitted.objective_history[-1] < 1e-4


def test_a_schedule_may_be_any_function(spark):
    rdd, _, _ = rings(spark, 100)
    network = Network([2, 2])
    thetas = [
        train(network, rdd, SGD(step), epochs=1, batch=10).theta for step in (0.1, lambda _: 0.1)
    ]
    np.testing.assert_array_equal(*thetas)


def test_a_penalty_keeps_weights_small(spark):
    rdd, _, _ = rings(spark, 400)
    network = Network([2, 8, 2], "tanh")
    free, held = (
        train(network, rdd, SGD(0.1), epochs=3, batch=10, penalty=strength).theta
        for strength in (0.0, 1.0)
    )
    assert np.linalg.norm(held) < 0.5 * np.linalg.norm(free)


def test_rows_that_do_not_fit_the_network_are_refused(spark, block_files):
    rdd, _, _ = rings(spark, 40)
    before = block_files()
    with pytest.raises(InvalidDataError, match="not 3 values wide, as the model's input is"):
        train(Network([3, 2]), rdd)
    with pytest.raises(InvalidDataError, match="a label above 1"):
        train(Network([2, 2]), rdd.map(lambda pair: (pair[0] * 2, pair[1])))
    assert block_files() == before


class Terminal:
    """A stream that says it is a terminal and remembers what is written."""

    def __init__(self):
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_progress_is_shown_on_a_terminal_and_nowhere_else(spark, monkeypatch, capsys):
    rdd, _, _ = rings(spark, 400)
    network = Network([2, 2])
    train(network, rdd, epochs=2, batch=5)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(network, rdd, epochs=2, batch=5)
    assert "epoch" in terminal.text
    assert "loss" in terminal.text


def test_an_option_out_of_range_is_refused_before_anything_runs(spark):
    rdd = spark.sparkContext.parallelize([(0.0, [1.0, 2.0])])
    for options in ({"epochs": -1}, {"batch": 0}, {"steps_per_round": -1}):
        with pytest.raises(ValueError, match="batch at least 1"):
            train(Network([2, 2]), rdd, **options)


def test_the_callers_optimizer_is_left_as_it_was(spark):
    rdd = spark.sparkContext.parallelize([(0.0, [1.0, 2.0]), (1.0, [0.0, 1.0])] * 20, 1)
    optimizer = SGD(0.1, 0.9)
    train(Network([2, 2]), rdd, optimizer, epochs=1)
    assert not hasattr(optimizer, "state")
