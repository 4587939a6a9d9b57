"""Train a restricted Boltzmann machine.

    spark-submit jobs/train_rbm.py --input digits.csv --label label --scale minmax --output model

`--help` lists the options.
"""

from sparknn.cli.session import run_job
from sparknn.cli.train_rbm import train_rbm

if __name__ == "__main__":
    run_job(train_rbm)
