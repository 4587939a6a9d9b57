"""Add a saved model's predictions to rows.

    spark-submit jobs/predict.py --model model --input new.csv --output scored

`--help` lists the options.
"""

from sparknn.cli.score import predict
from sparknn.cli.session import run_job

if __name__ == "__main__":
    run_job(predict)
