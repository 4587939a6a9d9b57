"""Writes the archive of classes with which the JVMs of the tests start.

Most of the life of a short job goes into the JVM's loading some thousand classes of Spark's. With
an archive of them, a job of the tests took 22 s on two cores, where it took 33 s.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jvm


def use_spark(session, directory: Path) -> None:
    """Load what most tests load: reading, encoding, training, saving, scoring."""
    from pyspark.ml.classification import LogisticRegression

    from sparknn.cli.score import predict
    from sparknn.cli.train import train_logistic

    rows, model = directory / "rows.csv", directory / "model"
    lines = (f"{row},{row % 7},{'yes' if row % 3 else 'no'}" for row in range(200))
    rows.write_text("\n".join(["first,second,label", *lines, ""]))
    options = ["--input", str(rows), "--scale", "standard", "--output", str(model)]
    train_logistic.main([*options, "--max-iter", "3"], standalone_mode=False)
    scored = ["--model", str(model), "--input", str(rows), "--output", str(directory / "scored")]
    predict.main(scored, standalone_mode=False)
    data = session.read.load(str(directory / "scored"))
    data = data.selectExpr("rawPrediction as features", "cast(first > 100 as double) as label")
    LogisticRegression(maxIter=2).fit(data).transform(data).toPandas()


def main() -> None:
    """Write the archive unless it is there."""
    if jvm.ARCHIVE.exists():
        return
    print("run: archiving Spark's classes, so that the tests start sooner", file=sys.stderr)
    made = jvm.ARCHIVE.with_name(f"{jvm.ARCHIVE.name}.{os.getpid()}")
    os.environ["SPARK_SUBMIT_OPTS"] = f"{jvm.QUICK} -XX:ArchiveClassesAtExit={made}"

    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    with tempfile.TemporaryDirectory() as directory:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
        session = SparkSession.builder.master("local[2]").config(map=quiet).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        use_spark(session, Path(directory))
        session.stop()
        # The JVM writes the archive when it ends, which it does when its input does.
        java = SparkContext._gateway.proc
        java.stdin.close()
        java.wait()
    made.rename(jvm.ARCHIVE)


if __name__ == "__main__":
    main()
