"""Params that the estimators share, and how their values are checked.

Names and meanings are MLlib's where MLlib has them. Spark checks its params in the JVM; ours are
checked here, when `fit` begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasBlockSize,
    HasHandleInvalid,
    HasMaxIter,
    HasSeed,
    HasSolver,
    HasStepSize,
    HasTol,
)

from sparknn.errors import InvalidParamError
from sparknn.optimizers import SCHEDULES, SGD, Adam, Optimizer
from sparknn.training import Minibatch

__all__ = [
    "HasPartitions",
    "HasTraining",
    "refuse_unimplemented",
    "require",
    "to_names",
    "to_rates",
    "with_setters",
]

DEFAULT_SEED = 1
ADAM_STEP = 0.001


def require(instance: Params, name: str, valid: Callable[[Any], bool], what: str) -> None:
    """Raise InvalidParamError naming the param unless it is unset or its value passes `valid`."""
    param = instance.getParam(name)
    if not instance.isDefined(param):
        return
    value = instance.getOrDefault(param)
    if not valid(value):
        raise InvalidParamError(f"{type(instance).__name__}: {name} must be {what}, got {value!r}")


def refuse_unimplemented(instance: Params, names: Sequence[str]) -> None:
    """Raise InvalidParamError where one of these params has a value other than its default."""
    for name in names:
        param = instance.getParam(name)
        if not instance.isSet(param):
            continue
        value = instance.getOrDefault(param)
        if not instance.hasDefault(param) or value != instance._defaultParamMap[param]:
            raise InvalidParamError(
                f"{type(instance).__name__}: {name}={value!r} is not implemented yet; leave {name} "
                "at its default"
            )


def with_setters(kind: type) -> type:
    """Give a class a setter for each param that has none, as pyspark's estimators have them."""
    for name in dir(kind):
        setter = f"set{name[0].upper()}{name[1:]}"
        if isinstance(getattr(kind, name), Param) and not hasattr(kind, setter):
            setattr(kind, setter, _setter(name, setter))
    return kind


def _setter(name: str, setter: str) -> Callable:
    def set_value(self, value):
        return self._set(**{name: value})

    set_value.__name__ = setter
    set_value.__doc__ = f"Sets the value of {name}."
    return set_value


def to_names(value: Any) -> str | list[str]:
    """Convert one name, or a list of names."""
    return value if isinstance(value, str) else TypeConverters.toListString(value)


def to_rates(value: Any) -> float | list[float]:
    """Convert one rate, or a list of rates."""
    if isinstance(value, (list, tuple)):
        return TypeConverters.toListFloat(value)
    return TypeConverters.toFloat(value)


class HasPartitions(HasHandleInvalid):
    """How rows become blocks: `numPartitions`, `handleInvalid`, `deterministic`."""

    numPartitions: Param[int] = Param(
        Params._dummy(),
        "numPartitions",
        "partitions that train, at least 1; unset: one per core of the cluster, fewer where there "
        "are few rows",
        typeConverter=TypeConverters.toInt,
    )
    deterministic: Param[bool] = Param(
        Params._dummy(),
        "deterministic",
        "fail, instead of warning, when a block that had to be packed again came out different",
        typeConverter=TypeConverters.toBoolean,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(handleInvalid="error", deterministic=False)

    def getNumPartitions(self) -> int:
        """Gets the value of numPartitions."""
        return self.getOrDefault(self.numPartitions)

    def getDeterministic(self) -> bool:
        """Gets the value of deterministic or its default value."""
        return self.getOrDefault(self.deterministic)

    @property
    def _partitions(self) -> int | None:
        return self.getNumPartitions() if self.isDefined(self.numPartitions) else None

    def _check_partitions(self) -> None:
        require(self, "numPartitions", lambda value: value >= 1, "at least 1")
        require(self, "handleInvalid", lambda v: v in ("error", "skip"), "'error' or 'skip'")


class HasTraining(HasPartitions, HasSeed, HasMaxIter, HasTol, HasStepSize, HasSolver, HasBlockSize):
    """How an estimator trains: solver, steps, rounds."""

    momentum: Param[float] = Param(
        Params._dummy(),
        "momentum",
        "momentum of the sgd solver, in [0, 1)",
        typeConverter=TypeConverters.toFloat,
    )
    stepsPerRound: Param[int] = Param(
        Params._dummy(),
        "stepsPerRound",
        "minibatch steps between two Spark jobs: 1 adds gradients up at every step (exact "
        "synchronous minibatch), more average the parameters after so many local steps, 0 after "
        "one pass over the partition",
        typeConverter=TypeConverters.toInt,
    )
    stepSizeSchedule: Param[str] = Param(
        Params._dummy(),
        "stepSizeSchedule",
        "how stepSize goes over the epochs of a minibatch solver: constant, or down to zero by "
        "linear or cosine",
        typeConverter=TypeConverters.toString,
    )

    SOLVERS: Sequence[str] = ()

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(
            seed=DEFAULT_SEED,
            momentum=0.0,
            stepsPerRound=0,
            stepSizeSchedule="constant",
            blockSize=128,
            stepSize=0.03,
        )

    def getMomentum(self) -> float:
        """Gets the value of momentum or its default value."""
        return self.getOrDefault(self.momentum)

    def getStepsPerRound(self) -> int:
        """Gets the value of stepsPerRound or its default value."""
        return self.getOrDefault(self.stepsPerRound)

    def getStepSizeSchedule(self) -> str:
        """Gets the value of stepSizeSchedule or its default value."""
        return self.getOrDefault(self.stepSizeSchedule)

    def _check_training(self) -> None:
        self._check_partitions()
        known = ", ".join(self.SOLVERS)
        require(self, "solver", lambda v: v in self.SOLVERS, f"one of {known}")
        schedules = ", ".join(SCHEDULES)
        require(self, "stepSizeSchedule", lambda v: v in SCHEDULES, f"one of {schedules}")
        require(self, "maxIter", lambda v: v >= 0, "at least 0")
        require(self, "tol", lambda v: v >= 0, "at least 0")
        require(self, "stepSize", lambda v: v > 0, "greater than 0")
        require(self, "blockSize", lambda v: v >= 1, "at least 1")
        require(self, "momentum", lambda v: 0 <= v < 1, "in [0, 1)")
        require(self, "stepsPerRound", lambda v: v >= 0, "at least 0")

    @property
    def _is_minibatch(self) -> bool:
        return self.getSolver() in ("sgd", "adam")

    def _minibatch(self) -> Minibatch:
        return Minibatch(
            self.getMaxIter(),
            self.getBlockSize(),
            self.getStepsPerRound(),
            self.getSeed(),
            self.getTol(),
        )

    def _optimizer(self) -> Optimizer:
        adam = self.getSolver() == "adam"
        step = ADAM_STEP if adam and not self.isSet(self.stepSize) else self.getStepSize()
        schedule = SCHEDULES[self.getStepSizeSchedule()](step)
        return Adam(schedule) if adam else SGD(schedule, self.getMomentum())
