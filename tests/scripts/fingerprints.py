"""Prints the fingerprints of the weights of several small fits: fingerprints.py MASTER NPZ DIR."""

import json
import sys

from application import digits, fingerprint, session

from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier

master, arrays, local_dir = sys.argv[1:]
spark = session(master, local_dir)
mixed, sorted_by_label = (digits(spark, arrays, by_label).cache() for by_label in (False, True))


def perceptron(data, **params) -> str:
    classifier = MultilayerPerceptronClassifier(blockSize=16, tol=0.0, numPartitions=4)
    return fingerprint(classifier.setParams(**params).fit(data).weights.toArray())


def logistic(data, **params) -> str:
    regression = LogisticRegression(regParam=0.01, numPartitions=4, blockSize=16)
    model = regression.setParams(**params).fit(data)
    return fingerprint([*model.coefficientMatrix.toArray().ravel(), *model.interceptVector])


sgd = {"solver": "sgd", "layers": [64, 20, 10], "maxIter": 2, "momentum": 0.9}
print(
    json.dumps(
        {
            "sgd": perceptron(mixed, **sgd),
            "sgd, dealt": perceptron(sorted_by_label, **sgd),
            "sgd, dealt to 3, dropout": perceptron(
                sorted_by_label, **sgd, numPartitions=3, dropout=0.2
            ),
            "sgd, each step": perceptron(mixed, **{**sgd, "maxIter": 1}, stepsPerRound=5),
            "adam": perceptron(mixed, solver="adam", layers=[64, 20, 10], maxIter=2),
            # So many weights that linear algebra on the driver would use several threads.
            "l-bfgs": perceptron(mixed, layers=[64, 200, 10], maxIter=6),
            "logistic": logistic(mixed, maxIter=10),
            "logistic, sgd": logistic(sorted_by_label, solver="sgd", maxIter=2),
        }
    )
)
spark.stop()
