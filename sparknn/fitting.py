"""From an estimator to its model: pack the rows, train on the blocks, alone or several settings.

A grid of settings that want the same rows packs them once and trains in shared rounds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import reduce
from operator import mul
from typing import Any, NamedTuple

from pyspark.ml import Model
from pyspark.ml.base import _FitMultipleIterator
from pyspark.ml.param import Param, Params
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparknn.blocks import Blocks, pack
from sparknn.cluster import Cluster
from sparknn.errors import DivergenceError, InvalidDataError
from sparknn.packing import Source
from sparknn.params import HasTraining
from sparknn.persistence import Persistent
from sparknn.readers import Reader, reader_of
from sparknn.rows import Layout
from sparknn.schema import (
    column_type,
    feature_columns,
    feature_names,
    feature_shape,
    numeric_column,
    quoted,
)
from sparknn.training import Checkpoints, Fit, Fitted, HeldOut, description_of, train_fits

__all__ = [
    "Beginning",
    "Trainable",
    "Wanted",
    "packed",
    "packed_ahead",
    "split",
    "weight_column",
]

TOGETHER = 2**23
"""Parameters, over all settings, up to which fits share a round: what travels in one job."""


class Wanted(NamedTuple):
    """The rows that an estimator trains on; settings that want the same can share blocks.

    targets: names of target columns. classes: see `Layout.classes`. width: features, None where
    the data decides. precise: see `Source.precise`. class_weights: what rows of each class weigh,
    times their own weights. weighted: whether row weights count. dense: whether vectors are kept
    dense, however few values are set. partitions: how many are dealt out, None to have as many as
    the estimator says, and as they are where they serve so. bounds: see `Layout.bounds`.
    """

    targets: tuple[str, ...]
    classes: int | None
    width: int | None
    precise: bool
    class_weights: tuple[float, ...] = ()
    weighted: bool = True
    dense: bool = False
    partitions: int | None = None
    bounds: tuple[float, float] | None = None


class Beginning(NamedTuple):
    """A fit that can start, or None where nothing is left to train, and what its model will be."""

    fit: Fit | None
    finish: Callable[[Fitted | None], Any]


class Trainable(HasTraining, Persistent):
    """Gives an estimator `fit` and `fitMultiple`. A subclass says what it wants and begins.

    NAME: what the Spark UI and the progress bar call the model.
    """

    NAME = "model"

    @property
    def _compares(self) -> bool:
        """Whether partitions have to be alike."""
        return self._is_minibatch

    def _check(self) -> None:
        """Raise InvalidParamError for params that are out of range."""
        self._check_training()

    def _wanted(self) -> Wanted:
        """Return which rows to pack."""
        raise NotImplementedError

    def _held_wanted(self, wanted: Wanted, blocks: Blocks, dataset: DataFrame) -> Wanted:
        """Return which held-out rows go with `blocks`, the rows of `dataset` that train."""
        return wanted

    def _begin(self, blocks: Blocks, dataset: DataFrame) -> Beginning:
        """Return the fit for these rows."""
        raise NotImplementedError

    def _finished(self, model: Any, dataset: DataFrame, cluster: Cluster, packing: float) -> None:
        """Take notice of a model that is complete; `packing` are the seconds outside its rounds."""

    def _fit(self, dataset: DataFrame) -> Any:
        return _fit_together([self], dataset)[0]

    def fitMultiple(
        self, dataset: DataFrame, paramMaps: Sequence[dict[Param, Any]]
    ) -> Iterator[tuple[int, Model]]:
        """Fit a model for each of some settings; the iterator may be used by several threads.

        Settings that want the same rows are packed once and trained in shared rounds, with the
        bits of separate fits. Returns an iterator of (index into `paramMaps`, model), which raises
        DivergenceError in the place of a model that diverged, and can go on to the next.
        """
        estimators = [self.copy(each) for each in paramMaps]
        for estimator in estimators:
            estimator._check()
        groups: dict[tuple, _Group] = {}
        for index, estimator in enumerate(estimators):
            group = groups.setdefault(_kin(estimator), _Group(dataset))
            group.members[index] = estimator
        if len(groups) > 1:
            # What is trained one after another must not take the other's checkpoints for its own.
            for number, group in enumerate(groups.values()):
                group.part = f"/group-{number}"
        members = {index: group for group in groups.values() for index in group.members}
        return _FitMultipleIterator(lambda index: members[index].model(index), len(estimators))


class _Group:
    """Settings that are fitted together, when the first of their models is asked for."""

    def __init__(self, dataset: DataFrame):
        self.dataset = dataset
        self.part = ""
        self.members: dict[int, Any] = {}
        self.models: dict[int, Any] | None = None
        self.error: Exception | None = None
        self.lock = threading.Lock()

    def model(self, index: int) -> Any:
        with self.lock:
            if self.error is not None:
                raise self.error
            if self.models is None:
                try:
                    models = _fit_together(list(self.members.values()), self.dataset, self.part)
                except Exception as error:
                    self.error = error
                    raise
                self.models = dict(zip(self.members, models, strict=True))
            model = self.models[index]
        if isinstance(model, DivergenceError):
            raise model
        return model


def _kin(estimator: Any) -> tuple:
    """Return what must be equal for two settings to share blocks and rounds."""
    return (
        estimator._wanted(),
        estimator.getFeaturesCol(),
        weight_column(estimator),
        estimator._is_minibatch,
        *(
            estimator.getOrDefault(name) if estimator.isDefined(name) else None
            for name in (
                "seed",
                "numPartitions",
                "handleInvalid",
                "deterministic",
                "validationIndicatorCol",
                "patience",
                "checkpointDir",
                "checkpointInterval",
            )
        ),
    )


def _fit_together(estimators: Sequence[Any], dataset: DataFrame, part: str = "") -> list[Any]:
    """Fit estimators that are kin; return their models, or why one of several has none.

    part: where in `checkpointDir` their checkpoints are.
    """
    for estimator in estimators:
        estimator._check()
    cluster = Cluster(dataset.sparkSession)
    return cluster.run(lambda: _trained(cluster, estimators, dataset, part))


def _trained(
    cluster: Cluster, estimators: Sequence[Any], dataset: DataFrame, part: str
) -> list[Any]:
    began, first = time.perf_counter(), estimators[0]
    with ExitStack() as stack:
        rows, held = split(first, dataset)
        blocks = stack.enter_context(packed(first, cluster, rows, first._wanted()))
        others = None
        if held is not None:
            wanted = first._held_wanted(first._wanted(), blocks, rows)
            wanted = wanted._replace(width=blocks.features)
            others = stack.enter_context(packed(first, cluster, held, wanted, blocks))
        begun = [estimator._begin(blocks, dataset) for estimator in estimators]
        packing = time.perf_counter() - began
        watched = None if others is None else HeldOut(others, first.getPatience(), blocks)
        trained = iter(_train(cluster, estimators, begun, blocks, watched, part))
    models: list[Any] = []
    for estimator, (fit, finish) in zip(estimators, begun, strict=True):
        model = finish(None if fit is None else next(trained))
        if fit is not None and fit.failure:
            models.append(fit.failure)
            continue
        estimator._copyValues(model._resetUid(estimator.uid))
        estimator._finished(model, rows, cluster, packing)
        models.append(model)
    return models


def _train(
    cluster: Cluster,
    estimators: Sequence[Any],
    begun: Sequence[Beginning],
    blocks: Blocks,
    held_out: HeldOut | None,
    part: str,
) -> list[Fitted]:
    """Train the fits that have something left to train; return theirs, in order."""
    first, results = estimators[0], []
    portions = list(_portions([each.fit for each in begun]))
    for portion in portions:
        # What is trained one after another must not take the other's checkpoints for its own.
        place = f"{part}/settings-from-{portion[0]}" if len(portions) > 1 else part
        results += train_fits(
            blocks,
            [fit for index in portion if (fit := begun[index].fit) is not None],
            first.NAME,
            first.getDeterministic(),
            held_out,
            _checkpoints(cluster, [estimators[index] for index in portion], blocks, place),
        )
    return results


def _portions(fits: Sequence[Fit | None]) -> Iterator[list[int]]:
    """Cut fits into runs, by their indices, that are small enough to share rounds."""
    portion: list[int] = []
    size = 0
    for index, fit in enumerate(fits):
        if fit is None:
            continue
        if portion and size + fit.objective.size > TOGETHER:
            yield portion
            portion, size = [], 0
        portion.append(index)
        size += fit.objective.size
    if portion:
        yield portion


def split(estimator: Any, dataset: DataFrame) -> tuple[DataFrame, DataFrame | None]:
    """Return the rows to train on and those held out by `validationIndicatorCol`, if any."""
    if not estimator.isDefined("validationIndicatorCol"):
        return dataset, None
    name = estimator.getValidationIndicatorCol()
    kind = column_type(dataset, name).simpleString()
    if kind != "boolean":
        raise InvalidDataError(
            f"column {name!r} is {kind}; validationIndicatorCol is true where a row is held out "
            "and false where it trains"
        )
    held = F.col(quoted(name))
    if not dataset.filter(held.isNull()).isEmpty():
        raise InvalidDataError(f"column {name!r} is null in some rows; say true or false")
    return dataset.filter(~held), dataset.filter(held)


def packed(
    estimator: Any,
    cluster: Cluster,
    dataset: DataFrame,
    wanted: Wanted,
    like: Blocks | None = None,
) -> Blocks:
    """Pack features, targets and weights into resident blocks, held-out ones like the others."""
    features = estimator.getFeaturesCol()
    weight = weight_column(estimator) if wanted.weighted else None
    reader = None
    if not wanted.class_weights:
        reader = reader_of(dataset, features, wanted.targets, weight)
    if reader is not None and like is None:
        ready = _ready(estimator, cluster, reader, wanted)
        if ready is not None:
            return ready
    columns, single = feature_columns(dataset, features)
    columns += [numeric_column(dataset, name) for name in wanted.targets]
    weights = [numeric_column(dataset, weight)] if weight else []
    if wanted.class_weights:
        weight = weight or "classWeights"
        weights.append(_class_weight(columns[-1], wanted.class_weights))
    if weights:
        columns.append(reduce(mul, weights))
    shape = reader.shape if reader else feature_shape(dataset, features)
    width, standard = shape[:2] if wanted.width is None else (wanted.width, Layout.standard)
    layout = Layout(
        features,
        single,
        wanted.targets,
        wanted.classes,
        weight,
        width,
        standard,
        estimator.getHandleInvalid() == "skip",
        feature_names(dataset, features),
        shape.sparse and not wanted.dense,
        shape.row_bytes,
        bounds=wanted.bounds,
    )
    compare = estimator._compares and like is None
    deal = wanted.partitions is not None and like is None
    source = Source(layout, compare, wanted.precise, estimator.getSeed(), deal)
    partitions = wanted.partitions or estimator._partitions
    if like is not None:
        partitions = len(like.packed)
    return pack(cluster, reader or dataset, source, partitions, columns)


def packed_ahead(estimator: Any, cluster: Cluster, reader: Reader, wanted: Wanted) -> Blocks:
    """Pack a reader's rows for the fit of this estimator that follows on its frame.

    So what the blocks hold can be looked at before. How many features and classes the estimator
    wants may be found out by that: of `wanted`, it does not count here.
    """
    layout = Layout(
        reader.features,
        0,
        wanted.targets,
        None if wanted.classes is None else 0,
        width=reader.shape.width,
        standard=reader.shape.standard,
        skip=estimator.getHandleInvalid() == "skip",
        bounds=wanted.bounds,
    )
    deal = wanted.partitions is not None
    source = Source(layout, estimator._compares, wanted.precise, estimator.getSeed(), deal)
    blocks = pack(cluster, reader, source, wanted.partitions or estimator._partitions)
    reader.ready[_purpose(estimator, wanted)] = blocks
    return blocks


def _ready(estimator: Any, cluster: Cluster, reader: Reader, wanted: Wanted) -> Blocks | None:
    """Return the blocks that were packed ahead for this fit, if they are as it wants them."""
    blocks = reader.ready.pop(_purpose(estimator, wanted), None)
    if blocks is None:
        return None
    few = not wanted.classes or len(blocks.histogram) <= wanted.classes
    if not few or wanted.width not in (None, blocks.features):
        blocks.close()
        return None
    blocks.cluster = cluster
    return blocks


def _purpose(estimator: Any, wanted: Wanted) -> tuple:
    """Return what blocks go by, apart from how many features and classes there are to be."""
    classes = None if wanted.classes is None else 0
    return (
        wanted._replace(classes=classes, width=None),
        estimator._compares,
        estimator._partitions,
        estimator.getSeed(),
        estimator.getHandleInvalid(),
    )


def _class_weight(label: Column, weights: Sequence[float]) -> Column:
    """Return the weight of a row's class; what is no class is left for packing to complain of."""
    chosen = F.lit(1.0)
    for number, weight in enumerate(weights):
        chosen = F.when(label == number, F.lit(float(weight))).otherwise(chosen)
    return chosen


def _checkpoints(
    cluster: Cluster, estimators: Sequence[Any], blocks: Blocks, part: str
) -> Checkpoints | None:
    first = estimators[0]
    if not first.isDefined("checkpointDir") or first.getCheckpointInterval() < 1:
        return None
    settings = [estimator._settings() for estimator in estimators]
    if len(settings) == 1:
        described = settings[0]
    else:
        described = {
            f"{name} of setting {number}": value
            for number, each in enumerate(settings)
            for name, value in each.items()
        }
    return Checkpoints(
        cluster,
        first.getCheckpointDir() + part,
        first.getCheckpointInterval(),
        {**described, **description_of(blocks)},
    )


def weight_column(instance: Params) -> str | None:
    """Return the name of the column of row weights, or None."""
    if not instance.hasParam("weightCol") or not instance.isSet("weightCol"):
        return None
    return instance.getOrDefault("weightCol") or None
