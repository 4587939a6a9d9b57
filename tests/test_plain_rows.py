"""Text of numbers alone, read straight into blocks: what the ordinary way would have made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import Estimator
from pyspark.sql import SparkSession

from sparknn.classification import LogisticRegression, MultilayerPerceptronClassifier
from sparknn.cli.encoding import Recipe
from sparknn.cli.inputs import Reading
from sparknn.cli.plain_rows import plain_rows
from sparknn.cli.train import prepared, suited
from sparknn.cli.training_rows import Job, Rows, valid_rows
from sparknn.cluster import Cluster
from sparknn.fitting import packed


def job_on(path: Path, recipe: Recipe | None = None, **options) -> Job:
    chosen = {"features": None, "validation": 0.0, "test": None, "scale": "none", "label": "label"}
    chosen |= {name: options.pop(name) for name in list(options) if name in chosen}
    return Job(
        path=str(path), output=None, overwrite=False, explain=False, **chosen,
        reading=Reading(**options), recipe=recipe or Recipe(),
    )  # fmt: skip


def perceptron() -> Estimator:
    return MultilayerPerceptronClassifier(layers=[1, 3, 2], solver="sgd")


def blocks_of(
    session: SparkSession, rows: Rows, job: Job, estimator: Estimator, hidden: list[int] | None
) -> list[tuple[int, bytes, list]]:
    """Each block's rows, bytes, and what is added up of them."""
    _, features, data = prepared(rows, rows.training, job)
    suited(estimator, hidden, rows, job, data, features)
    with packed(estimator, Cluster(session), data, estimator._wanted()) as blocks:
        return [
            (item.block.rows, Path(item.block.path).read_bytes(), [
                [s.weight, s.seen, s.sums.tobytes(), s.squares.tobytes(), s.histogram.tolist()]
                for s in item.summaries])
            for item in blocks.packed
        ]  # fmt: skip


def table(rows: int, cell, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    lines = [",".join([*(cell(random) for _ in range(5)), str(i % 3)]) for i in range(rows)]
    return "\n".join(["a,b,c,d,e,label", *lines, ""])


CELLS = {
    "grey": lambda random: str(random.integers(0, 256)),
    "signed": lambda random: f"{random.normal(-3):.3f}",
    "long": lambda random: repr(float(random.normal() * 10.0 ** random.integers(-9, 9))),
    "level": lambda random: f"{1.5e9 + random.integers(0, 1000)}",
}


@pytest.mark.parametrize("cells", CELLS)
def test_blocks_are_those_of_the_ordinary_way_bit_for_bit(spark, tmp_path: Path, cells) -> None:
    (tmp_path / "1.csv").write_text(table(2000, CELLS[cells]))
    (tmp_path / "2.csv").write_bytes(b"\xef\xbb\xbf" + table(900, CELLS[cells], 1).encode())
    job, hidden = job_on(tmp_path), [3]
    estimator = perceptron()
    if cells == "level":
        # It keeps precision by an offset, and adds up moments.
        estimator, hidden = LogisticRegression(), None
    plain = plain_rows(spark, job, estimator, None)
    ordinary = valid_rows(spark, job, estimator, None)
    assert plain is not None
    assert plain.rules == ordinary.rules
    assert plain.counts == ordinary.counts
    assert plain.training.columns == ordinary.training.columns
    assert sorted(plain.training.collect()) == sorted(ordinary.training.collect())
    found = [blocks_of(spark, rows, job, estimator, hidden) for rows in (plain, ordinary)]
    assert found[0] == found[1]
