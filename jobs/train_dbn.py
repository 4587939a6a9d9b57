"""Train a deep belief network.

    spark-submit jobs/train_dbn.py --input digits.csv --hidden 200,200 --scale minmax --output model

`--help` lists the options.
"""

from sparknn.cli.session import run_job
from sparknn.cli.train import train_dbn

if __name__ == "__main__":
    run_job(train_dbn)
