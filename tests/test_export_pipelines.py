"""Saved pipelines without Spark: what precedes the model is carried out, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from predictions import assert_same, by_numpy, by_spark
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import (
    Bucketizer,
    IndexToString,
    MinMaxScaler,
    Normalizer,
    SQLTransformer,
    StandardScaler,
    StringIndexerModel,
    VectorAssembler,
)
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import csr_array

from sparknn import load_numpy
from sparknn.classification import LogisticRegressionModel
from sparknn.errors import IncompleteError, InvalidDataError, UnsupportedModelError
from sparknn.persistence import mark_complete
from sparknn.saved import MARKER


@pytest.fixture(scope="module")
def columns() -> np.ndarray:
    """Three columns of features that are ill-scaled, and one that is constant, (60, 4)."""
    random = np.random.default_rng(3)
    scaled = (random.standard_normal((60, 3)) + 0.5) * [1, 1e4, 1e-3]
    return np.column_stack([scaled, np.full(60, 5.0)])


@pytest.fixture(scope="module")
def table(spark: SparkSession, columns: np.ndarray) -> DataFrame:
    values = [(*map(float, row), "yes", Vectors.dense(row)) for row in columns]
    names = ["a", "b", "c", "d", "word", "vector"]
    return spark.createDataFrame(values, names).coalesce(1).cache()


def piped(table: DataFrame, *stages) -> PipelineModel:
    """A pipeline that ends as a job's does, with a model of the column `scaled`."""
    label = StringIndexerModel.from_labels(["no", "yes"], inputCol="word", outputCol="number")
    model = LogisticRegressionModel(np.array([[2.0, -1, 1, 0.1]]), np.array([-0.8]), 2, False)
    words = IndexToString(inputCol="prediction", outputCol="said", labels=["no", "yes"])
    fitted = Pipeline(stages=[label, *stages]).fit(table).stages
    return PipelineModel([*fitted, model._set(featuresCol="scaled"), words])


def assembler(**params) -> VectorAssembler:
    return VectorAssembler(**{"inputCols": ["a", "b", "c", "d"], "outputCol": "scaled", **params})


def standard(**params) -> StandardScaler:
    return StandardScaler(**{"inputCol": "assembled", "outputCol": "scaled", **params})


# Functions, because a stage of Spark's cannot be made before there is a session.
STAGES = {
    "standard": lambda: [assembler(outputCol="assembled"), standard()],
    "centred": lambda: [assembler(outputCol="assembled"), standard(withMean=True, withStd=False)],
    "two scalers": lambda: [
        assembler(outputCol="assembled"),
        standard(withMean=True, outputCol="other"),
        MinMaxScaler(min=-1.0, max=3.0, inputCol="other", outputCol="scaled"),
    ],
    "assembled only": lambda: [assembler()],
    "a vector": lambda: [MinMaxScaler(inputCol="vector", outputCol="scaled")],
}


@pytest.mark.parametrize("name", STAGES)
def test_a_pipelines_scaling_is_carried_out(
    name: str, table: DataFrame, columns: np.ndarray, tmp_path: Path
) -> None:
    pipeline = piped(table, *STAGES[name]())
    pipeline.save(str(tmp_path / "pipeline"))
    loaded = load_numpy(tmp_path / "pipeline")
    expected = by_spark(pipeline, table)
    assert_same(by_numpy(loaded, columns), expected, 1e-12)
    assert_same(by_numpy(loaded, csr_array(columns)), expected, 1e-12)
    assert len(set(expected.label)) == 2
    assert loaded.columns == (None if name == "a vector" else ("a", "b", "c", "d"))


def test_a_pipelines_nan_is_an_error_that_names_the_column(
    table: DataFrame, columns: np.ndarray, tmp_path: Path
) -> None:
    piped(table, *STAGES["standard"]()).save(str(tmp_path / "pipeline"))
    values = columns.copy()
    values[2, 1] = np.nan
    with pytest.raises(InvalidDataError, match="column 'b' holds NaN"):
        load_numpy(tmp_path / "pipeline").predict(values)


REFUSED = {
    "Normalizer": (lambda: [Normalizer(inputCol="vector", outputCol="scaled")], "Normalizer"),
    "SQL": (
        lambda: [SQLTransformer(statement="SELECT *, vector AS scaled FROM __THIS__")],
        "SQLTransformer .* may change any column",
    ),
    "derived column": (
        lambda: [
            Bucketizer(splits=[-1e9, 7.0, 1e9], inputCol="a", outputCol="bucket"),
            assembler(inputCols=["bucket", "b"]),
        ],
        "Bucketizer .* only some of the columns",
    ),
    "skipping": (lambda: [assembler(handleInvalid="skip")], "leaves rows out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_stage_that_cannot_be_carried_out_is_refused(
    name: str, table: DataFrame, tmp_path: Path
) -> None:
    stages, message = REFUSED[name]
    piped(table, *stages()).save(str(tmp_path / "pipeline"))
    with pytest.raises(UnsupportedModelError, match=message):
        load_numpy(tmp_path / "pipeline")


def test_a_pipeline_whose_writing_was_cut_short_is_refused(
    table: DataFrame, spark: SparkSession, tmp_path: Path
) -> None:
    pipeline = piped(table, *STAGES["a vector"]())
    place = tmp_path / "pipeline"
    pipeline.save(str(place))
    mark_complete(spark, str(place))
    load_numpy(place)
    (model,) = place.glob("stages/*_LogisticRegressionModel_*")
    (model / MARKER).unlink()
    with pytest.raises(IncompleteError, match=f"no {MARKER}"):
        load_numpy(place)
    model.rename(place / "elsewhere")
    with pytest.raises(IncompleteError, match="lacks its stage LogisticRegressionModel"):
        load_numpy(place)


def test_a_pipeline_without_a_model_of_ours_is_refused(table: DataFrame, tmp_path: Path) -> None:
    Pipeline(stages=[assembler()]).fit(table).save(str(tmp_path / "pipeline"))
    with pytest.raises(UnsupportedModelError, match="0 of sparknn's models among its 1 stage"):
        load_numpy(tmp_path / "pipeline")
