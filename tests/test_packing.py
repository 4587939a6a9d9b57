"""What is known of the rows before they are packed, and what is checked once they are."""

from dataclasses import replace

import numpy as np
import pytest
from cluster_helpers import pack_frame
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql.types import ArrayType, DoubleType, StructType

from sparknn.blocks import check_packed, pack
from sparknn.cluster import Cluster
from sparknn.dealing import fingerprint
from sparknn.errors import InvalidDataError, LostBlockError
from sparknn.packing import Source
from sparknn.rows import Layout
from sparknn.schema import feature_columns, feature_shape


@pytest.fixture(scope="module")
def cluster(spark):
    return Cluster(spark)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fingerprints_add_up_however_the_rows_are_cut_and_ordered(dtype):
    rows = np.random.default_rng(3).normal(size=(50, 7)).astype(dtype)
    mixed = rows[np.random.default_rng(4).permutation(50)]
    parts = fingerprint(mixed[:13]) + fingerprint(mixed[13:])
    assert (fingerprint(rows) - parts) % 2**64 == 0
    twice = np.vstack([rows[:-1], rows[:1]])
    assert (fingerprint(rows) - fingerprint(twice)) % 2**64 != 0


def test_rows_that_came_twice_when_a_task_was_repeated_are_noticed(cluster, spark):
    data = spark.range(0, 3000, 1, 2).selectExpr("double(id) as x", "double(id % 2) as y")
    with pack_frame(cluster, data, ["x"], ("y",), partitions=3) as blocks:
        packed, layout = blocks.packed, Layout(targets=("y",))
    check_packed(packed, layout)
    first = packed[0]
    lost = [replace(each, fingerprint=each.fingerprint + 1) for each in first.summaries[:1]]
    with pytest.raises(LostBlockError, match="came out twice, or not at all"):
        check_packed([replace(first, summaries=lost + first.summaries[1:]), *packed[1:]], layout)


def test_dense_rows_wider_than_memory_are_refused_before_any_is_read(cluster, spark, block_files):
    data = spark.createDataFrame([([1.0],)], StructType().add("f", ArrayType(DoubleType())))
    columns, single = feature_columns(data, "f")
    layout = Layout("f", single, width=2**24)
    with pytest.raises(InvalidDataError, match=r"'f' is 16777216 values wide.*FeatureHasher"):
        pack(cluster, data, Source(layout), None, columns)
    assert block_files() == []


@pytest.mark.parametrize("column", ["dense", "sparse", "array"])
def test_the_first_row_that_is_not_null_decides_the_width(spark, column):
    rows = {"dense": Vectors.dense([1, 2, 3]), "sparse": Vectors.sparse(3, []), "array": [1.0] * 3}
    kind = ArrayType(DoubleType()) if column == "array" else VectorUDT()
    data = spark.createDataFrame([(None,), (rows[column],)], StructType().add("f", kind))
    assert feature_shape(data, "f")[:2] == (3, "the first row is")
    assert feature_shape(data.filter("f is null"), "f").width is None


def test_a_vector_columns_metadata_decides_the_width(spark):
    data = VectorAssembler(inputCols=["id", "id"], outputCol="f").transform(spark.range(3))
    assert feature_shape(data, "f")[:2] == (2, "the column's metadata says")
