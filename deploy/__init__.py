"""Spark clusters on EC2 with data on S3: `python -m deploy --help`."""
