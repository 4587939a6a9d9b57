"""Prints fingerprints of the weights of small fits: fingerprints.py MASTER NPZ DIR [NAME...]."""

import json
import sys

from application import application, digits, fingerprint

from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier

master, arrays, local_dir, *chosen = sys.argv[1:]
SGD = {"solver": "sgd", "layers": [64, 20, 10], "blockSize": 16, "maxIter": 2, "momentum": 0.9}


def perceptron(data, **params) -> str:
    classifier = MultilayerPerceptronClassifier(numPartitions=4, tol=0.0).setParams(**params)
    return fingerprint(classifier.fit(data).weights.toArray())


def logistic(data, **params) -> str:
    regression = LogisticRegression(numPartitions=4, tol=0.0, regParam=0.01).setParams(**params)
    model = regression.fit(data)
    return fingerprint([*model.coefficientMatrix.toArray().ravel(), *model.interceptVector])


with application(master, local_dir) as spark:
    mixed, by_label = digits(spark, arrays), digits(spark, arrays, by_label=True)
    fits = {
        "sgd": lambda: perceptron(mixed, **SGD),
        "sgd, dealt": lambda: perceptron(by_label, **SGD),
        "sgd, dealt to 3": lambda: perceptron(
            by_label, **SGD, numPartitions=3, stepsPerRound=6, dropout=0.2
        ),
        # So many weights that linear algebra on the driver would use several threads.
        "l-bfgs": lambda: perceptron(mixed, layers=[64, 200, 10], maxIter=6),
        "logistic": lambda: logistic(by_label, maxIter=10),
        "logistic, sgd": lambda: logistic(by_label, solver="sgd", maxIter=2),
    }
    print(json.dumps({name: fits[name]() for name in chosen or fits}))
