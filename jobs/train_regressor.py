"""Train a network that predicts a number.

    spark-submit jobs/train_regressor.py --input rents.csv --label rent --hidden 20 --output model

`--help` lists the options.
"""

from sparknn.cli.session import run_job
from sparknn.cli.train import train_regressor

if __name__ == "__main__":
    run_job(train_regressor)
