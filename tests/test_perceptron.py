"""MultilayerPerceptronClassifier against MLlib's, and against its own promises."""

from __future__ import annotations

from itertools import pairwise
from multiprocessing.pool import ThreadPool

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import StandardScaler
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.classification import (
    MultilayerPerceptronClassificationModel,
    MultilayerPerceptronClassifier,
)
from sparknn.errors import InvalidDataError, InvalidParamError
from sparknn.network import Network
from sparknn.objective import Rows
from sparknn.solvers import LBFGS

FAST = {"activation": "relu", "solver": "sgd", "stepSize": 0.05, "momentum": 0.9, "blockSize": 16}


@pytest.fixture(scope="module")
def xor(spark: SparkSession) -> DataFrame:
    rows = [((0.0, 0.0), 0.0), ((0.0, 1.0), 1.0), ((1.0, 0.0), 1.0), ((1.0, 1.0), 0.0)]
    data = [(Vectors.dense(x), y) for x, y in rows]
    return spark.createDataFrame(data, ["features", "label"]).coalesce(1).cache()


def accuracy(model, data: DataFrame) -> float:
    return model.transform(data).filter("prediction = label").count() / data.count()


def test_mllibs_weights_give_mllibs_raw_scores(digits: DataFrame) -> None:
    theirs = mllib.MultilayerPerceptronClassifier(layers=[64, 20, 15, 10], maxIter=20, seed=3)
    model = theirs.fit(digits)
    network = Network([64, 20, 15, 10])
    rows = digits.limit(100).collect()
    expected = np.array([model.predictRaw(row.features).toArray() for row in rows])
    features = np.array([row.features.toArray() for row in rows])
    got = network.scores(model.weights.toArray(), features)
    assert got == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("seed", [0, -7, 2**63 - 1, -(2**63)])
def test_initial_weights_of_sigmoid_networks_are_mllibs(spark: SparkSession, seed: int) -> None:
    rows = [(Vectors.dense(0.0, 1.0, 2.0), 0.0), (Vectors.dense(1.0, 1.0, 0.0), 1.0)]
    data = spark.createDataFrame(rows, ["features", "label"])
    theirs = mllib.MultilayerPerceptronClassifier(layers=[3, 4, 2], seed=seed, maxIter=0)
    assert list(Network([3, 4, 2]).initial(seed)) == list(theirs.fit(data).weights)


def test_xor_is_learned_as_often_as_by_mllib(xor: DataFrame) -> None:
    """Over 50 seeds; ours on the driver, where the same solver sees the same rows."""
    rows = xor.collect()
    features = np.array([row.features.toArray() for row in rows])
    labels = np.array([[row.label] for row in rows])
    network = Network([2, 2, 2], dtype=np.float64)
    out = np.empty(network.size)

    def learned(seed: int) -> bool:
        solver = LBFGS(network.initial(seed), 100, 1e-6)
        while not solver.done:
            loss, _ = network.gradient(solver.point, Rows(features, labels), out)
            solver.tell(loss, out.copy())
        return (network.outputs(solver.x, features).argmax(axis=1) == labels[:, 0]).all()

    def learned_by_mllib(seed: int) -> bool:
        model = mllib.MultilayerPerceptronClassifier(layers=[2, 2, 2], seed=seed).fit(xor)
        return all(model.predict(row.features) == row.label for row in rows)

    ours = sum(learned(seed) for seed in range(50))
    with ThreadPool(4) as threads:
        theirs = sum(threads.map(learned_by_mllib, range(50)))
    assert ours >= theirs > 0


def test_xor_is_learned_on_spark_with_the_defaults(xor: DataFrame) -> None:
    learned = sum(
        accuracy(MultilayerPerceptronClassifier(layers=[2, 2, 2], seed=seed).fit(xor), xor) == 1
        for seed in range(4)
    )
    assert learned >= 1


def test_two_rings_are_learned_by_a_perceptron_and_not_by_a_line(spark: SparkSession) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(400) % 2
    angle, radius = random.uniform(0, 2 * np.pi, 400), 1 + labels + 0.1 * random.random(400)
    points = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    data = spark.createDataFrame(
        [(Vectors.dense(x), float(y)) for x, y in zip(points, labels, strict=True)],
        ["features", "label"],
    ).cache()
    deep = MultilayerPerceptronClassifier(layers=[2, 16, 2], **FAST, maxIter=40).fit(data)
    flat = MultilayerPerceptronClassifier(layers=[2, 2], maxIter=40).fit(data)
    assert accuracy(deep, data) > 0.97
    assert accuracy(flat, data) < 0.7


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "sgd", "stepSize": 0.05, "momentum": 0.9, "blockSize": 16, "maxIter": 15},
        {"solver": "adam", "stepSize": 0.005, "blockSize": 16, "maxIter": 10},
        {"solver": "l-bfgs", "maxIter": 40},
        {
            "solver": "sgd",
            "stepSize": 0.1,
            "momentum": 0.9,
            "blockSize": 16,
            "maxIter": 15,
            "dropout": [0.1, 0.2],
            "regParam": 1e-4,
            "stepSizeSchedule": "cosine",
        },
        {"solver": "sgd", "stepSize": 0.3, "blockSize": 16, "maxIter": 15, "loss": "squared"},
    ],
    ids=lambda params: f"{params['solver']}-{len(params)}",
)
def test_every_solver_learns_the_digits(digits: DataFrame, params: dict) -> None:
    model = MultilayerPerceptronClassifier(
        layers=[64, 40, 10], activation="relu", numPartitions=2, **params
    ).fit(digits)
    assert accuracy(model, digits) > 0.95


