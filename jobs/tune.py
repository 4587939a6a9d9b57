"""Search the settings of a model by cross-validation, and save the best model.

    spark-submit jobs/tune.py logistic --input digits.csv --grid reg-param=0,0.01,0.1 --output model

`logistic --help` and `mlp --help` list the options.
"""

from sparknn.cli.session import run_job
from sparknn.cli.tune import tune

if __name__ == "__main__":
    run_job(tune)
