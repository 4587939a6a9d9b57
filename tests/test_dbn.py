"""Deep belief networks on Spark: greedy layers, and what begins with them."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn import load_numpy
from sparknn.boltzmann import Up
from sparknn.classification import (
    DeepBeliefNetworkClassificationModel,
    DeepBeliefNetworkClassifier,
)
from sparknn.errors import InvalidDataError, InvalidParamError
from sparknn.feature import DBN, RBM, DBNModel
from sparknn.regression import DeepBeliefNetworkRegressionModel, DeepBeliefNetworkRegressor
from sparknn.training.checkpoints import _Store

FAST = {
    "layers": [64, 30, 20],
    "blockSize": 20,
    "stepSize": 0.1,
    "numPartitions": 2,
    "stepsPerRound": 50,
}


@pytest.fixture(scope="module")
def dbn(digits: DataFrame) -> DBNModel:
    return DBN(**FAST, maxIter=[3, 2]).fit(digits)


def test_the_first_layer_is_an_rbm_and_the_next_ones_rows_are_its_hidden_means(
    digits: DataFrame, dbn: DBNModel
) -> None:
    settings = {name: value for name, value in FAST.items() if name != "layers"}
    rbm = RBM(numHidden=30, maxIter=3, **settings).fit(digits)
    first, second = dbn.machines
    np.testing.assert_array_equal(first.parameters, rbm.parameters)
    features = np.array([row.features.toArray() for row in digits.select("features").collect()])
    hidden = Up(first.machine, first.parameters)(features.astype(np.float32))
    np.testing.assert_allclose(second._means, hidden.mean(axis=0), rtol=1e-4)
    assert [len(each.objectiveHistory) for each in dbn.summary] == [3, 2]


def test_transform_goes_up_to_any_layer(digits: DataFrame, dbn: DBNModel) -> None:
    row = digits.limit(1)
    features = np.array([row.first().features.toArray()])
    for layer, expected in ((1, dbn.stack.up(features, 1)), (None, dbn.stack.up(features))):
        model = dbn if layer is None else dbn.copy({dbn.outputLayer: layer})
        hidden = model.transform(row).first().hidden
        np.testing.assert_allclose(hidden.toArray(), expected[0], rtol=1e-5)
    back = dbn.reconstruct(row).first().reconstruction
    assert len(back) == 64
    assert ((back.toArray() - features[0]) ** 2).mean() < 0.1


def test_a_saved_network_is_the_same(dbn: DBNModel, tmp_path) -> None:
    dbn.save(str(tmp_path / "dbn"))
    loaded = DBNModel.load(str(tmp_path / "dbn"))
    assert loaded.uid == dbn.uid
    assert loaded.getLayers() == [64, 30, 20]
    np.testing.assert_array_equal(loaded.sample(3, 2, 1), dbn.sample(3, 2, 1))
    np.testing.assert_array_equal(loaded.unroll()[1], dbn.unroll()[1])
    DBN(**FAST, maxIter=[3, 2]).save(str(tmp_path / "estimator"))
    assert DBN.load(str(tmp_path / "estimator")).getMaxIter() == [3, 2]


def test_the_machines_of_a_saved_network_know_their_columns(dbn: DBNModel, tmp_path) -> None:
    machines = [each.copy()._set(featuresCol="pixels") for each in dbn.machines]
    DBNModel(machines)._set(layers=dbn.getLayers()).save(str(tmp_path / "dbn"))
    loaded = DBNModel.load(str(tmp_path / "dbn"))
    assert [each.getFeaturesCol() for each in loaded.machines] == ["pixels", "pixels"]


def test_mistakes_name_the_setting_and_the_layer() -> None:
    with pytest.raises(InvalidParamError, match="set layers to the sizes of the input"):
        DBN()._check()
    with pytest.raises(
        InvalidParamError, match="maxIter must be one value or 2, one a hidden layer"
    ):
        DBN(**FAST, maxIter=[1, 2, 3])._check()
    with pytest.raises(InvalidParamError, match="hidden layer 2: cdSteps must be at least 1"):
        DBN(**FAST, cdSteps=[1, 0])._check()
    with pytest.raises(InvalidParamError, match="outputLayer must be from 1 to 2"):
        DBN(**FAST, outputLayer=3)._check()
    with pytest.raises(InvalidParamError, match=r"classWeights must be unset: .*weightCol"):
        DeepBeliefNetworkClassifier(layers=[4, 2]).setClassWeights([1.0, 5.0])._check()


FINE = {
    "layers": [64, 30, 20],
    "pretrainBlockSize": 20,
    "pretrainStepSize": 0.1,
    "pretrainMaxIter": [3, 2],
    "pretrainStepsPerRound": 50,
    "stepSize": 0.3,
    "momentum": 0.5,
    "blockSize": 10,
    "numPartitions": 2,
}


def accuracy(model, data: DataFrame) -> float:
    return model.transform(data).filter("prediction = label").count() / data.count()


def test_a_classifier_goes_on_from_the_network(digits: DataFrame, dbn: DBNModel, tmp_path) -> None:
    model = DeepBeliefNetworkClassifier(**FINE, maxIter=0).fit(digits)
    np.testing.assert_allclose(model.weights, dbn.initialWeights(10), rtol=1e-6)
    model = DeepBeliefNetworkClassifier(**FINE, maxIter=10, dropout=[0.0, 0.1, 0.1]).fit(digits)
    assert accuracy(model, digits) > 0.9
    assert model.getLayers() == [64, 30, 20, 10]
    assert model.numClasses == 10
    assert [len(each.objectiveHistory) for each in model.pretraining] == [3, 2]
    assert model.summary.accuracy > 0.9
    model.save(str(tmp_path / "model"))
    loaded = DeepBeliefNetworkClassificationModel.load(str(tmp_path / "model"))
    row = digits.first().features
    assert loaded.predictRaw(row) == model.predictRaw(row)
    assert model.toMLlib().predict(row) == model.predict(row)
    features = row.toArray()[np.newaxis]
    assert load_numpy(str(tmp_path / "model")).predict(features) == model.predict(row)


def with_few_labels(digits: DataFrame) -> DataFrame:
    """The digits, of which only some of one partition have a label, none of them a 9."""
    place = F.monotonically_increasing_id()
    some = (F.spark_partition_id() == 0) & (place % 2 == 0) & (F.col("label") < 9)
    return digits.select("features", F.when(some, F.col("label")).alias("label")).cache()


def test_rows_without_a_label_are_pretrained_on_alone(digits: DataFrame) -> None:
    rows = with_few_labels(digits)
    labelled = rows.filter("label is not null").cache()
    model = DeepBeliefNetworkClassifier(**FINE, maxIter=0).fit(rows)
    everything = DeepBeliefNetworkClassifier(**FINE, maxIter=0).fit(digits)
    # The hidden layers have seen all rows, the output layer has nine classes of labelled ones.
    hidden = 64 * 30 + 30 + 30 * 20 + 20
    np.testing.assert_allclose(model.weights[:hidden], everything.weights[:hidden], atol=0.05)
    assert model.numClasses == 9
    assert model.training.rows == labelled.count() < 225


def test_a_label_that_is_nan_is_an_error(digits: DataFrame) -> None:
    rows = digits.withColumn("label", F.when(F.col("label") == 3, float("nan")).otherwise(None))
    with pytest.raises(InvalidDataError, match=r"column 'label': .* NaN"):
        DeepBeliefNetworkClassifier(**FINE, maxIter=1).fit(rows)
    with pytest.raises(InvalidDataError, match="'label' is null in all 1797 rows"):
        DeepBeliefNetworkClassifier(**FINE).fit(digits.withColumn("label", F.lit(None) * 1.0))


class Killed(Exception):
    """Stands for the end of the driver."""


def test_a_fit_goes_on_in_the_stage_where_it_was_killed(
    digits: DataFrame, tmp_path, monkeypatch
) -> None:
    estimator = DeepBeliefNetworkClassifier(
        **{**FINE, "pretrainMaxIter": 2}, maxIter=2, checkpointDir=str(tmp_path / "c")
    ).setCheckpointInterval(1)
    whole = estimator.fit(digits)
    assert not list((tmp_path / "c").rglob("*.npz"))
    write = _Store.write
    killing = ["layer-2", "fine-tuning", ""]
    written: list[str] = []

    def killed(store, number, arrays, facts):
        written.append(store.directory)
        if number == 2 and store.directory.endswith(killing[0] or "never"):
            raise Killed
        write(store, number, arrays, facts)

    monkeypatch.setattr(_Store, "write", killed)
    for stage in ("layer-1", "layer-2", "fine-tuning"):
        if not killing[0]:
            resumed = estimator.fit(digits)
        else:
            with pytest.raises(Killed):
                estimator.fit(digits)
        killing.pop(0)
        # Stages that are complete are not begun again.
        assert written[0].endswith(stage)
        written.clear()
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    assert not list((tmp_path / "c").rglob("*.npz"))


def test_held_out_rows_stop_each_stage(digits: DataFrame) -> None:
    rows = digits.withColumn("held", F.monotonically_increasing_id() % 5 == 0)
    model = DeepBeliefNetworkClassifier(
        **{**FINE, "pretrainMaxIter": 2}, maxIter=3, validationIndicatorCol="held", patience=1
    ).fit(rows)
    held = rows.filter("held").count()
    assert model.training.rows == 1797 - held
    assert len(model.training.held_out_history) == model.training.iterations
    for summary in model.pretraining:
        assert len(summary.validationHistory) == len(summary.objectiveHistory)


def test_a_regressor_is_pretrained_too(digits: DataFrame, tmp_path) -> None:
    ink = F.aggregate(vector_to_array("features"), F.lit(0.0), lambda total, x: total + x)
    rows = digits.withColumn("label", F.when(F.monotonically_increasing_id() % 3 > 0, 1000 * ink))
    model = DeepBeliefNetworkRegressor(
        **{**FINE, "layers": [64, 30], "pretrainMaxIter": 2}, maxIter=10
    ).fit(rows)
    labelled = rows.filter("label is not null")
    assert model.training.rows == labelled.count() < 1797
    assert model.getLayers() == [64, 30, 1]
    assert model.evaluate(labelled).r2 > 0.9
    model.save(str(tmp_path / "model"))
    loaded = DeepBeliefNetworkRegressionModel.load(str(tmp_path / "model"))
    features = digits.first().features
    assert loaded.predict(features) == model.predict(features)
    again = load_numpy(str(tmp_path / "model")).predict(features.toArray()[np.newaxis])
    assert again == pytest.approx(model.predict(features))