def test_plain_gradient_descent_lowers_the_loss_as_mllibs_does(digits: DataFrame) -> None:
    model = MultilayerPerceptronClassifier(
        layers=[64, 10], solver="gd", stepSize=0.5, maxIter=15
    ).fit(digits)
    history = model.training.objective_history
    assert len(history) == 15
    assert all(later < earlier for earlier, later in pairwise(history))


@pytest.mark.parametrize("loss", ["crossEntropy", "squared"])
def test_a_single_output_unit_serves_two_classes(digits: DataFrame, loss: str) -> None:
    two = digits.filter("label < 2").cache()
    model = MultilayerPerceptronClassifier(
        layers=[64, 8, 1], loss=loss, **{**FAST, "stepSize": 0.1}, maxIter=15
    ).fit(two)
    row = model.transform(two).first()
    assert model.numClasses == len(row.probability) == len(row.rawPrediction) == 2
    assert sum(row.probability) == pytest.approx(1)
    assert accuracy(model, two) > 0.98


def test_params_are_mllibs_with_mllibs_defaults() -> None:
    theirs, ours = mllib.MultilayerPerceptronClassifier(), MultilayerPerceptronClassifier()
    for param in theirs.params:
        assert ours.hasParam(param.name)
        if theirs.hasDefault(param.name) and param.name != "seed":
            assert ours.getOrDefault(param.name) == theirs.getOrDefault(param.name), param.name
        setter = f"set{param.name[0].upper()}{param.name[1:]}"
        assert hasattr(ours, setter) == hasattr(theirs, setter), setter
    assert ours.explainParams().count("\n") + 1 == len(ours.params)


def test_initial_weights_are_where_training_begins(xor: DataFrame) -> None:
    weights = Vectors.dense(np.arange(12) / 10)
    model = MultilayerPerceptronClassifier(layers=[2, 2, 2], initialWeights=weights, maxIter=0).fit(
        xor
    )
    assert model.weights == weights


