"""Cross-validation of several settings, fold by fold; finished folds survive their driver."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.ml import Estimator
from pyspark.ml.evaluation import (
    BinaryClassificationEvaluator,
    Evaluator,
    MulticlassClassificationEvaluator,
    RegressionEvaluator,
)
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparknn.cli.inputs import fold_of
from sparknn.cli.session import say
from sparknn.errors import CheckpointError, DivergenceError, InvalidDataError
from sparknn.persistence import path_on
from sparknn.schema import quoted

__all__ = [
    "BINARY_METRICS",
    "METRICS",
    "REGRESSION_METRICS",
    "FoldStore",
    "Folds",
    "Score",
    "Scores",
    "cross_validated",
    "larger_is_better",
    "score_models",
]

BINARY_METRICS = ("areaUnderROC", "areaUnderPR")
REGRESSION_METRICS = ("rmse", "mae", "r2")
CLASS_METRICS = ("accuracy", "f1", "weightedPrecision", "weightedRecall", "logLoss")
METRICS = (*CLASS_METRICS, *BINARY_METRICS, *REGRESSION_METRICS)
LOWER_IS_BETTER = ("logLoss", "rmse", "mae")

PLACE = "_sparknn_fold"


@dataclass(frozen=True)
class Score:
    """What a setting came to on a fold: its metric, or None and why it has none."""

    value: float | None
    failure: str | None = None


@dataclass(frozen=True)
class Scores:
    """What a setting came to on all folds."""

    folds: list[Score]

    @property
    def failure(self) -> str | None:
        """Why it has no mean, or None."""
        return next((score.failure for score in self.folds if score.failure), None)

    @property
    def values(self) -> list[float | None]:
        """The metric on each fold."""
        return [score.value for score in self.folds]

    @property
    def mean(self) -> float | None:
        """The mean over the folds; None where it failed on one."""
        return None if self.failure else float(np.mean(np.array(self.values, np.float64)))

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the folds, as CrossValidator's; None as `mean` is."""
        return None if self.failure else float(np.std(np.array(self.values, np.float64)))


class Folds:
    """Rows in `count` parts, each of which is held out once.

    Which part a row is in follows from its content and the seed alone; equal rows stay together.
    """

    def __init__(self, data: DataFrame, count: int, seed: int):
        """Raise InvalidDataError if a part has no rows."""
        self.count, self.names = count, data.columns
        self.data = data.withColumn(PLACE, fold_of(data, count, seed))
        columns = [F.col(quoted(name)) for name in self.names]
        mark = F.sum(F.pmod(F.xxhash64(*columns), F.lit(2**31)))
        sums = self.data.groupBy(PLACE).agg(F.count("*"), mark)
        found = {place: [rows, mark] for place, rows, mark in sums.collect()}
        if len(found) < count:
            raise InvalidDataError(
                f"--folds {count} leaves {count - len(found)} of them without rows: choose fewer, "
                "or bring more rows"
            )
        self.marks = [found[place] for place in range(count)]

    def __iter__(self) -> Iterator[tuple[DataFrame, DataFrame]]:
        """Yield, for each part, the rows of all others and those of this one."""
        held = F.col(PLACE)
        for place in range(self.count):
            sides = self.data.filter(held != place), self.data.filter(held == place)
            yield sides[0].drop(PLACE), sides[1].drop(PLACE)


def score_models(
    estimators: Sequence[Estimator],
    training: DataFrame,
    held: DataFrame,
    metric: str,
    seen: Callable[[], Any],
) -> list[Score]:
    """Fit each estimator on some rows, all packed once, and measure it on others.

    Parameters
    ----------
    estimators : sequence of Estimator
        All of one class.
    training, held : DataFrame
        After the preprocessing.
    metric : str
        One of METRICS.
    seen : callable
        Called after each estimator.
    """
    base = estimators[0]
    settings = [
        {base.getParam(param.name): value for param, value in each._paramMap.items()}
        for each in estimators
    ]
    evaluator = _evaluator(metric)
    scores = []
    held = held.persist(StorageLevel.DISK_ONLY)
    try:
        models = base.copy().fitMultiple(training, settings)
        for _ in settings:
            scores.append(_score(models, evaluator, held))
            seen()
    finally:
        held.unpersist()
    return scores


