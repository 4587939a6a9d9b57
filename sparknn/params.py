"""Params that the estimators share, and how their values are checked.

Names and meanings are MLlib's where MLlib has them. Spark checks its params in the JVM; ours are
checked here, when `fit` begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyspark.ml.linalg import Vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasBlockSize,
    HasCheckpointInterval,
    HasHandleInvalid,
    HasMaxIter,
    HasSeed,
    HasSolver,
    HasStepSize,
    HasTol,
    HasValidationIndicatorCol,
)

from sparknn.errors import InvalidParamError
from sparknn.optimizers import SCHEDULES, SGD, Adam, Optimizer
from sparknn.persistence import as_json
from sparknn.training import Minibatch

__all__ = [
    "HasActivation",
    "HasCheckpoints",
    "HasDropout",
    "HasInitialWeights",
    "HasPartitions",
    "HasStopping",
    "HasTraining",
    "require",
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


class HasInitialWeights(Params):
    """Where a fit begins: `initialWeights`, as MLlib's perceptron has it."""

    initialWeights: Param[Vector] = Param(
        Params._dummy(),
        "initialWeights",
        "the weights to begin with, for a warm start; by default the solver's own",
        typeConverter=TypeConverters.toVector,
    )

    def getInitialWeights(self) -> Vector:
        """Gets the value of initialWeights."""
        return self.getOrDefault(self.initialWeights)


class HasActivation(Params):
    """What hidden units do: `activation`, of a perceptron and of its model."""

    activation: Param = Param(
        Params._dummy(),
        "activation",
        "of hidden units: sigmoid, tanh, relu or linear; one name, or a list with one for each "
        "hidden layer",
        typeConverter=to_names,
    )

    def getActivation(self) -> str | list[str]:
        """Gets the value of activation or its default value."""
        return self.getOrDefault(self.activation)


class HasDropout(Params):
    """Which units training leaves out: `dropout`."""

    dropout: Param = Param(
        Params._dummy(),
        "dropout",
        "probability in [0, 1) of leaving out hidden units in training; a list begins with the "
        "inputs' and goes on with each hidden layer's",
        typeConverter=to_rates,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(dropout=0.0)

    def getDropout(self) -> float | list[float]:
        """Gets the value of dropout or its default value."""
        return self.getOrDefault(self.dropout)


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

    INVALID: Sequence[str] = ("error", "skip")

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
        known = " or ".join(map(repr, self.INVALID))
        require(self, "handleInvalid", lambda v: v in self.INVALID, known)


class HasStopping(HasMaxIter, HasTol, HasValidationIndicatorCol):
    """When an estimator stops before `maxIter`."""

    gradientTol: Param[float] = Param(
        Params._dummy(),
        "gradientTol",
        "a full-batch solver stops when the gradient of the objective is no longer than this; 0: "
        "never for this reason",
        typeConverter=TypeConverters.toFloat,
    )
    patience: Param[int] = Param(
        Params._dummy(),
        "patience",
        "with validationIndicatorCol: iterations or epochs without a new lowest loss of the "
        "held-out rows after which training stops, and the best weights are restored; at least 1",
        typeConverter=TypeConverters.toInt,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(gradientTol=0.0, patience=5)

    def getGradientTol(self) -> float:
        """Gets the value of gradientTol or its default value."""
        return self.getOrDefault(self.gradientTol)

    def getPatience(self) -> int:
        """Gets the value of patience or its default value."""
        return self.getOrDefault(self.patience)

    def _check_stopping(self) -> None:
        require(self, "maxIter", lambda v: v >= 0, "at least 0")
        require(self, "tol", lambda v: v >= 0, "at least 0")
        require(self, "gradientTol", lambda v: v >= 0, "at least 0")
        require(self, "patience", lambda v: v >= 1, "at least 1")


class HasCheckpoints(HasCheckpointInterval):
    """Where an estimator saves its state on the way, to go on after an interruption."""

    checkpointDir: Param[str] = Param(
        Params._dummy(),
        "checkpointDir",
        "directory, on any Hadoop file system, for the state of this fit every checkpointInterval "
        "iterations or epochs: a fit that was killed goes on from there when it is started again",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(checkpointInterval=10)

    def getCheckpointDir(self) -> str:
        """Gets the value of checkpointDir."""
        return self.getOrDefault(self.checkpointDir)

    def _check_checkpoints(self) -> None:
        require(self, "checkpointInterval", lambda v: v >= 1 or v == -1, "at least 1, or -1")

    def _settings(self) -> dict[str, Any]:
        """Return the params that decide what is fitted, as JSON values."""
        names = [
            param.name
            for param in self.params
            if self.isDefined(param) and param.name not in _WITHOUT_EFFECT
        ]
        return {name: as_json(self.getOrDefault(name)) for name in names}


_WITHOUT_EFFECT = (
    "checkpointDir",
    "checkpointInterval",
    "outputCol",
    "predictionCol",
    "probabilityCol",
    "rawPredictionCol",
    "threshold",
    "thresholds",
)
"""Params that do not change what is fitted."""


class HasTraining(
    HasPartitions, HasSeed, HasStopping, HasCheckpoints, HasStepSize, HasSolver, HasBlockSize
):
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
        "how stepSize goes over the epochs of a minibatch solver: constant; down to zero by linear "
        "or cosine; step: a tenth after a half, a hundredth after three quarters; inverseTime: "
        "divided by 1 to 10",
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
        self._check_stopping()
        self._check_checkpoints()
        known = ", ".join(self.SOLVERS)
        require(self, "solver", lambda v: v in self.SOLVERS, f"one of {known}")
        schedules = ", ".join(SCHEDULES)
        require(self, "stepSizeSchedule", lambda v: v in SCHEDULES, f"one of {schedules}")
        require(self, "stepSize", lambda v: v > 0, "greater than 0")
        require(self, "blockSize", lambda v: v >= 1, "at least 1")
        require(self, "momentum", lambda v: 0 <= v < 1, "in [0, 1)")
        require(self, "stepsPerRound", lambda v: v >= 0, "at least 0")
        if self._is_minibatch:
            require(self, "gradientTol", lambda v: v == 0, f"0 for solver={self.getSolver()!r}")

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
