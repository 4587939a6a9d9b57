"""Fits twice, the second time with an executor killed: killed_executor.py SOLVER NPZ DIR."""

import json
import os
import signal
import sys
import threading

from application import block_files, digits, executors, fingerprint, session

from sparknn.classification import MultilayerPerceptronClassifier
from sparknn.rounds import Rounds

solver, arrays, local_dir = sys.argv[1:]
spark = session("local-cluster[2,1,1024]", local_dir)
data = digits(spark, arrays, by_label=True).cache()
classifier = MultilayerPerceptronClassifier(
    layers=[64, 30, 10], solver=solver, maxIter=8, blockSize=16, tol=0.0, numPartitions=4
)
killed = []


def kill_in_the_fourth_round(self, *arguments):
    """Run a round; the fourth loses one of its two executors."""
    rounds.append(self)
    if len(rounds) == 4:
        victim = executors()[0]
        killed.append(victim)
        threading.Timer(0.01, os.kill, (victim, signal.SIGKILL)).start()
    return run(self, *arguments)


undisturbed = classifier.fit(data).weights.toArray()
rounds, run = [], Rounds.run
Rounds.run = kill_in_the_fourth_round
disturbed = classifier.fit(data).weights.toArray()
print(
    json.dumps(
        {
            "undisturbed": fingerprint(undisturbed),
            "disturbed": fingerprint(disturbed),
            "killed": killed,
            "alive": executors(),
            "rounds": len(rounds),
            "files": block_files(local_dir),
        }
    )
)
spark.stop()
