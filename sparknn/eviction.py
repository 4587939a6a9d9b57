"""Descriptors dropped on purpose, so that Spark computes those partitions anew from lineage."""

from __future__ import annotations

import time

from py4j.protocol import Py4JError
from pyspark import RDD

__all__ = ["evict"]

EVICTION_SECONDS = 5
"""How long to wait until the executors have dropped descriptors."""


def evict(rdd: RDD, partitions: list[int]) -> None:
    """Drop cached partitions of an RDD; Spark computes them again when they are next asked for.

    Spark has no call for less than a whole RDD, so the block manager is reached through the JVM,
    by reflection, because py4j cannot load all the classes that SparkEnv's methods name.
    """
    jvm, environment = rdd.ctx._jvm, rdd.ctx._jsc.sc().env()
    try:
        field = jvm.java.lang.Class.forName("org.apache.spark.SparkEnv").getDeclaredField(
            "blockManager"
        )
        field.setAccessible(True)
        master = field.get(environment).master()
        names = [jvm.org.apache.spark.storage.RDDBlockId(rdd.id(), p) for p in partitions]
        for name in names:
            master.removeBlock(name)
        # The executors are told, not asked: a task that came before would find the old descriptor.
        deadline = time.monotonic() + EVICTION_SECONDS
        while any(master.getLocations(n).size() for n in names) and time.monotonic() < deadline:
            time.sleep(0.01)
    except Py4JError:
        # This Spark is built otherwise: packing everything again is slow, and right all the same.
        level = rdd.getStorageLevel()
        rdd.unpersist(blocking=True)
        rdd.persist(level)
