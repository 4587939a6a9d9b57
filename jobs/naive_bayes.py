"""Compare naive Bayes with logistic regression on the same split.

    spark-submit jobs/naive_bayes.py --input digits.csv --validation 0.2 --output model

`--help` lists the options.
"""

from sparknn.cli.naive_bayes import naive_bayes
from sparknn.cli.session import run_job

if __name__ == "__main__":
    run_job(naive_bayes)
