"""Fits twice, the second time with an executor killed: killed_executor.py KIND NPZ DIR.

KIND is a perceptron's solver, or dbn: then the blocks of the layer that trains were made of others,
and the chains that go on from round to round are the driver's to keep.
"""

import json
import os
import signal
import sys
import threading

import numpy as np
from application import application, block_files, digits, executors, fingerprint

from sparknn.classification import MultilayerPerceptronClassifier
from sparknn.feature import DBN
from sparknn.rounds import Rounds

kind, arrays, local_dir = sys.argv[1:]
report = {}
rounds, run = [], Rounds.run


def run_and_kill(self, parameters, task, description):
    """Run a round; in the fourth of the perceptron or the last layer, an executor of two dies."""
    if ("layer 2 of 2" if kind == "dbn" else "perceptron") in description:
        rounds.append(description)
        if len(rounds) == 4:
            report["before"], report["files before"] = executors(), block_files(local_dir)
            threading.Timer(0.01, os.kill, (report["before"][0], signal.SIGKILL)).start()
    return run(self, parameters, task, description)


def weights(data) -> str:
    if kind == "dbn":
        settings = {"maxIter": 2, "blockSize": 16, "persistent": True, "numPartitions": 4}
        model = DBN(layers=[64, 30, 20], **settings).fit(data)
        return fingerprint(
            np.concatenate([each.weights.toArray().ravel() for each in model.machines])
        )
    classifier = MultilayerPerceptronClassifier(
        layers=[64, 30, 10], solver=kind, maxIter=8, blockSize=16, tol=0.0, numPartitions=4
    )
    return fingerprint(classifier.fit(data).weights.toArray())


with application("local-cluster[2,1,1024]", local_dir) as spark:
    data = digits(spark, arrays, by_label=True)
    report["undisturbed"] = weights(data)
    Rounds.run = run_and_kill
    report["disturbed"] = weights(data)
    report["after"], report["files after"] = executors(), block_files(local_dir)
    print(json.dumps(report))
