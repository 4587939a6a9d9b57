"""Pre-training, then fine-tuning: what all estimators that begin as deep belief networks share."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import reduce
from typing import Any

from pyspark.ml import Estimator, Model
from pyspark.ml.param import Param
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.blocks import SMALL_PARTITION, Blocks
from sparknn.boltzmann import Stack
from sparknn.cluster import Cluster
from sparknn.errors import InvalidDataError
from sparknn.feature.layers import HasLayerTraining
from sparknn.feature.pretraining import Stages, pretrained, stack_of
from sparknn.feature.rbm import RBMModel
from sparknn.fitting import Beginning, Wanted, packed, split, weight_column
from sparknn.network import Network
from sparknn.schema import column_type, quoted

__all__ = ["FineTuned"]


class FineTuned(HasLayerTraining):
    """An estimator that trains a deep belief network, and then a network that begins as it.

    A subclass is also a `Trainable`, whose training is the fine-tuning.
    """

    PREFIX = "pretrain"
    _compares = True

    def _begin_from(self, stack: Stack, blocks: Blocks, dataset: DataFrame) -> Beginning:
        """Return the fit that goes on from a stack, on the rows to fine-tune with."""
        raise NotImplementedError

    def _complete(self, model: Any, network: Network) -> None:
        """Make the model's params those of the network: with the output layer."""
        model._set(layers=network.layers)

    def _fit(self, dataset: DataFrame) -> Any:
        self._check()
        cluster = Cluster(dataset.sparkSession)
        return cluster.run(lambda: _Fine(self, cluster, dataset).trained())

    def fitMultiple(
        self, dataset: DataFrame, paramMaps: Sequence[dict[Param, Any]]
    ) -> Iterator[tuple[int, Model]]:
        """Fit a model for each of some settings, one after the other."""
        return Estimator.fitMultiple(self, dataset, paramMaps)


class _Fine:
    """One fit: which rows take part in what."""

    def __init__(self, estimator: Any, cluster: Cluster, dataset: DataFrame):
        self.estimator, self.cluster = estimator, cluster
        self.rows, self.held = split(estimator, dataset)
        self.stages = Stages(cluster, estimator)

    def trained(self) -> Any:
        """Train and return the model."""
        began, estimator = time.perf_counter(), self.estimator
        wanted, everything = estimator._wanted(), (self.rows, self.held)
        labels = self._labelled(wanted.targets)
        with ExitStack() as stack:
            if labels is not None:
                wanted = self._only_labelled(wanted, labels)
            # Before the pre-training, which would be in vain where labels are wrong.
            blocks, held = self._packed(stack, self.rows, self.held, wanted)
            # Row weights are those of labels; machines learn from each row alike.
            if labels is None and not weight_column(estimator):
                machines = pretrained(estimator, self.stages, blocks, held, self.rows)
            else:
                machines = self._pretrained_apart(*everything)
            begun = estimator._begin_from(stack_of(machines), blocks, self.rows)
            assert begun.fit is not None
            fitted = self.stages.train(blocks, begun.fit, estimator.NAME, "fine-tuning", held)
        self.stages.complete()
        model = estimator._copyValues(begun.finish(fitted)._resetUid(estimator.uid))
        estimator._complete(model, begun.fit.objective)
        model.pretraining = [machine.summary for machine in machines]
        packing = time.perf_counter() - began - fitted.seconds
        estimator._finished(model, self.rows, self.cluster, packing)
        return model

    def _pretrained_apart(self, rows: DataFrame, held: DataFrame | None) -> list[RBMModel]:
        """Pre-train on rows that are packed for that alone, without labels and weights."""
        wanted = self.estimator._wanted()
        wanted = wanted._replace(targets=(), classes=None, weighted=False)
        with ExitStack() as stack:
            blocks, others = self._packed(stack, rows, held, wanted)
            return pretrained(self.estimator, self.stages, blocks, others, rows)

    def _packed(
        self, stack: ExitStack, rows: DataFrame, held: DataFrame | None, wanted: Wanted
    ) -> tuple[Blocks, Blocks | None]:
        """Pack rows, and those held out, if any, to be closed with `stack`."""
        blocks = stack.enter_context(packed(self.estimator, self.cluster, rows, wanted))
        if held is None:
            return blocks, None
        wanted = self.estimator._held_wanted(wanted, blocks, rows)
        others = packed(self.estimator, self.cluster, held, wanted, blocks)
        return blocks, stack.enter_context(others)

    def _labelled(self, targets: Sequence[str]) -> int | None:
        """Return how many rows have a label; None where all do."""
        fields = {field.name: field for field in self.rows.schema.fields}
        for name in targets:
            column_type(self.rows, name)
        if not all(fields[name].nullable for name in targets) or not targets:
            return None
        labelled = _has_label(targets)
        with self.cluster.described("sparknn: counting rows with a label"):
            counts = self.rows.agg(F.count_if(labelled), F.count_if(~labelled)).first()
        found, missing = counts or (0, 0)
        if missing and not found:
            raise InvalidDataError(
                f"column {', '.join(targets)!r} is null in all {missing} rows: a label is needed "
                "to fine-tune with (without any: sparknn.feature.DBN)"
            )
        return found if missing else None

    def _only_labelled(self, wanted: Wanted, count: int) -> Wanted:
        """Leave out rows without a label, and have the others dealt out evenly.

        A partition may have had none of them, and as a rule there are few.
        """
        labelled = _has_label(wanted.targets)
        self.rows = self.rows.filter(labelled)
        self.held = None if self.held is None else self.held.filter(labelled)
        most = self.estimator._partitions
        if most is None:
            most = min(self.cluster.cores, math.ceil(count / SMALL_PARTITION))
        return wanted._replace(partitions=most)


def _has_label(targets: Sequence[str]):
    """Return whether a row has a label: one that is not null. NaN is one, and an error."""
    return reduce(lambda one, other: one | other, [F.col(quoted(t)).isNotNull() for t in targets])
