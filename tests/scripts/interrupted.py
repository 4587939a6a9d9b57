"""Is interrupted twice and fits in peace in between: interrupted.py NPZ DIR.

Before each part that somebody shall interrupt, a line on standard output says so.
"""

import json
import sys
import time

from application import application, block_files, digits, fingerprint

from sparknn import Network, train
from sparknn.classification import MultilayerPerceptronClassifier

arrays, local_dir = sys.argv[1:]
report = {}


def interrupted(name: str, work) -> None:
    print(name, flush=True)
    try:
        work()
    except KeyboardInterrupt:
        report[name] = block_files(local_dir)


def slow(pair):
    time.sleep(0.2)
    return pair


def classifier(epochs: int) -> MultilayerPerceptronClassifier:
    return MultilayerPerceptronClassifier(
        layers=[64, 30, 10], solver="sgd", maxIter=epochs, blockSize=16, tol=0.0
    )


def fit(data) -> str:
    return fingerprint(classifier(2).fit(data).weights.toArray())


with application("local[2]", local_dir) as spark:
    data = digits(spark, arrays)
    rows = spark.sparkContext.parallelize([(0.0, [1.0]), (1.0, [2.0])] * 50, 2).map(slow)
    report["before"] = fit(data)
    interrupted("training", lambda: classifier(100_000).fit(data))
    report["after training"] = fit(data)
    interrupted("packing", lambda: train(Network([1, 2]), rows, epochs=1))
    report["after packing"] = fit(data)
    report["jobs"] = list(spark.sparkContext.statusTracker().getActiveJobsIds())
    report["files"] = block_files(local_dir)
    print(json.dumps(report), flush=True)
