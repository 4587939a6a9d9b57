"""Models and estimators to and from MLlib's, in memory and on disk; dense and sparse forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyspark.ml.classification as mllib
import pytest
from pyspark.errors import AnalysisException
from pyspark.ml.classification import OneVsRest, OneVsRestModel
from pyspark.ml.linalg import DenseMatrix, DenseVector, SparseMatrix, SparseVector, Vectors
from pyspark.sql import DataFrame, SparkSession

from sparknn.classification import (
    LogisticRegression,
    LogisticRegressionModel,
    MultilayerPerceptronClassificationModel,
    MultilayerPerceptronClassifier,
)
from sparknn.classification.compressed import compressed_matrix, compressed_vector
from sparknn.persistence import IncompleteError


@pytest.fixture(scope="module")
def data(spark: SparkSession) -> DataFrame:
    random = np.random.default_rng(0)
    features = random.standard_normal((60, 3))
    labels = (features @ [1, 2, 3] > 0).astype(float) + (features[:, 0] > 1)
    rows = [(Vectors.dense(x), float(y)) for x, y in zip(features, labels, strict=True)]
    return spark.createDataFrame(rows, ["features", "label"]).coalesce(1).cache()


def outputs(model, data: DataFrame) -> np.ndarray:
    rows = model.transform(data).select("rawPrediction", "probability", "prediction").collect()
    return np.array([[*row[0], *row[1], row[2]] for row in rows])


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_regression_goes_to_mllib_and_back(data: DataFrame, classes: int) -> None:
    rows = data.filter(f"label < {classes}")
    model = LogisticRegression(maxIter=5, regParam=0.1, solver="sgd", thresholds=[1.0] * classes)
    ours = model.fit(rows)
    theirs = ours.toMLlib()
    assert type(theirs) is mllib.LogisticRegressionModel
    assert theirs.uid == ours.uid
    assert theirs.getRegParam() == 0.1
    assert outputs(ours, rows) == pytest.approx(outputs(theirs, rows), abs=1e-9)
    back = LogisticRegressionModel.fromMLlib(theirs)
    assert outputs(back, rows).tolist() == outputs(ours, rows).tolist()
    assert repr(back) == repr(theirs)


def test_a_perceptron_goes_to_mllib_and_back(data: DataFrame) -> None:
    ours = MultilayerPerceptronClassifier(layers=[3, 4, 3], maxIter=3, solver="adam").fit(data)
    theirs = ours.toMLlib()
    assert type(theirs) is mllib.MultilayerPerceptronClassificationModel
    assert theirs.weights == ours.weights
    assert outputs(ours, data) == pytest.approx(outputs(theirs, data), abs=1e-5)
    back = MultilayerPerceptronClassificationModel.fromMLlib(theirs)
    assert back.weights == ours.weights
    assert repr(back) == repr(theirs)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"activation": "relu"}, "relu"), ({"loss": "squared"}, "sigmoid-squared")],
)
def test_a_perceptron_that_mllib_lacks_is_refused(params: dict, message: str) -> None:
    model = MultilayerPerceptronClassificationModel(np.zeros(15))
    model._set(layers=[2, 3, 2], **params)
    with pytest.raises(ValueError, match=message):
        model.toMLlib()


def test_what_mllib_saved_is_loaded(data: DataFrame, tmp_path: Path) -> None:
    two = data.filter("label < 2")
    estimator = mllib.LogisticRegression(maxIter=4, regParam=0.2, predictionCol="guess")
    model = estimator.fit(two)
    perceptron = mllib.MultilayerPerceptronClassifier(layers=[3, 4, 3], maxIter=2, seed=5)
    network = perceptron.fit(data)
    for name, instance in {"a": estimator, "b": model, "c": perceptron, "d": network}.items():
        instance.save(str(tmp_path / name))

    ours = LogisticRegression.load(str(tmp_path / "a"))
    assert (ours.uid, ours.getRegParam(), ours.getMaxIter()) == (estimator.uid, 0.2, 4)
    loaded = LogisticRegressionModel.load(str(tmp_path / "b"))
    assert loaded.coefficients == model.coefficients
    assert loaded.intercept == model.intercept
    assert (loaded.uid, loaded.getPredictionCol()) == (model.uid, "guess")
    again = MultilayerPerceptronClassifier.read().load(str(tmp_path / "c"))
    assert (again.getLayers(), again.getSeed(), again.isSet("solver")) == ([3, 4, 3], 5, False)
    assert MultilayerPerceptronClassificationModel.load(str(tmp_path / "d")).weights == (
        network.weights
    )
    with pytest.raises(IncompleteError, match="sparknn did not write it"):
        LogisticRegression.load(str(tmp_path / "c"))


def test_a_path_with_nothing_raises_what_pyspark_raises(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(AnalysisException, match="Path does not exist") as caught:
        LogisticRegressionModel.load(str(tmp_path / "none"))
    assert isinstance(caught.value, IncompleteError)


def test_one_vs_rest_holds_ours_saved_and_loaded(data: DataFrame, tmp_path: Path) -> None:
    model = OneVsRest(classifier=LogisticRegression(maxIter=5, regParam=0.1)).fit(data)
    model.save(str(tmp_path / "model"))
    loaded = OneVsRestModel.load(str(tmp_path / "model"))
    assert [type(each) for each in loaded.models] == [LogisticRegressionModel] * 3
    theirs = OneVsRest(classifier=mllib.LogisticRegression(maxIter=5, regParam=0.1)).fit(data)
    found, expected = (
        [row.prediction for row in each.transform(data).select("prediction").collect()]
        for each in (loaded, theirs)
    )
    assert found == expected


def test_coefficients_are_sparse_where_mllibs_are(spark: SparkSession) -> None:
    """Shapes and shares of zeros on both sides of every limit, through the JVM's own rule."""
    linalg = spark._jvm.org.apache.spark.ml.linalg
    random = np.random.default_rng(0)
    seen = set()
    for rows, columns in [(1, 1), (1, 5), (1, 12), (3, 4), (7, 2), (4, 9), (2, 2)]:
        for count in range(0, rows * columns + 1, 1 + rows * columns // 8):
            array = np.zeros(rows * columns)
            array[random.permutation(rows * columns)[:count]] = random.standard_normal(count)
            doubles = spark.sparkContext._gateway.new_array(spark._jvm.double, len(array))
            for index, value in enumerate(array):
                doubles[index] = float(value)
            theirs = linalg.DenseMatrix(rows, columns, doubles, True).compressed()
            ours = compressed_matrix(array.reshape(rows, columns))
            assert type(ours).__name__ == theirs.getClass().getSimpleName()
            assert bool(ours.isTransposed) == theirs.isTransposed()
            assert list(ours.values) == list(theirs.values())
            if isinstance(ours, SparseMatrix):
                assert list(ours.rowIndices) == list(theirs.rowIndices())
                assert list(ours.colPtrs) == list(theirs.colPtrs())
            assert (ours.toArray() == array.reshape(rows, columns)).all()
            vector = linalg.DenseVector(doubles).compressed()
            assert type(compressed_vector(array)).__name__ == vector.getClass().getSimpleName()
            seen.add((type(ours), bool(ours.isTransposed)))
    assert seen == {(DenseMatrix, True), (SparseMatrix, True), (SparseMatrix, False)}


def test_binomial_coefficients_have_the_matrixs_form() -> None:
    array = np.zeros((1, 20))
    array[0, 3] = 2.0
    sparse = LogisticRegressionModel(array, np.zeros(1), 2, False)
    assert isinstance(sparse.coefficients, SparseVector)
    assert sparse.coefficients == Vectors.dense(array[0])
    dense = LogisticRegressionModel(np.ones((1, 20)), np.zeros(1), 2, False)
    assert isinstance(dense.coefficients, DenseVector)