def _evaluator(metric: str) -> Evaluator:
    if metric in REGRESSION_METRICS:
        return RegressionEvaluator(metricName=metric)
    if metric in BINARY_METRICS:
        # By probabilities, as `evaluate` has it: of two raw values the second alone does not say
        # which row is likelier to be of its class.
        return BinaryClassificationEvaluator(rawPredictionCol="probability", metricName=metric)
    return MulticlassClassificationEvaluator(metricName=metric)


def _score(models: Iterator[tuple[int, Any]], evaluator: Evaluator, held: DataFrame) -> Score:
    try:
        _, model = next(models)
    except DivergenceError as error:
        return Score(None, str(error))
    columns = [
        F.col(quoted(model.getOrDefault(f"{name}Col"))).alias(name)
        for name in ("prediction", "probability")
        if model.hasParam(f"{name}Col")
    ]
    label = F.col(quoted(model.getLabelCol())).cast("double").alias("label")
    scored = model.transform(held).select(label, *columns)
    value = float(evaluator.evaluate(scored))
    if not math.isfinite(value):
        return Score(None, f"{evaluator.getOrDefault('metricName')} is {value} on a fold")
    return Score(value)


def larger_is_better(metric: str) -> bool:
    """Return whether the best setting has the largest metric, and not the smallest."""
    return metric not in LOWER_IS_BETTER


class FoldStore:
    """The scores of finished folds, in a directory on any Hadoop file system.

    Parameters
    ----------
    session : SparkSession
    directory : str
    search : dict
        JSON values, by the names that a message is to call them: what must be unchanged for
        scores to be taken over.
    """

    def __init__(self, session: SparkSession, directory: str, search: dict[str, Any]):
        self.session, self.directory = session, directory.rstrip("/")
        self.search = json.loads(json.dumps(search))

    def of_fold(self, number: int) -> str:
        """Return where the checkpoints of a fold's own fits are."""
        return f"{self.directory}/fold-{number}"

    def read(self, number: int) -> list[Score] | None:
        """Return a finished fold's scores, or None where it is not finished.

        Raises CheckpointError where they are of another search.
        """
        system, path = path_on(self.session, f"{self.of_fold(number)}.json")
        if not system.exists(path):
            return None
        try:
            stream = system.open(path)
            content = bytes(stream.readAllBytes())
            stream.close()
            found = json.loads(content)
        except (ValueError, Py4JJavaError):
            # The file system's own checksum may notice first.
            say(f"{path} was cut short: fold {number} is trained again")
            return None
        self._require_same(found["search"])
        return [Score(**score) for score in found["scores"]]

    def write(self, number: int, scores: list[Score]) -> None:
        """Keep a finished fold's scores."""
        content = {"search": self.search, "scores": [vars(score) for score in scores]}
        system, path = path_on(self.session, f"{self.of_fold(number)}.json")
        stream = system.create(path, True)
        stream.write(bytearray(json.dumps(content).encode()))
        stream.close()

    def clear(self, folds: int) -> None:
        """Forget all scores, because the search is complete."""
        for number in range(1, folds + 1):
            system, path = path_on(self.session, f"{self.of_fold(number)}.json")
            system.delete(path, False)

    def _require_same(self, found: dict[str, Any]) -> None:
        differ = [name for name, value in self.search.items() if found.get(name) != value]
        if differ:
            raise CheckpointError(
                f"{self.directory} holds the folds of another search: {', '.join(differ)} differ. "
                "Search with the same options and rows to go on, or choose another "
                "--checkpoint-dir, or delete this one to begin anew"
            )


def cross_validated(
    folds: Folds,
    score_fold: Callable[[DataFrame, DataFrame, int], list[Score]],
    store: FoldStore | None,
) -> list[Scores]:
    """Return each setting's scores on all folds.

    score_fold: from training rows, rows held out and the fold's number, from 1, to the scores.
    """
    columns = []
    for number, (training, held) in enumerate(folds, 1):
        began = time.perf_counter()
        scores = store.read(number) if store else None
        how = "kept from before" if scores else ""
        if scores is None:
            scores = score_fold(training, held, number)
            how = f"{time.perf_counter() - began:.1f} s"
            if store:
                store.write(number, scores)
        say(f"fold {number} of {folds.count}: {len(scores)} settings, {how}")
        columns.append(scores)
    return [Scores(list(row)) for row in zip(*columns, strict=True)]
