"""Saved models without Spark: `load_numpy`, and ONNX graphs in onnxruntime."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from predictions import assert_same, by_numpy, by_spark
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import csr_array

from sparknn import load_numpy
from sparknn.classification import (
    LogisticRegression,
    LogisticRegressionModel,
    MultilayerPerceptronClassificationModel,
)
from sparknn.errors import (
    IncompleteError,
    InvalidDataError,
    InvalidParamError,
    MissingPackageError,
    UnsupportedModelError,
)
from sparknn.network import Network
from sparknn.numpy_models import PIECE_BYTES
from sparknn.prediction import Prediction
from sparknn.saved import MARKER, Folder

REPOSITORY = Path(__file__).resolve().parent.parent
WIDTH = 6


def logistic(classes: int, multinomial: bool, **params):
    """A logistic regression with coefficients drawn at random."""
    random = np.random.default_rng(classes)
    units = classes if multinomial else 1
    coefficients = random.standard_normal((units, WIDTH))
    model = LogisticRegressionModel(
        coefficients, random.standard_normal(units), classes, multinomial
    )
    return model._set(**params)


def certain(classes: int, multinomial: bool):
    """A logistic regression that has seen a single class."""
    intercepts = np.array([0, np.inf, 0] if multinomial else [np.inf])
    coefficients = np.zeros((len(intercepts), WIDTH))
    return LogisticRegressionModel(coefficients, intercepts, classes, multinomial)


def perceptron(layers: list[int], **params):
    """A perceptron with weights drawn at random."""
    size = Network(layers).size
    model = MultilayerPerceptronClassificationModel(np.random.default_rng(1).normal(0, 0.7, size))
    return model._set(layers=layers, **params)


MODELS = {
    "binomial": lambda: logistic(2, False),
    "binomial threshold 0.8": lambda: logistic(2, False, threshold=0.8),
    "binomial threshold 0": lambda: logistic(2, False, threshold=0.0),
    "binomial threshold 1": lambda: logistic(2, False, threshold=1.0),
    "binomial thresholds": lambda: logistic(2, False, thresholds=[0.2, 0.7]),
    "binomial thresholds with a zero": lambda: logistic(2, False, thresholds=[0.2, 0.0]),
    "binomial single class": lambda: certain(2, False),
    "multinomial": lambda: logistic(4, True),
    "multinomial thresholds": lambda: logistic(4, True, thresholds=[0.1, 0.9, 0.5, 0.5]),
    "multinomial thresholds with a zero": lambda: logistic(4, True, thresholds=[1.0, 1, 0, 1]),
    "multinomial single class": lambda: certain(3, True),
    "all activations": lambda: perceptron(
        [WIDTH, 9, 8, 7, 5, 3], activation=["relu", "tanh", "sigmoid", "linear"]
    ),
    "perceptron thresholds": lambda: perceptron([WIDTH, 5, 3], thresholds=[0.2, 1.0, 0.6]),
    "no hidden layer": lambda: perceptron([WIDTH, 3]),
    "one output unit": lambda: perceptron([WIDTH, 5, 1], activation="tanh"),
    "squared": lambda: perceptron([WIDTH, 5, 3], loss="squared"),
    "squared, one output unit, thresholds": lambda: perceptron(
        [WIDTH, 5, 1], loss="squared", thresholds=[0.9, 0.4]
    ),
}


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Features that float32 holds exactly, (40, WIDTH)."""
    return np.random.default_rng(0).standard_normal((40, WIDTH)).astype(np.float32).astype(float)


@pytest.fixture(scope="module")
def rows(spark: SparkSession, features: np.ndarray) -> DataFrame:
    vectors = [(Vectors.dense(row),) for row in features]
    return spark.createDataFrame(vectors, ["features"]).coalesce(1).cache()


