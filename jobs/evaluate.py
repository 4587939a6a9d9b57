"""Measure a saved model on labelled rows.

    spark-submit jobs/evaluate.py --model model --input test.csv

`--help` lists the options.
"""

from sparknn.cli.score import evaluate
from sparknn.cli.session import run_job

if __name__ == "__main__":
    run_job(evaluate)
