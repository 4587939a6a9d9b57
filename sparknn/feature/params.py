"""The params of restricted Boltzmann machines, and what they come to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasFeaturesCol, HasOutputCol, HasRegParam

from sparknn.boltzmann import UNITS, ContrastiveDivergence, Machine
from sparknn.optimizers import SCHEDULES, SGD, Schedule, constant, linear, step
from sparknn.params import HasInitialWeights, HasTraining, require
from sparknn.training import Minibatch

__all__ = ["MOMENTUM_SCHEDULES", "MachineParams", "MachineTraining"]

STEP, GAUSSIAN_STEP = 0.05, 0.001
"""Step sizes where none is set; real units, whose means have no bounds, bear smaller ones."""

EARLY_MOMENTUM, EARLY_EPOCHS = 0.5, 5
"""Momentum while the weights still grow fast, and how long (Hinton 2012, section 9).

Persistent chains keep the early one where none is set: they have to follow the weights, and at a
momentum of 0.9 steps reach five times as far (measured on MNIST, 784-500, step size 0.05, after
six epochs: -240 nats where the last is at 0.9, -127 where all are at 0.5).
"""

LOCAL_STEPS = 240
"""Steps between two averagings: so many times the rows of a step, times (1 - momentum)^2, over the
fifth power of the number of partitions.