@pytest.mark.parametrize("name", MODELS)
def test_numpy_and_onnxruntime_say_what_transform_says(
    name: str, rows: DataFrame, features: np.ndarray, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = MODELS[name]()
    expected = by_spark(model, rows)
    model.save(str(tmp_path / "model"))
    loaded = load_numpy(str(tmp_path / "model"))
    assert_same(by_numpy(loaded, features), expected, 1e-12)
    assert loaded.classes == model.numClasses
    model.toONNX(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    outputs = ["rawPrediction", "probability", "prediction"]
    found = session.run(outputs, {"features": features.astype(np.float32)})
    assert_same(Prediction(*found), expected, 1e-5)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([], [1, 1, 1]),
        (["rawPredictionCol"], [0, 0, 1]),
        (["rawPredictionCol", "probabilityCol"], [0, 1, 1]),
    ],
    ids=["margins", "probabilities", "label alone"],
)
def test_two_classes_are_told_apart_by_the_columns_that_are_wanted(
    columns: list[str], expected: list[int], spark: SparkSession, tmp_path: Path
) -> None:
    model = logistic(2, False, threshold=0.0)._set(**dict.fromkeys(columns, ""))
    # The probability of class 1 rounds to 0, and then 1 less that of class 0 does.
    margins = np.array([-1000, -40, 1]) - model.intercept
    far = np.zeros((3, WIDTH))
    far[:, 0] = margins / model.coefficients[0]
    model.save(str(tmp_path / "model"))
    data = spark.createDataFrame([(Vectors.dense(row),) for row in far], ["features"]).coalesce(1)
    assert [row.prediction for row in model.transform(data).collect()] == expected
    assert load_numpy(tmp_path / "model").predict(far).tolist() == expected


def test_a_models_parts_can_be_looked_at(tmp_path: Path, spark: SparkSession) -> None:
    linear, network = logistic(4, True), perceptron([WIDTH, 5, 3], activation="relu")
    linear.save(str(tmp_path / "linear"))
    network.save(str(tmp_path / "network"))
    loaded = load_numpy(tmp_path / "linear")
    np.testing.assert_array_equal(loaded.coefficients, linear.coefficientMatrix.toArray())
    np.testing.assert_array_equal(loaded.intercepts, linear.interceptVector.toArray())
    assert (loaded.features, loaded.classes, loaded.columns) == (WIDTH, 4, None)
    loaded = load_numpy(tmp_path / "network")
    np.testing.assert_array_equal(loaded.weights, network.weights.toArray())
    assert (loaded.layers, loaded.activations) == ([WIDTH, 5, 3], ["relu"])


