"""Counting the Spark jobs that a test starts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession


@contextmanager
def job_group(spark: SparkSession) -> Iterator[Callable[[], list[int]]]:
    """Put the jobs started inside into a group; gives a function that lists them so far."""
    context, group = spark.sparkContext, f"test-{uuid.uuid4()}"
    names = ("spark.jobGroup.id", "spark.job.description", "spark.job.interruptOnCancel")
    before = {name: context.getLocalProperty(name) for name in names}
    context.setJobGroup(group, "")
    try:
        yield lambda: context.statusTracker().getJobIdsForGroup(group)
    finally:
        # All that setJobGroup sets: what stays would be seen by every later test of this session.
        for name, value in before.items():
            context.setLocalProperty(name, value)