What partitions learn from their chains' noise is lost when they are averaged. Its variance grows
with the steps in between and with fewer rows to a step; momentum carries each step 1 / (1 -
momentum) times as far; and more partitions lose more. The driver's own momentum does not make up
for it. Measured on MNIST, 784-500, ten epochs of 256 rows a step, with momentum 0.5 and then 0.9.
One partition ends at -204 nats. Two: at -205 averaged every 48 and 10 steps, or every 240 and 10,
and at -209 every 240 and 20. Four: at -203 averaged at each step, and at -193 every 4 and then at
each step. Eight: at -204 averaged at each step, at -196 every two and at -189 every three while
momentum is 0.5. These are better likelihoods, but another model than one partition's.
"""

MOMENTUM_SCHEDULES = ("step", "linear", "constant")


class MachineParams(HasFeaturesCol, HasOutputCol):
    """The params that an RBM and its model have in common."""

    numHidden: Param[int] = Param(
        Params._dummy(),
        "numHidden",
        "hidden units, at least 1",
        typeConverter=TypeConverters.toInt,
    )
    visibleType: Param[str] = Param(
        Params._dummy(),
        "visibleType",
        "binary: values in [0, 1]; gaussian: standardised values, with unit variance",
        typeConverter=TypeConverters.toString,
    )
    hiddenType: Param[str] = Param(
        Params._dummy(),
        "hiddenType",
        "binary, or gaussian: linear with unit-variance noise",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(
            outputCol="hidden", numHidden=100, visibleType="binary", hiddenType="binary"
        )

    def getNumHidden(self) -> int:
        """Gets the value of numHidden or its default value."""
        return self.getOrDefault(self.numHidden)

    def getVisibleType(self) -> str:
        """Gets the value of visibleType or its default value."""
        return self.getOrDefault(self.visibleType)

    def getHiddenType(self) -> str:
        """Gets the value of hiddenType or its default value."""
        return self.getOrDefault(self.hiddenType)

    def _machine(self, visible: int) -> Machine:
        return Machine(visible, self.getNumHidden(), self.getVisibleType(), self.getHiddenType())


class MachineTraining(MachineParams, HasTraining, HasInitialWeights, HasRegParam):
    """How an RBM trains."""

    SOLVERS = ("sgd",)
    INVALID = ("error", "skip", "keep")

    cdSteps: Param[int] = Param(
        Params._dummy(),
        "cdSteps",
        "steps of Gibbs sampling in each step of training, at least 1",
        typeConverter=TypeConverters.toInt,
    )
    persistent: Param[bool] = Param(
        Params._dummy(),
        "persistent",
        "chains go on from step to step (blockSize of them a partition) instead of starting at "
        "the rows",
        typeConverter=TypeConverters.toBoolean,
    )
    sampleVisible: Param[bool] = Param(
        Params._dummy(),
        "sampleVisible",
        "sample the chains' visible units; false takes their means: less noise, and a bias that "
        "cdSteps does not cure",
        typeConverter=TypeConverters.toBoolean,
    )
    sparsityTarget: Param[float] = Param(
        Params._dummy(),
        "sparsityTarget",
        "wanted mean of each hidden unit, in (0, 1); has effect where sparsityCost is above 0",
        typeConverter=TypeConverters.toFloat,
    )
    sparsityCost: Param[float] = Param(
        Params._dummy(),
        "sparsityCost",
        "how strongly hidden units are drawn to sparsityTarget, at least 0",
        typeConverter=TypeConverters.toFloat,
    )
    maxNorm: Param[float] = Param(
        Params._dummy(),
        "maxNorm",
        "largest length of the weights into a hidden unit, greater than 0; unset: no limit",
        typeConverter=TypeConverters.toFloat,
    )
    momentumSchedule: Param[str] = Param(
        Params._dummy(),
        "momentumSchedule",
        "how momentum goes over the epochs: step: 0.5 for 5 epochs, then momentum; linear: from "
        "0.5 to momentum; constant",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(
            solver="sgd",
            maxIter=10,
            tol=0.0,
            blockSize=100,
            regParam=0.0,
            momentum=0.9,
            momentumSchedule="step",
            cdSteps=1,
            persistent=False,
            sampleVisible=True,
            sparsityTarget=0.1,
            sparsityCost=0.0,
        )

    def getCdSteps(self) -> int:
        """Gets the value of cdSteps or its default value."""
        return self.getOrDefault(self.cdSteps)

    def getPersistent(self) -> bool:
        """Gets the value of persistent or its default value."""
        return self.getOrDefault(self.persistent)

    def getSampleVisible(self) -> bool:
        """Gets the value of sampleVisible or its default value."""
        return self.getOrDefault(self.sampleVisible)

    def getSparsityTarget(self) -> float:
        """Gets the value of sparsityTarget or its default value."""
        return self.getOrDefault(self.sparsityTarget)

    def getSparsityCost(self) -> float:
        """Gets the value of sparsityCost or its default value."""
        return self.getOrDefault(self.sparsityCost)

    def getMaxNorm(self) -> float:
        """Gets the value of maxNorm."""
        return self.getOrDefault(self.maxNorm)

    def getMomentumSchedule(self) -> str:
        """Gets the value of momentumSchedule or its default value."""
        return self.getOrDefault(self.momentumSchedule)

    def _check_machine(self) -> None:
        """Raise InvalidParamError for params that are out of range."""
        self._check_training()
        kinds = ", ".join(UNITS)
        require(self, "numHidden", lambda v: v >= 1, "at least 1")
        require(self, "visibleType", lambda v: v in UNITS, f"one of {kinds}")
        require(self, "hiddenType", lambda v: v in UNITS, f"one of {kinds}")
        require(self, "cdSteps", lambda v: v >= 1, "at least 1")
        require(self, "regParam", lambda v: v >= 0, "at least 0")
        require(self, "sparsityTarget", lambda v: 0 < v < 1, "in (0, 1)")
        require(self, "sparsityCost", lambda v: v >= 0, "at least 0")
        require(self, "maxNorm", lambda v: v > 0, "greater than 0")
        known = ", ".join(MOMENTUM_SCHEDULES)
        require(self, "momentumSchedule", lambda v: v in MOMENTUM_SCHEDULES, f"one of {known}")

    def _divergence(self, machine: Machine) -> ContrastiveDivergence:
        return ContrastiveDivergence(
            machine,
            self.getCdSteps(),
            self.getPersistent(),
            self.getSampleVisible(),
            self.getSparsityTarget(),
            self.getSparsityCost(),
            self.getMaxNorm() if self.isDefined(self.maxNorm) else None,
        )

    def _rounds(self, filled: int) -> Minibatch:
        """Return how minibatch rounds go over so many blocks, not counting empty ones."""
        steps: int | _LocalSteps = self.getStepsPerRound()
        # One partition has nothing to average before the end of a pass.
        if not steps and filled > 1:
            scale = LOCAL_STEPS * self.getBlockSize() / filled**5
            steps = _LocalSteps(scale, self._momentum())
            if steps.largest == 1:
                steps = 1
        return replace(self._minibatch(), steps_per_round=steps, outer=None)

    def _optimizer(self) -> SGD:
        kinds = self.getVisibleType(), self.getHiddenType()
        step_size = self.getStepSize()
        if not self.isSet(self.stepSize):
            step_size = GAUSSIAN_STEP if "gaussian" in kinds else STEP
        return SGD(SCHEDULES[self.getStepSizeSchedule()](step_size), self._momentum())

    def _momentum(self) -> Schedule:
        last = self.getMomentum()
        if self.getPersistent() and not self.isSet(self.momentum):
            last = EARLY_MOMENTUM
        early = min(EARLY_MOMENTUM, last)
        if self.getMomentumSchedule() == "linear":
            return linear(early, last)
        if self.getMomentumSchedule() == "constant" or early == last:
            return constant(last)
        return step(early, last / early, (EARLY_EPOCHS / max(self.getMaxIter(), 1),))


@dataclass(frozen=True)
class _LocalSteps:
    """The steps between two averagings as momentum goes: `scale` times (1 - momentum)^2, or 1."""

    scale: float
    momentum: Schedule

    @property
    def largest(self) -> int:
        """The most steps that there will be: momentum never falls."""
        return self(0.0)

    def __call__(self, progress: float) -> int:
        return math.ceil(self.scale * (1 - self.momentum(progress)) ** 2)
