"""Is interrupted twice, then fits in peace: interrupted.py NPZ DIR.

Before each part that somebody shall interrupt a line says so on standard output.
"""

import json
import sys
import time

from application import block_files, digits, fingerprint, session

from sparknn import Network, train
from sparknn.classification import MultilayerPerceptronClassifier

arrays, local_dir = sys.argv[1:]
spark = session("local[2]", local_dir)
data = digits(spark, arrays).cache()
rows = spark.sparkContext.parallelize([(0.0, [1.0]), (1.0, [2.0])] * 50, 2)
report = {}


def interrupted(name: str, work) -> None:
    print(name, flush=True)
    try:
        work()
    except KeyboardInterrupt:
        # A second one, meant for the part before, may be on its way.
        time.sleep(1)
        report[name] = {"raised": True, "files": block_files(local_dir)}
    else:
        report[name] = {"raised": False, "files": block_files(local_dir)}


def slow(pair):
    time.sleep(1)
    return pair


def classifier(iterations: int) -> MultilayerPerceptronClassifier:
    return MultilayerPerceptronClassifier(
        layers=[64, 30, 10], solver="sgd", maxIter=iterations, blockSize=16, tol=0.0
    )


def fit() -> str:
    return fingerprint(classifier(2).fit(data).weights.toArray())


report["before"] = fit()
interrupted("training", lambda: classifier(100_000).fit(data))
report["after training"] = fit()
interrupted("packing", lambda: train(Network([1, 2]), rows.map(slow), epochs=1))
report["after packing"] = fit()
report["jobs"] = list(spark.sparkContext.statusTracker().getActiveJobsIds())
report["files"] = block_files(local_dir)
print(json.dumps(report), flush=True)
spark.stop()
