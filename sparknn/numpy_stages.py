"""The stages of a saved pipeline before its classifier, carried out by NumPy.

What MLlib's VectorAssembler, StandardScaler and MinMaxScaler do is done operation by operation as
in the JVM, so that the classifier sees the very same numbers. Anything else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparknn.errors import IncompleteError, InvalidDataError, UnsupportedModelError
from sparknn.saved import Saved, incomplete, unquoted

__all__ = ["preprocessing", "stages_of"]

Step = Callable[[np.ndarray], np.ndarray]
"""From (rows, columns) float64 to the same shape."""

FEATURE = "org.apache.spark.ml.feature."

KEEPER = "sparknn.cli.saved_columns.InputColumns"
"""The jobs' own first stage, which changes types alone."""


@dataclass(frozen=True)
class Scaling:
    """(x - shift) * factor + offset, each (columns,)."""

    shift: np.ndarray
    factor: np.ndarray
    offset: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.shift) * self.factor + self.offset


@dataclass(frozen=True)
class NoNaN:
    """Refuses NaN, as VectorAssembler does by default."""

    columns: list[str]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        found = np.isnan(rows).any(axis=0)
        if found.any():
            index = int(found.argmax())
            single = len(self.columns) == rows.shape[1]
            name = repr(self.columns[index]) if single else f"{index}, counted from 0,"
            raise InvalidDataError(f"column {name} holds NaN: leave such rows out, or fill them")
        return rows


def stages_of(pipeline: Saved) -> list[Saved]:
    """Return a saved pipeline's stages, in order."""
    stages = pipeline.folder / "stages"
    # Spark numbers the directories: 0_<uid>, or 00_<uid> where there are more than ten.
    places = {name.partition("_")[2]: stages / name for name in stages.names()}
    uids = pipeline.params["stageUids"]
    missing = [uid for uid in uids if uid not in places]
    if missing:
        if (copy := pipeline.folder.complete_copy()) is not None:
            raise incomplete(pipeline.folder, copy)
        raise IncompleteError(f"{pipeline} lacks its stage {missing[0]}: save it again")
    return [Saved(places[uid]) for uid in uids]


def preprocessing(
    stages: Sequence[Saved], features: str
) -> tuple[list[Step], tuple[str, ...] | None]:
    """Return what leads to the column `features`, and the columns of which that is assembled.

    stages: those before the classifier; ones that add other columns (a label's number) are left
    out. The columns are None where the first step takes a vector.

    Raises UnsupportedModelError for a stage that matters and cannot be carried out.
    """
    steps: list[Step] = []
    wanted, columns = [features], None
    for stage in reversed(stages):
        made = _outputs(stage)
        if not set(wanted) & made:
            continue
        if len(wanted) > 1:
            raise UnsupportedModelError(f"{stage} makes only some of the columns {wanted}")
        steps[:0], wanted = _step(stage)
        columns = tuple(wanted) if stage.kind == ASSEMBLER else None
    return steps, columns


def _outputs(stage: Saved) -> set[str]:
    """Return the columns that a stage adds."""
    if stage.kind == KEEPER:
        return set()
    names = [stage.params.get("outputCol"), *stage.params.get("outputCols", [])]
    made = {name for name in names if name}
    if not made:
        raise UnsupportedModelError(f"{stage} may change any column, and cannot be carried out")
    return made


def _step(stage: Saved) -> tuple[list[Step], list[str]]:
    """Return what a stage does, and the columns that it takes."""
    if stage.kind == ASSEMBLER:
        return _assembling(stage), _assembled(stage)
    if stage.kind not in SCALERS:
        raise UnsupportedModelError(
            f"{stage} makes the model's features, and cannot be carried out without Spark; only "
            "VectorAssembler, StandardScaler and MinMaxScaler can"
        )
    rows = stage.folder.table().to_pylist()
    vectors = {name: _vector(value) for name, value in rows[0].items()}
    return [SCALERS[stage.kind](stage.params, vectors)], [unquoted(stage.params["inputCol"])]


def _assembled(stage: Saved) -> list[str]:
    return [unquoted(name) for name in stage.params["inputCols"]]


def _assembling(stage: Saved) -> list[Step]:
    """Return what is left of a VectorAssembler where the columns stand side by side already."""
    invalid = stage.params["handleInvalid"]
    if invalid == "skip":
        raise UnsupportedModelError(f"{stage} has handleInvalid='skip': it leaves rows out")
    return [NoNaN(_assembled(stage))] if invalid == "error" else []


def _standard(params: dict[str, Any], vectors: dict[str, np.ndarray]) -> Scaling:
    mean, deviation = vectors["mean"], vectors["std"]
    shift = mean if params["withMean"] else np.zeros(len(mean))
    factor = np.ones(len(mean))
    if params["withStd"]:
        factor = np.divide(1.0, deviation, out=np.zeros(len(mean)), where=deviation != 0)
    return Scaling(shift, factor, np.zeros(len(mean)))


def _min_max(params: dict[str, Any], vectors: dict[str, np.ndarray]) -> Scaling:
    low, high = params["min"], params["max"]
    lowest = vectors["originalMin"]
    span = vectors["originalMax"] - lowest
    factor = np.divide(high - low, span, out=np.zeros(len(span)), where=span != 0)
    # A column that was constant is put in the middle.
    return Scaling(lowest, factor, np.where(factor != 0, low, (low + high) / 2))


ASSEMBLER = f"{FEATURE}VectorAssembler"
SCALERS = {f"{FEATURE}StandardScalerModel": _standard, f"{FEATURE}MinMaxScalerModel": _min_max}


def _vector(value: dict[str, Any]) -> np.ndarray:
    """Return one of Spark's vectors, as its struct's fields."""
    if value["type"]:
        return np.asarray(value["values"], np.float64)
    vector = np.zeros(value["size"])
    vector[value["indices"]] = value["values"]
    return vector