@pytest.mark.parametrize("seed", [-7, 2**63 - 1, 0])
def test_any_64_bit_seed_works_and_matters(xor: DataFrame, seed: int) -> None:
    estimator = MultilayerPerceptronClassifier(layers=[2, 2, 2], maxIter=0, seed=seed)
    other = MultilayerPerceptronClassifier(layers=[2, 2, 2], maxIter=0, seed=12345)
    assert estimator.fit(xor).weights == estimator.fit(xor).weights
    assert estimator.fit(xor).weights != other.fit(xor).weights


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "layers"),
        ({"layers": [64]}, "layers"),
        ({"layers": [64, 5, 10], "activation": "cube"}, "cube"),
        ({"layers": [64, 5, 10], "activation": ["relu", "relu"]}, "activation"),
        ({"layers": [64, 5, 10], "dropout": 1.5}, "dropout"),
        ({"layers": [64, 5, 10], "dropout": 0.5}, "dropout is for minibatches"),
        ({"layers": [64, 5, 10], "initialWeights": Vectors.dense([1.0])}, "initialWeights"),
        ({"layers": [64, 5, 10], "stepSize": 0.0}, "stepSize"),
        ({"layers": [64, 5, 10], "loss": "hinge"}, "loss"),
    ],
    ids=str,
)
def test_a_param_out_of_range_is_named(digits: DataFrame, params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultilayerPerceptronClassifier(**params).fit(digits)


def test_layers_that_do_not_fit_the_features_are_an_error(digits: DataFrame) -> None:
    with pytest.raises(InvalidDataError, match="63 values wide"):
        MultilayerPerceptronClassifier(layers=[63, 10]).fit(digits)


def test_a_label_beyond_the_outputs_is_an_error(digits: DataFrame) -> None:
    with pytest.raises(InvalidDataError, match=r"'label'.* above 8"):
        MultilayerPerceptronClassifier(layers=[64, 9]).fit(digits)


def test_skipped_rows_are_counted(spark: SparkSession) -> None:
    rows = [(Vectors.dense(float("nan"), 1.0), 0.0), (Vectors.dense(1.0, 2.0), None)]
    rows += [(Vectors.dense(float(i), 1.0), float(i % 2)) for i in range(8)]
    data = spark.createDataFrame(rows, ["features", "label"])
    model = MultilayerPerceptronClassifier(layers=[2, 2], handleInvalid="skip", maxIter=2).fit(data)
    assert (model.training.rows, model.training.skipped) == (8, 2)


def test_it_stands_in_a_pipeline_and_comes_back_from_disk(digits: DataFrame, tmp_path) -> None:
    pipeline = Pipeline(
        stages=[
            StandardScaler(inputCol="features", outputCol="scaled", withMean=True),
            MultilayerPerceptronClassifier(
                layers=[64, 20, 10], featuresCol="scaled", maxIter=5, **FAST
            ),
        ]
    )
    pipeline.save(str(tmp_path / "estimator"))
    model = Pipeline.load(str(tmp_path / "estimator")).fit(digits)
    model.write().overwrite().save(str(tmp_path / "model"))
    model.write().overwrite().save(str(tmp_path / "model"))
    with pytest.raises(FileExistsError, match=r"exists: write\(\)\.overwrite"):
        model.stages[1].save(str(tmp_path))
    assert {each.name for each in tmp_path.iterdir()} == {"estimator", "model"}
    loaded = PipelineModel.load(str(tmp_path / "model"))
    assert loaded.stages[1].weights == model.stages[1].weights
    assert loaded.transform(digits).head(5) == model.transform(digits).head(5)


def test_estimator_params_come_back_from_disk(tmp_path, spark: SparkSession) -> None:
    estimator = MultilayerPerceptronClassifier(
        layers=[2, 2, 2],
        activation=["tanh"],
        dropout=[0.1, 0.2],
        initialWeights=Vectors.dense(range(12)),
    )
    estimator.save(str(tmp_path / "estimator"))
    loaded = MultilayerPerceptronClassifier.load(str(tmp_path / "estimator"))
    for param in estimator.params:
        assert loaded.isSet(param) == estimator.isSet(param)
        if estimator.isDefined(param):
            assert loaded.getOrDefault(param.name) == estimator.getOrDefault(param.name)
    assert loaded.uid == estimator.uid


def test_an_incomplete_model_is_refused(xor: DataFrame, tmp_path) -> None:
    from sparknn.persistence import MARKER, IncompleteError

    model = MultilayerPerceptronClassifier(layers=[2, 2], maxIter=1).fit(xor)
    model.save(str(tmp_path / "model"))
    (tmp_path / "model" / MARKER).unlink()
    with pytest.raises(IncompleteError, match=MARKER):
        MultilayerPerceptronClassificationModel.load(str(tmp_path / "model"))
    with pytest.raises(IncompleteError, match="nothing"):
        MultilayerPerceptronClassificationModel.load(str(tmp_path / "nothing"))


def test_copy_has_params_of_its_own(xor: DataFrame) -> None:
    estimator = MultilayerPerceptronClassifier(layers=[2, 2], maxIter=1)
    other = estimator.copy({estimator.maxIter: 2})
    assert (estimator.getMaxIter(), other.getMaxIter()) == (1, 2)
    model = estimator.fit(xor)
    renamed = model.copy({model.predictionCol: "guess"})
    assert "guess" in renamed.transform(xor).columns
    assert "guess" not in model.transform(xor).columns
    assert estimator.fit(xor, {estimator.maxIter: 0}).training.iterations == 0


@pytest.mark.parametrize("own", [None, "weight"])
def test_class_weights_are_row_weights_by_class(spark: SparkSession, own: str | None) -> None:
    rng = np.random.default_rng(3)
    rows = [(Vectors.dense(rng.normal(size=2)), float(i % 2), 1.0 + i % 3) for i in range(40)]
    data = spark.createDataFrame(rows, ["features", "label", "weight"]).coalesce(1)
    data = data.withColumn("product", F.expr("if(label = 1, 4.0, 0.5)") * F.expr(own or "1"))
    params = {"layers": [2, 3, 2], "maxIter": 5}
    if own:
        params["weightCol"] = own
    by_class = MultilayerPerceptronClassifier(**params, classWeights=[0.5, 4.0]).fit(data)
    by_row = MultilayerPerceptronClassifier(**{**params, "weightCol": "product"}).fit(data)
    assert by_class.weights == by_row.weights
    assert by_class.weights != MultilayerPerceptronClassifier(**params).fit(data).weights


def test_class_weights_are_one_for_each_class(xor: DataFrame) -> None:
    for weights in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]):
        estimator = MultilayerPerceptronClassifier(layers=[2, 2, 2], classWeights=weights)
        with pytest.raises(InvalidParamError, match="classWeights must be 2 numbers"):
            estimator.fit(xor)
