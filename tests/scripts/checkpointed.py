"""Train a perceptron with checkpoints in one directory and write its weights to a file."""

import sys

from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession
from sklearn.datasets import load_iris

from sparknn.classification import MultilayerPerceptronClassifier


def main(checkpoints: str, output: str) -> None:
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.python.unix.domain.socket.enabled", "true")
        .getOrCreate()
    )
    features, labels = load_iris(return_X_y=True)
    rows = [(Vectors.dense(x), float(y)) for x, y in zip(features, labels, strict=True)]
    data = spark.createDataFrame(spark.sparkContext.parallelize(rows, 2), ["features", "label"])
    estimator = MultilayerPerceptronClassifier(
        layers=[4, 6, 3],
        solver="sgd",
        momentum=0.9,
        dropout=0.1,
        blockSize=5,
        stepsPerRound=5,
        maxIter=12,
        tol=0.0,
        checkpointDir=checkpoints,
        checkpointInterval=1,
    )
    print("training", flush=True)
    estimator.fit(data).weights.toArray().tofile(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
