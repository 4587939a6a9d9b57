"""Cluster rows by k-means.

    spark-submit jobs/kmeans.py --input digits.csv --label label --k 5,10,20 --output clusters

`--help` lists the options.
"""

from sparknn.cli.kmeans import kmeans
from sparknn.cli.session import run_job

if __name__ == "__main__":
    run_job(kmeans)
