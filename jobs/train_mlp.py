"""Train a multilayer perceptron.

    spark-submit jobs/train_mlp.py --input digits.csv --hidden 128 --scale minmax --output model

`--help` lists the options.
"""

from sparknn.cli.session import run_job
from sparknn.cli.train import train_mlp

if __name__ == "__main__":
    run_job(train_mlp)
