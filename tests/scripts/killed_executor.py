"""Fits twice, the second time with an executor killed: killed_executor.py SOLVER NPZ DIR."""

import json
import os
import signal
import sys
import threading

from application import application, block_files, digits, executors, fingerprint

from sparknn.classification import MultilayerPerceptronClassifier
from sparknn.rounds import Rounds

solver, arrays, local_dir = sys.argv[1:]
report = {}
rounds, run = [], Rounds.run


def run_and_kill(self, *arguments):
    """Run a round; in the fourth, one of the two executors dies."""
    rounds.append(self)
    if len(rounds) == 4:
        report["before"], report["files before"] = executors(), block_files(local_dir)
        threading.Timer(0.01, os.kill, (report["before"][0], signal.SIGKILL)).start()
    return run(self, *arguments)


def weights(data) -> str:
    classifier = MultilayerPerceptronClassifier(
        layers=[64, 30, 10], solver=solver, maxIter=8, blockSize=16, tol=0.0, numPartitions=4
    )
    return fingerprint(classifier.fit(data).weights.toArray())


with application("local-cluster[2,1,1024]", local_dir) as spark:
    data = digits(spark, arrays, by_label=True)
    report["undisturbed"] = weights(data)
    Rounds.run = run_and_kill
    report["disturbed"] = weights(data)
    report["after"], report["files after"] = executors(), block_files(local_dir)
    print(json.dumps(report))
