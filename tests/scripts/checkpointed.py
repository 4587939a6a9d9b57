"""Train a perceptron with checkpoints in one directory and write its weights to a file."""

import sys

from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from sklearn.datasets import load_iris

from sparknn.classification import MultilayerPerceptronClassifier


def rows(spark: SparkSession) -> DataFrame:
    features, labels = load_iris(return_X_y=True)
    pairs = [(Vectors.dense(x), float(y)) for x, y in zip(features, labels, strict=True)]
    parts = spark.sparkContext.parallelize(pairs, 2)
    return spark.createDataFrame(parts, ["features", "label"])


def estimator() -> MultilayerPerceptronClassifier:
    return MultilayerPerceptronClassifier(
        layers=[4, 6, 3],
        solver="sgd",
        momentum=0.9,
        dropout=0.1,
        blockSize=5,
        stepsPerRound=5,
        maxIter=12,
        tol=0.0,
        numPartitions=2,
    )


def main(checkpoints: str, output: str) -> None:
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.python.unix.domain.socket.enabled", "true")
        .getOrCreate()
    )
    data = rows(spark)
    print("training", flush=True)
    fit = estimator().setCheckpointDir(checkpoints).setCheckpointInterval(1)
    fit.fit(data).weights.toArray().tofile(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
