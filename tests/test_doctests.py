"""Spark's own doctests for the classes that ours stand in for, with ours in their place."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pyspark
import pyspark.ml.classification as mllib
import pytest
from pyspark.sql import SparkSession

import sparknn.classification as ours

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?:\.\.\.)?")
OPTIONS = doctest.ELLIPSIS


class Near(doctest.OutputChecker):
    """Takes numbers that are within 1 %, or, of raw scores, have the same sign."""

    def __init__(self, raw_scores_by_sign: bool):
        self.by_sign = raw_scores_by_sign

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        wanted, found = (
            [float(number.rstrip(".")) for number in NUMBER.findall(text)] for text in (want, got)
        )
        texts = (NUMBER.sub("#", text) for text in (want, got))
        if len(wanted) != len(found) or not super().check_output(*texts, optionflags):
            return False
        return all(self.near(*pair) for pair in zip(wanted, found, strict=True))

    def near(self, want: float, got: float) -> bool:
        if self.by_sign and abs(want) > 10 and want != round(want):
            return want * got > 0
        return got == pytest.approx(want, rel=0.01, abs=5e-3 if self.by_sign else 1e-3)


def examples(name: str, spark: SparkSession, folder: Path) -> doctest.DocTest:
    text = getattr(mllib, name).__doc__
    # The example's data set is where pyspark is, and not in the working directory.
    text = text.replace('"data/mllib', f'"{Path(pyspark.__file__).parent}/data/mllib')
    known = {**vars(mllib), **{each: getattr(ours, each) for each in ours.__all__}}
    known |= {"spark": spark, "sc": spark.sparkContext, "temp_path": str(folder)}
    return doctest.DocTestParser().get_doctest(text, known, name, None, 0)


def run(test: doctest.DocTest, by_sign: bool = False) -> doctest.TestResults:
    runner = doctest.DocTestRunner(Near(by_sign), optionflags=OPTIONS)
    return runner.run(test)


def test_logistic_regressions(spark: SparkSession, tmp_path: Path) -> None:
    result = run(examples("LogisticRegression", spark, tmp_path))
    assert result.failed == 0
    assert result.attempted > 40


def test_the_perceptrons(spark: SparkSession, tmp_path: Path) -> None:
    result = run(examples("MultilayerPerceptronClassifier", spark, tmp_path), by_sign=True)
    assert result.failed == 0
    assert result.attempted > 25


@pytest.mark.parametrize(
    ("want", "got", "passes"),
    [
        ("DenseVector([-1.080..., 0.5])", "DenseVector([-1.0850934, 0.5])", True),
        ("DenseVector([-1.080..., 0.5])", "DenseVector([-1.10, 0.5])", False),
        ("DenseVector([-16.208, 16.344])", "DenseVector([-36.2, 3.1])", True),
        ("DenseVector([-16.208, 16.344])", "DenseVector([36.2, 3.1])", False),
        ("Model: uid=..., numClasses=2", "Model: uid=Model_83d01, numClasses=2", True),
        ("Model: uid=..., numClasses=2", "Model: uid=Model_83d01, numClasses=3", False),
    ],
)
def test_the_checker_itself(want: str, got: str, passes: bool) -> None:
    near = Near(raw_scores_by_sign="16.2" in want)
    assert near.check_output(want + "\n", got + "\n", OPTIONS) is passes
