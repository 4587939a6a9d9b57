"""The restricted Boltzmann machine as an estimator and its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.linalg import DenseMatrix, DenseVector, Matrices, Vector, Vectors
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import issparse

from sparknn.blocks import Blocks
from sparknn.boltzmann import Machine, annealed_log_partition, exact_log_partition
from sparknn.boltzmann.likelihood import pseudo_likelihood
from sparknn.boltzmann.partition import LARGEST_ENUMERATED
from sparknn.cluster import Cluster
from sparknn.columns import with_column
from sparknn.diagnostics import Training
from sparknn.errors import InvalidDataError, InvalidParamError
from sparknn.feature.checking import visible_ranges
from sparknn.feature.params import MachineParams, MachineTraining
from sparknn.feature.summary import RBMTrainingSummary
from sparknn.fitting import Beginning, Trainable, Wanted
from sparknn.params import with_setters
from sparknn.persistence import Persistent
from sparknn.schema import feature_names, quoted
from sparknn.training import Fitted, MinibatchFit

__all__ = ["RBM", "RBMModel"]


@with_setters
class RBM(Estimator, Trainable, MachineTraining):
    """A restricted Boltzmann machine, trained by contrastive divergence.

    Partitions take some steps on their own rows, then parameters and momentum are averaged as
    they are, without a momentum of the driver's: so the number of partitions changes little as
    long as blockSize times partitions stays the same.

    Parameters
    ----------
    featuresCol, outputCol : str, default "features" and "hidden"
        A vector or array column; the column of hidden probabilities that `transform` adds.
    numHidden : int, default 100
    visibleType : str, default "binary"
        "binary": values in [0, 1], grey levels being taken for probabilities; "gaussian": real
        values with unit variance, on standardised input.
    hiddenType : str, default "binary"
        Or "gaussian": linear units with unit-variance noise.
    cdSteps : int, default 1
        k of CD-k.
    persistent : bool, default False
        Persistent contrastive divergence, with `blockSize` chains in each partition.
    sampleVisible : bool, default True
        Sample the chains' visible units, so that CD-k tends to the exact gradient as k grows.
        False takes their means (the practical guide's recipe): less noisy, and biased for any k.
    stepSize : float, default 0.05, 0.001 where either side is Gaussian
    stepSizeSchedule : str, default "constant"
        "linear" and "cosine" fall to zero over the epochs, "step" to a tenth after half of them
        and a hundredth after three quarters, "inverseTime" to a tenth.
    momentum : float, default 0.9, where persistent is set 0.5
    momentumSchedule : str, default "step"
        0.5 for 5 epochs, then `momentum`; "linear": from 0.5 to `momentum`; "constant".
    regParam : float, default 0.0
        Strength of the L2 penalty on the weights, not the biases.
    sparsityTarget, sparsityCost : float, default 0.1 and 0.0
        Hidden units' wanted mean, in (0, 1), and how strongly they are drawn to it.
    maxNorm : float, optional
        Largest length of the weights into a hidden unit.
    blockSize : int, default 100
        Rows per partition and step.
    maxIter : int, default 10
        Epochs.
    stepsPerRound : int, default 0
        1: gradients of all partitions are added up at every step. More: each partition takes so
        many steps on its own rows before parameters are averaged; 0: 240 blockSize (1 -
        momentum)^2, divided by the fifth power of the partitions. More steps save Spark jobs and
        cost accuracy.
    initialWeights : Vector, optional
        Weights (visible, hidden) row by row, hidden biases, visible biases. By default normal
        weights of deviation 0.01, hidden biases of 0 and visible biases that give the columns'
        means.
    handleInvalid : str, default "error"
        "skip" leaves out rows with null, NaN or infinite values and, for binary visible units,
        with values outside [0, 1]. "keep" takes what visible units do not stand for: values
        outside [0, 1], or, for Gaussian ones, columns that are not standardised.
    validationIndicatorCol, patience
        Held-out rows, whose reconstruction error stops the training when it no longer falls, and
        whose free energy the summary compares with that of training rows.
    tol : float, default 0.0
        Relative change of an epoch's reconstruction error at which to stop.
    seed : int, default 1
    numPartitions, deterministic, checkpointDir, checkpointInterval
        See `LogisticRegression`.

    Raises
    ------
    InvalidParamError
        By `fit`: for params out of range.
    InvalidDataError
        By `fit`: for rows that are invalid, or not what visible units stand for.
    DivergenceError
        By `fit`: where weights become infinite or NaN.

    References
    ----------
    Hinton (2002), Training products of experts by minimizing contrastive divergence; Tieleman
    (2008), Training restricted Boltzmann machines using approximations to the likelihood
    gradient; Hinton (2012), A practical guide to training restricted Boltzmann machines.
    """

    NAME = "RBM"

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        outputCol: str = "hidden",
        numHidden: int = 100,
        visibleType: str = "binary",
        hiddenType: str = "binary",
        cdSteps: int = 1,
        persistent: bool = False,
        sampleVisible: bool = True,
        stepSize: float | None = None,
        stepSizeSchedule: str = "constant",
        momentum: float = 0.9,
        momentumSchedule: str = "step",
        regParam: float = 0.0,
        sparsityTarget: float = 0.1,
        sparsityCost: float = 0.0,
        maxNorm: float | None = None,
        blockSize: int = 100,
        maxIter: int = 10,
        tol: float = 0.0,
        stepsPerRound: int = 0,
        seed: int | None = None,
        initialWeights: Vector | None = None,
        numPartitions: int | None = None,
        handleInvalid: str = "error",
        deterministic: bool = False,
        validationIndicatorCol: str | None = None,
        patience: int = 5,
        checkpointDir: str | None = None,
        checkpointInterval: int = 10,
    ):
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **kwargs: Any) -> RBM:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    # pyspark's own stand before these in the order of bases.
    _fit = Trainable._fit
    fitMultiple = Trainable.fitMultiple

    def _check(self) -> None:
        self._check_machine()

    def _wanted(self) -> Wanted:
        # Rows that are to be left out are so while they are packed; others wait for an error that
        # tells of all columns.
        skip = self.getHandleInvalid() == "skip" and self.getVisibleType() == "binary"
        return Wanted((), None, None, precise=False, bounds=(0.0, 1.0) if skip else None)

    def _begin(self, blocks: Blocks, dataset: DataFrame) -> Beginning:
        machine = self._machine(blocks.features)
        means = visible_ranges(
            blocks,
            self.getVisibleType(),
            self.getFeaturesCol(),
            feature_names(dataset, self.getFeaturesCol()),
            self.getHandleInvalid() == "keep",
        ).mean
        if self.isDefined(self.initialWeights):
            start = self.getInitialWeights().toArray()
            _require_size(machine, start)
        else:
            start = machine.initial(self.getSeed(), means)
        objective = self._divergence(machine)
        fit = MinibatchFit(
            blocks,
            objective,
            objective.penalty(self.getRegParam()),
            self._optimizer(),
            start,
            self._rounds(blocks.filled),
        )

        def finish(fitted: Fitted | None) -> RBMModel:
            assert fitted is not None
            model = RBMModel(fitted.theta, means)
            model.training = fitted
            return model

        return Beginning(fit, finish)

    def _finished(self, model: Any, dataset: DataFrame, cluster: Cluster, packing: float) -> None:
        weights = model.numFeatures * self.getNumHidden()
        operations = (6 + 4 * self.getCdSteps()) * weights
        fitted = model.training
        model._trained = Training(
            dataset, fitted, fitted.iterations, packing, cluster.cores, {}, operations
        )


def _require_size(machine: Machine, start: np.ndarray) -> None:
    if len(start) != machine.size:
        raise InvalidParamError(
            f"initialWeights holds {len(start)} values, and {machine.visible_size} visible and "
            f"{machine.hidden_size} hidden units have {machine.size}: weights, hidden biases, "
            "visible biases"
        )


@with_setters
class RBMModel(Model, MachineParams, Persistent):
    """A fitted restricted Boltzmann machine.

    Parameters
    ----------
    theta : array of (parameters,)
        As `sparknn.boltzmann.Machine` lays them out.
    means : array of (visible,)
        Of the training rows: base rates for `logPartition` and for sampling.

    training: how the fit went (a `sparknn.training.Fitted`), or None for a model that was loaded.
    """

    training: Fitted | None = None
    _trained: Training | None = None

    def __init__(self, theta: np.ndarray, means: np.ndarray):
        super().__init__()
        self._theta, self._means = np.asarray(theta, np.float64), np.asarray(means, np.float64)
        self._log_partitions: dict[tuple[int, int, int], tuple[float, float]] = {}

    @property
    def numFeatures(self) -> int:
        """The number of visible units."""
        return len(self._means)

    @property
    def machine(self) -> Machine:
        """The machine, for `sparknn.boltzmann`'s functions."""
        return self._machine(self.numFeatures)

    @property
    def parameters(self) -> np.ndarray:
        """All parameters, (size,) float64, as `machine` lays them out; a copy."""
        return self._theta.copy()

    @property
    def weights(self) -> DenseMatrix:
        """The weights, (visible, hidden)."""
        weights = self.machine.views(self._theta)[0]
        return Matrices.dense(*weights.shape, weights.T.ravel())

    @property
    def hiddenBias(self) -> DenseVector:
        """The hidden units' biases, b."""
        return Vectors.dense(self.machine.views(self._theta)[1])

    @property
    def visibleBias(self) -> DenseVector:
        """The visible units' biases, a."""
        return Vectors.dense(self.machine.views(self._theta)[2])

    @property
    def hasSummary(self) -> bool:
        """Whether there is a summary: for a model that `fit` returned, and its copies."""
        return self._trained is not None

    @property
    def summary(self) -> RBMTrainingSummary:
        """How the training went. Raises RuntimeError for a model that was loaded."""
        if self._trained is None:
            raise RuntimeError("No training summary available for this RBMModel")
        return RBMTrainingSummary(self._trained)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return self._with(dataset, "hidden", self.getOutputCol(), self.getNumHidden())

    def freeEnergy(self, dataset: DataFrame, outputCol: str = "freeEnergy") -> DataFrame:
        """Return `dataset` with each row's free energy, in nats: lower where more likely."""
        return self._with(dataset, "free_energy", outputCol)

    def reconstruct(self, dataset: DataFrame, outputCol: str = "reconstruction") -> DataFrame:
        """Return `dataset` with the visible means given the hidden means given each row."""
        return self._with(dataset, "reconstruct", outputCol, self.numFeatures)

    def sample(
        self,
        n: int,
        steps: int = 1000,
        seed: int = 1,
        start: np.ndarray | None = None,
        clamped: list[int] | None = None,
    ) -> np.ndarray:
        """Draw visible states by Gibbs sampling, on the driver.

        Parameters
        ----------
        n : int
            Independent chains.
        steps : int, default 1000
            Of each chain.
        seed : int, default 1
        start : array of (visible,) or (n, visible), optional
            Where chains start; by default at units drawn from the training rows' means.
        clamped : list of int, optional
            Visible units that keep the values that they start with, so that the others are drawn
            given these.

        Returns
        -------
        array of (n, visible) float32
        """
        machine, theta = self.machine, self._theta.astype(np.float32)
        random = np.random.Generator(np.random.SFC64(int(seed) % 2**64))
        v = np.empty((n, machine.visible_size), np.float32)
        if start is None:
            v[:] = self._means
            machine.visible_units.sample(v, random, v)
        else:
            v[:] = start
        fixed = np.zeros(machine.visible_size, bool)
        fixed[list(clamped or [])] = True
        return machine.sample(theta, v, steps, random, fixed)

    def logPartition(
        self, chains: int = 100, temperatures: int = 10_000, seed: int = 1
    ) -> tuple[float, float]:
        """Estimate log Z by annealed importance sampling, on the driver.

        The base rates are the training rows' means. Takes about twice the work of `temperatures`
        steps of training with a blockSize of `chains`. Returns estimate and standard error.

        Raises ValueError where Z is infinite, see `annealed_log_partition`.
        """
        key = chains, temperatures, seed
        if key not in self._log_partitions:
            self._log_partitions[key] = annealed_log_partition(
                self.machine, self._theta, self._means, *key
            )
        return self._log_partitions[key]

    def logLikelihood(self, dataset: DataFrame, logPartition: float | None = None) -> float:
        """Return the mean log-likelihood of the rows, in nats: -F(v) - log Z, values as given.

        logPartition: log Z; by default exact where at most 20 units on one side are binary, else
        `logPartition()`.
        """
        if logPartition is None:
            machine = self.machine
            sizes = [
                size
                for size, kind in (
                    (machine.visible_size, machine.visible_units.name),
                    (machine.hidden_size, machine.hidden_units.name),
                )
                if kind == "binary"
            ]
            if min(sizes, default=LARGEST_ENUMERATED + 1) <= LARGEST_ENUMERATED:
                logPartition = exact_log_partition(machine, self._theta)
            else:
                logPartition = self.logPartition()[0]
        return -self._mean(dataset, "free_energy") - logPartition

    def pseudoLikelihood(self, dataset: DataFrame) -> float:
        """Return the mean pseudo-likelihood of the rows, in nats; of all units, not of a sample.

        Raises ValueError for Gaussian visible units.
        """
        if self.getVisibleType() != "binary":
            raise ValueError(
                "the pseudo-likelihood is that of binary visible units, and visibleType is "
                f"{self.getVisibleType()!r}: see freeEnergy or logLikelihood"
            )
        return self._mean(dataset, "pseudo_likelihood")

    def _with(
        self, dataset: DataFrame, what: str, output: str, size: int | None = None
    ) -> DataFrame:
        compute = _Compute(self.machine, self._theta, what)
        features = self.getFeaturesCol()
        return with_column(dataset, features, self.numFeatures, compute, output, size)

    def _mean(self, dataset: DataFrame, what: str) -> float:
        features = dataset.select(quoted(self.getFeaturesCol()))
        found = self._with(features, what, "mean of a row").select(F.avg(quoted("mean of a row")))
        mean = found.first()[0]
        if mean is None:
            raise InvalidDataError("the DataFrame has no rows to take a mean over")
        return float(mean)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"theta": self._theta, "means": self._means}

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> RBMModel:
        return cls(arrays["theta"], arrays["means"])

    def __repr__(self) -> str:
        return (
            f"RBMModel: uid={self.uid}, numVisible={self.numFeatures}, "
            f"numHidden={self.getNumHidden()}"
        )


@dataclass(frozen=True, eq=False)
class _Compute:
    """One of a machine's functions of rows, as it is sent to the executors.

    What is a column of units is computed in the machine's float32; energies in float64, as a
    difference of large ones matters.
    """

    machine: Machine
    theta: np.ndarray
    what: str

    def __call__(self, features: Any) -> np.ndarray:
        dense = features.toarray() if issparse(features) else features
        if self.what == "pseudo_likelihood":
            return pseudo_likelihood(self.machine, self.theta, dense)
        if self.what == "free_energy":
            return self.machine.free_energy(self.theta, dense)
        compute = getattr(self.machine, self.what)
        return compute(self.theta.astype(np.float32), dense.astype(np.float32))