@pytest.fixture(scope="module")
def saved(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A linear model and a perceptron, saved."""
    folder = tmp_path_factory.mktemp("saved")
    models = {"linear": logistic(4, True), "network": perceptron([WIDTH, 5, 3])}
    for name, model in models.items():
        model.save(str(folder / name))
    return {name: folder / name for name in models}


@pytest.mark.parametrize("name", ["linear", "network"])
def test_sparse_rows_are_predicted_as_dense_ones(name: str, saved, features) -> None:
    model = load_numpy(saved[name])
    values = np.where(features > 0, features, 0)
    assert_same(by_numpy(model, csr_array(values)), by_numpy(model, values), 1e-12)


def test_sparse_rows_of_a_linear_model_stay_sparse(spark: SparkSession, tmp_path: Path) -> None:
    wide = 2**20
    LogisticRegressionModel(np.ones((1, wide)), np.zeros(1), 2, False).save(str(tmp_path / "wide"))
    model = load_numpy(tmp_path / "wide")
    # Dense they would take 16 TB.
    rows = csr_array(([1.0, -2.0], ([0, 2**21 - 1], [7, wide - 1])), shape=(2**21, wide))
    assert model.decision_function(rows)[[0, 1, -1], 1].tolist() == [1, 0, -2]


@pytest.mark.parametrize("name", ["linear", "network"])
def test_many_rows_are_predicted_in_pieces(name: str, saved) -> None:
    model = load_numpy(saved[name])
    count = 2 * PIECE_BYTES // (8 * WIDTH) + 3
    values = np.random.default_rng(2).standard_normal((count, WIDTH)).astype(np.float32)
    found = by_numpy(model, values)
    assert found.label.shape == (count,)
    last = by_numpy(model, values[-5:])
    np.testing.assert_allclose(found.probability[-5:], last.probability, atol=1e-6)
    empty = by_numpy(model, values[:0])
    assert empty.probability.shape == (0, model.classes)


def test_features_of_another_shape_are_an_error(saved) -> None:
    model = load_numpy(saved["linear"])
    with pytest.raises(InvalidDataError, match=r"\(5, 4\); the model takes \(rows, 6\)"):
        model.predict(np.zeros((5, 4)))
    with pytest.raises(InvalidDataError, match=r"\(6,\)"):
        model.predict(np.zeros(6))


def test_a_loaded_model_can_be_pickled(saved, features) -> None:
    model = load_numpy(saved["network"])
    copy = pickle.loads(pickle.dumps(model))
    assert_same(by_numpy(copy, features), by_numpy(model, features), 0)


def test_no_java_and_no_spark_is_needed(saved, features, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", features)
    code = (
        "import sys, numpy, sparknn\n"
        "paths, features = sys.argv[1:3], numpy.load(sys.argv[3])\n"
        "found = [sparknn.load_numpy(path).predict_proba(features).tolist() for path in paths]\n"
        "assert 'pyspark' not in sys.modules\n"
        "import json; print(json.dumps(found))"
    )
    paths = [str(saved["linear"]), f"file:{saved['network']}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths, str(tmp_path / "features.npy")],
        env={"PATH": "", "JAVA_HOME": "/nowhere", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    for path, found in zip(saved.values(), json.loads(done.stdout), strict=True):
        expected = load_numpy(path).predict_proba(features)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_model_without_its_marker_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    logistic(2, False).save(str(tmp_path / "model"))
    (tmp_path / "model" / MARKER).unlink()
    with pytest.raises(IncompleteError, match=f"no {MARKER}"):
        load_numpy(tmp_path / "model")
    with pytest.raises(IncompleteError, match="nothing is saved at"):
        load_numpy(tmp_path / "other")


def test_what_is_no_model_of_ours_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    LogisticRegression().save(str(tmp_path / "estimator"))
    with pytest.raises(
        UnsupportedModelError, match=r"LogisticRegressionModel, .* not LogisticRegression in"
    ):
        load_numpy(tmp_path / "estimator")


def test_saved_thresholds_must_fit_the_classes(spark: SparkSession, tmp_path: Path) -> None:
    logistic(4, True, thresholds=[0.5, 0.5]).save(str(tmp_path / "model"))
    with pytest.raises(InvalidParamError, match="4 classes and 2 thresholds"):
        load_numpy(tmp_path / "model")


def test_paths_are_spelled_as_by_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "a b%20c")
    for spelled in (place, f"file:{place}", f"file://{place}", Path(place)):
        folder = Folder.at(spelled)
        assert (folder.system.type_name, folder.path) == ("local", place)
    monkeypatch.chdir(tmp_path)
    assert Folder.at("model").path == str(tmp_path / "model")
    folder = Folder.at("s3a://bucket/some model/?region=us-east-1")
    assert (folder.system.type_name, folder.path) == ("s3", "bucket/some model")
    with pytest.raises(ValueError, match="unknown://bucket/model"):
        Folder.at("unknown://bucket/model")


# ---- ONNX ------------------------------------------------------------------------------


def test_onnx_keeps_what_float32_would_lose(tmp_path: Path, spark: SparkSession) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    # Products of a million each, whose sum is of order one.
    model = LogisticRegressionModel(np.array([[1e6 + 0.1, -1e6]]), np.zeros(1), 2, False)
    model.toONNX(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    values = np.array([[1.0, 1.0], [2.0, 2.0]], np.float32)
    (found,) = session.run(["probability"], {"features": values})
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp([-0.1, -0.2])), atol=1e-9)


def test_an_onnx_file_says_what_it_is(tmp_path: Path, spark: SparkSession) -> None:
    onnx = pytest.importorskip("onnx")
    perceptron([WIDTH, 5, 1]).toONNX(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert [each.version for each in model.opset_import] == [17]
    (given,) = model.graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    shape = given.type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("rows", WIDTH)
    assert [each.name for each in model.graph.output] == [
        "rawPrediction",
        "probability",
        "prediction",
    ]


def test_onnx_goes_into_local_files_only(spark: SparkSession) -> None:
    with pytest.raises(ValueError, match="local file"):
        perceptron([WIDTH, 3]).toONNX("s3a://bucket/model.onnx")


def test_without_onnx_it_is_said_what_to_install(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match="pip install 'onnx"):
        perceptron([WIDTH, 3]).toONNX(tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_thresholds_of_another_number_are_not_exported(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(InvalidParamError, match="4 classes and 2 thresholds"):
        logistic(4, True, thresholds=[0.5, 0.5]).toONNX(tmp_path / "model.onnx")
