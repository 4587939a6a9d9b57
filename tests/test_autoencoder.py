"""Autoencoders: a code from which the rows come back."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame

from sparknn.errors import InvalidParamError
from sparknn.feature import DBN, Autoencoder, AutoencoderModel

FAST = {
    "layers": [64, 40, 6],
    "pretrainBlockSize": 20,
    "pretrainMaxIter": [10, 10],
    "pretrainStepSize": [0.1, 0.005],
    "pretrainStepsPerRound": 50,
    "blockSize": 10,
    "numPartitions": 2,
    "momentum": 0.9,
}


def squared_error(model, data: DataFrame) -> float:
    """Return the mean over rows of the sum of squared differences from the reconstruction."""
    rows = model.reconstruct(data).select(
        vector_to_array("features").alias("x"), vector_to_array("reconstruction").alias("y")
    )
    both = rows.toPandas()
    return float(np.square(np.stack(both.x) - np.stack(both.y)).sum(axis=1).mean())


def principal_components(features: np.ndarray, count: int) -> float:
    """Return the same for the projection on so many principal components."""
    centred = features - features.mean(axis=0)
    return float((np.linalg.svd(centred, compute_uv=False)[count:] ** 2).sum() / len(features))


@pytest.fixture(scope="module")
def trained(digits: DataFrame) -> AutoencoderModel:
    return Autoencoder(**FAST, maxIter=40, stepSize=0.02).fit(digits)


def test_a_code_says_more_than_as_many_principal_components(
    digits: DataFrame, digits_arrays, trained: AutoencoderModel
) -> None:
    assert squared_error(trained, digits) < 0.8 * principal_components(digits_arrays[0], 6)
    history = trained.training.objective_history
    assert history[-1] < history[0]


def test_the_code_is_the_middle_of_the_network(digits: DataFrame, trained) -> None:
    row = digits.limit(1)
    features = np.array([row.first().features.toArray()])
    code = trained.transform(row).first().code.toArray()
    assert len(code) == 6
    decoder = trained.network.views(trained.weights.toArray())[2:]
    hidden = 1 / (1 + np.exp(-(code @ decoder[0][0] + decoder[0][1])))
    output = 1 / (1 + np.exp(-(hidden @ decoder[1][0] + decoder[1][1])))
    np.testing.assert_allclose(output, trained.network.outputs(trained.weights, features)[0], 1e-4)


def test_without_fine_tuning_it_is_the_unrolled_network(digits: DataFrame, tmp_path) -> None:
    settings = {**FAST, "pretrainMaxIter": 1}
    model = Autoencoder(**settings, maxIter=0, codeType="binary", loss="squared").fit(digits)
    dbn = DBN(
        layers=[64, 40, 6],
        blockSize=20,
        stepSize=[0.1, 0.005],
        maxIter=1,
        numPartitions=2,
        stepsPerRound=50,
    ).fit(digits)
    np.testing.assert_array_equal(model.weights, dbn.unroll("squared")[1].astype(np.float32))
    model.save(str(tmp_path / "model"))
    loaded = AutoencoderModel.load(str(tmp_path / "model"))
    row = digits.limit(1)
    assert loaded.transform(row).first().code == model.transform(row).first().code
    assert loaded.reconstruct(row).first() == model.reconstruct(row).first()
    np.testing.assert_allclose(
        model.transform(row).first().code, dbn.transform(row).first().hidden, rtol=1e-5
    )


def test_gaussian_inputs_have_no_cross_entropy() -> None:
    with pytest.raises(InvalidParamError, match="for Gaussian ones use loss='squared'"):
        Autoencoder(**FAST, visibleType="gaussian")._check()
