"""Train a logistic regression.

    spark-submit jobs/train_logistic.py --input s3a://bucket/train.parquet --output s3a://bucket/model

`--help` lists the options.
"""

from sparknn.cli.session import run_job
from sparknn.cli.train import train_logistic

if __name__ == "__main__":
    run_job(train_logistic)
