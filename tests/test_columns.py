"""Predictions as columns: lazily, over the features alone, in any DataFrame."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

from sparknn import batches
from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.prediction import Prediction


@pytest.fixture(scope="module")
def model(spark: SparkSession):
    rows = [(Vectors.dense(x, -x), float(x > 0)) for x in np.linspace(-2, 2, 20)]
    data = spark.createDataFrame(rows, ["features", "label"])
    return MultilayerPerceptronClassifier(layers=[2, 3, 2], maxIter=20).fit(data)


@pytest.fixture
def rows(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        [(1, Vectors.dense(0.5, 1.0)), (2, Vectors.sparse(2, [1], [1.5]))], ["id", "features"]
    )


def test_sparse_dense_and_array_features_give_the_same(model, rows: DataFrame) -> None:
    from pyspark.ml.functions import vector_to_array

    expected = [row.probability for row in model.transform(rows).collect()]
    for features in rows.collect():
        assert model.predictProbability(features.features) in expected
    arrays = rows.select("id", vector_to_array("features").alias("features"))
    assert [row.probability for row in model.transform(arrays).collect()] == expected


def test_other_columns_keep_type_nullability_and_metadata(model, rows: DataFrame) -> None:
    data = rows.withColumn("tag", F.lit("x").alias("tag", metadata={"unit": "m"}))
    fields = model.transform(data).schema.fields[:3]
    assert fields == data.schema.fields
    assert fields[2].metadata == data.schema.fields[2].metadata


def test_the_prediction_is_computed_once_for_all_columns(model, rows: DataFrame) -> None:
    plan = model.transform(rows)._jdf.queryExecution().executedPlan().toString()
    assert plan.count("ArrowEvalPython") == 1
    assert plan.count("compute(") + plan.count("of_vectors(") == 1


def test_nothing_runs_before_the_columns_are_used(model, rows: DataFrame) -> None:
    broken = rows.withColumn("features", F.raise_error(F.lit("used")).cast("array<double>"))
    model.transform(broken)


def test_an_empty_name_leaves_its_column_out(model, rows: DataFrame) -> None:
    quiet = model.copy({model.rawPredictionCol: "", model.probabilityCol: ""})
    assert quiet.transform(rows).columns == ["id", "features", "prediction"]
    mute = quiet.copy({quiet.predictionCol: ""})
    assert mute.transform(rows).columns == ["id", "features"]


def test_nan_features_give_nan_and_do_not_fail(model, spark: SparkSession) -> None:
    row = model.transform(
        spark.createDataFrame([(Vectors.dense(float("nan"), 1.0),)], ["features"])
    ).first()
    assert np.isnan(row.probability.toArray()).all()


def test_a_column_that_exists_is_not_replaced(model, rows: DataFrame) -> None:
    with pytest.raises(ValueError, match="'prediction' exists"):
        model.transform(rows.withColumn("prediction", F.lit(1)))


def test_names_with_dots_and_duplicate_names_work(model, rows: DataFrame) -> None:
    dotted = rows.select("id", F.col("id").alias("id"), F.col("features").alias("my.features"))
    named = model.copy({model.featuresCol: "my.features", model.predictionCol: "my.guess"})
    scored = named.transform(dotted)
    assert scored.columns[:3] == ["id", "id", "my.features"]
    assert len(scored.select("`my.guess`").collect()) == 2


def test_a_streaming_dataframe_is_scored(model, spark: SparkSession, tmp_path) -> None:
    table = spark.createDataFrame([([0.5, 1.0],), ([1.5, -1.0],)], "features array<double>")
    table.write.parquet(str(tmp_path / "in"))
    stream = spark.readStream.schema(table.schema).parquet(str(tmp_path / "in"))
    query = (
        model.transform(stream)
        .select("prediction")
        .writeStream.format("memory")
        .queryName("scored")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination(60)
    assert spark.table("scored").count() == 2


def test_a_sparse_vector_in_no_order_is_an_error_that_says_so() -> None:
    integer, number = pa.int32(), pa.float64()
    names = ["type", "size", "indices", "values"]
    kinds = [pa.int8(), integer, pa.list_(integer), pa.list_(number)]
    row = {"type": 0, "size": 2, "indices": [1, 0], "values": [1.0, 2.0]}
    column = pa.array([row], pa.struct(list(zip(names, kinds, strict=True))))
    with pytest.raises(ValueError, match="features are a sparse vector whose indices do not"):
        batches._matrix(column, 2, False)


def test_features_of_another_width_are_an_error(model, spark: SparkSession) -> None:
    wide = spark.createDataFrame([(Vectors.dense(1.0, 2.0, 3.0),)], ["features"])
    with pytest.raises(Exception, match="3 values wide; the model takes 2"):
        model.transform(wide).collect()
    with pytest.raises(ValueError, match="takes"):
        model.predict(Vectors.dense(1.0))


@pytest.mark.parametrize("kind", ["vector", "array<double>"])
def test_null_features_are_an_error_that_says_so(model, spark: SparkSession, kind: str) -> None:
    type_ = VectorUDT() if kind == "vector" else ArrayType(DoubleType())
    empty = spark.createDataFrame([(None,)], StructType([StructField("features", type_)]))
    with pytest.raises(Exception, match="features are null; the model takes 2 values"):
        model.transform(empty).collect()


def test_pieces_of_a_batch_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.arange(12.0).reshape(6, 2)
    column = pa.array(features.tolist())
    monkeypatch.setattr(batches, "PIECE_BYTES", 32)
    found = batches._predictions(_echo, column, 2, 1)
    np.testing.assert_array_equal(found["raw"], features)
    np.testing.assert_array_equal(found["label"], features[:, 0])
    assert batches._predictions(_echo, column[:0], 2, 1)["raw"].shape == (0, 2)


def test_batches_of_pandas_are_read_as_those_of_arrow() -> None:
    vectors = pd.DataFrame(
        {
            "type": [1, 0],
            "size": [None, 2],
            "indices": [None, np.array([1])],
            "values": [np.array([0.5, np.nan]), np.array([1.5])],
        }
    )
    expected = [[0.5, np.nan], [0.0, 1.5]]
    np.testing.assert_array_equal(
        batches._matrix(batches._from_pandas(vectors), 2, False), expected
    )
    arrays = pd.Series([np.array([0.5, np.nan]), np.array([0.0, 1.5])])
    found = batches._matrix(batches._from_pandas(arrays), 2, False)
    np.testing.assert_array_equal(found, expected)
    for gone in (pd.DataFrame([dict.fromkeys(vectors)]), pd.Series([None])):
        with pytest.raises(ValueError, match="features are null"):
            batches._matrix(batches._from_pandas(gone), 2, False)


def _echo(features: np.ndarray) -> Prediction:
    return Prediction(features, features, features[:, 0])


def test_linear_models_score_in_float64(spark: SparkSession) -> None:
    rows = [(Vectors.dense(1.5e9 + x), float(x > 0)) for x in (-1e3, -500.0, 400.0, 1e3)]
    data = spark.createDataFrame(rows, ["features", "label"])
    model = LogisticRegression(regParam=0.01).fit(data)
    predictions = [row.prediction for row in model.transform(data).collect()]
    assert predictions == [0, 0, 1, 1]
