"""The deep belief network as an estimator and its model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.linalg import DenseVector, Vectors
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasFeaturesCol,
    HasOutputCol,
    HasSeed,
    HasValidationIndicatorCol,
)
from pyspark.sql import DataFrame
from scipy.sparse import issparse

from sparknn.boltzmann import Stack
from sparknn.cluster import Cluster
from sparknn.columns import with_column
from sparknn.feature.layers import HasLayers, HasLayerTraining, with_layer_settings
from sparknn.feature.pretraining import Stages, pretrained, stack_of
from sparknn.feature.rbm import RBMModel
from sparknn.feature.summary import RBMTrainingSummary
from sparknn.fitting import Wanted, packed, split
from sparknn.network import Network
from sparknn.params import (
    DEFAULT_SEED,
    HasCheckpoints,
    HasPartitions,
    HasStopping,
    require,
    with_setters,
)
from sparknn.persistence import Persistent

__all__ = ["DBN", "DBNModel"]


class _NetworkParams(HasLayers, HasFeaturesCol, HasOutputCol):
    """The params that a DBN and its model have in common."""

    hiddenType: Param[str] = Param(
        Params._dummy(),
        "hiddenType",
        "of the last layer; binary, or gaussian: linear with unit-variance noise",
        typeConverter=TypeConverters.toString,
    )
    outputLayer: Param[int] = Param(
        Params._dummy(),
        "outputLayer",
        "hidden layer, from 1, whose means transform gives; unset: the last one",
        typeConverter=TypeConverters.toInt,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(hiddenType="binary", outputCol="hidden")

    def getHiddenType(self) -> str:
        """Gets the value of hiddenType or its default value."""
        return self.getOrDefault(self.hiddenType)

    def getOutputLayer(self) -> int:
        """Gets the value of outputLayer."""
        return self.getOrDefault(self.outputLayer)

    @property
    def _top_type(self) -> str:
        return self.getHiddenType()

    def _check_output(self) -> None:
        count = len(self.getLayers()) - 1
        require(self, "outputLayer", lambda v: 1 <= v <= count, f"from 1 to {count}")


@with_setters
@with_layer_settings
class DBN(
    Estimator,
    _NetworkParams,
    HasLayerTraining,
    HasPartitions,
    HasSeed,
    HasCheckpoints,
    HasValidationIndicatorCol,
    Persistent,
):
    """A deep belief network, trained greedily: each layer on the hidden means of the one below.

    A layer is trained as `RBM` trains, on blocks that the executors make of the previous layer's;
    no rows travel. Most settings are an RBM's: one value, or a list with one for each hidden
    layer.

    Parameters
    ----------
    featuresCol, outputCol : str, default "features" and "hidden"
        A vector or array column; the column of hidden means that `transform` adds.
    layers : list of int
        Sizes of the input and of each hidden layer, such as [784, 500, 500, 2000].
    visibleType : str, default "binary"
        Of the input: "binary" for values in [0, 1], "gaussian" for standardised ones.
    hiddenType : str, default "binary"
        Of the last layer; "gaussian": linear units. All layers between are binary.
    outputLayer : int, optional
        Hidden layer, from 1, that `transform` goes up to; by default the last.
    maxIter, stepSize, stepSizeSchedule, momentum, momentumSchedule, regParam, blockSize, \
stepsPerRound, tol, cdSteps, persistent, sampleVisible, sparsityTarget, sparsityCost, maxNorm
        See `RBM`, whose defaults are these; one value, or a list with one for each hidden layer.
    seed : int, default 1
        The layers' seeds count up from it.
    handleInvalid : str, default "error"
        "skip" leaves rows out that hold null, NaN or infinite values; "keep" takes values that
        visible units do not stand for.
    validationIndicatorCol, patience
        Held-out rows, whose reconstruction error stops the training of each layer when it no
        longer falls.
    checkpointDir, checkpointInterval
        Each layer's state goes into a directory of its own below `checkpointDir`; complete layers
        keep theirs until all are.
    numPartitions, deterministic
        See `LogisticRegression`.

    Raises
    ------
    InvalidParamError
        By `fit`: for params out of range, or lists that are not one value for each hidden layer.
    InvalidDataError
        By `fit`: for rows that are invalid, or not what visible units stand for.
    DivergenceError
        By `fit`: where weights become infinite or NaN.

    References
    ----------
    Hinton, Osindero and Teh (2006), A fast learning algorithm for deep belief nets; Bengio et al.
    (2007), Greedy layer-wise training of deep networks.
    """

    NAME = "DBN"
    INVALID = ("error", "skip", "keep")

    patience = HasStopping.patience
    getPatience = HasStopping.getPatience

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        outputCol: str = "hidden",
        layers: list[int] | None = None,
        visibleType: str = "binary",
        hiddenType: str = "binary",
        outputLayer: int | None = None,
        maxIter: int | list[int] = 10,
        stepSize: float | list[float] | None = None,
        stepSizeSchedule: str | list[str] = "constant",
        momentum: float | list[float] = 0.9,
        momentumSchedule: str | list[str] = "step",
        regParam: float | list[float] = 0.0,
        blockSize: int | list[int] = 100,
        stepsPerRound: int | list[int] = 0,
        tol: float | list[float] = 0.0,
        cdSteps: int | list[int] = 1,
        persistent: bool | list[bool] = False,
        sampleVisible: bool | list[bool] = True,
        sparsityTarget: float | list[float] = 0.1,
        sparsityCost: float | list[float] = 0.0,
        maxNorm: float | list[float] | None = None,
        seed: int | None = None,
        numPartitions: int | None = None,
        handleInvalid: str = "error",
        deterministic: bool = False,
        validationIndicatorCol: str | None = None,
        patience: int = 5,
        checkpointDir: str | None = None,
        checkpointInterval: int = 10,
    ):
        super().__init__()
        self._setDefault(seed=DEFAULT_SEED, patience=5)
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **kwargs: Any) -> DBN:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    _compares = True

    def _check(self) -> None:
        self._rbms()
        self._check_output()
        self._check_partitions()
        self._check_checkpoints()
        require(self, "patience", lambda v: v >= 1, "at least 1")

    def _fit(self, dataset: DataFrame) -> DBNModel:
        self._check()
        cluster = Cluster(dataset.sparkSession)
        return cluster.run(lambda: self._trained(cluster, dataset))

    def _trained(self, cluster: Cluster, dataset: DataFrame) -> DBNModel:
        rows, held = split(self, dataset)
        wanted = Wanted((), None, self.getLayers()[0], precise=False, bounds=self._bounds)
        stages = Stages(cluster, self)
        with ExitStack() as stack:
            blocks = stack.enter_context(packed(self, cluster, rows, wanted))
            others = None
            if held is not None:
                others = stack.enter_context(packed(self, cluster, held, wanted, blocks))
            machines = pretrained(self, stages, blocks, others, rows)
        stages.complete()
        return self._copyValues(DBNModel(machines)._resetUid(self.uid))


@with_setters
class DBNModel(Model, _NetworkParams, Persistent):
    """A trained deep belief network.

    Parameters
    ----------
    machines : list of RBMModel
        From the bottom up. Each is a model of its own: log-likelihoods, samples, its summary.
    """

    def __init__(self, machines: list[RBMModel]):
        super().__init__()
        self._machines = list(machines)

    @property
    def machines(self) -> list[RBMModel]:
        """The machine of each hidden layer, from the bottom up."""
        return list(self._machines)

    @property
    def stack(self) -> Stack:
        """The network as numbers, for `sparknn.boltzmann`."""
        return stack_of(self._machines)

    @property
    def numFeatures(self) -> int:
        """The number of visible units."""
        return self._machines[0].numFeatures

    @property
    def summary(self) -> list[RBMTrainingSummary]:
        """How each layer's training went. Raises RuntimeError for a model that was loaded."""
        return [machine.summary for machine in self._machines]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self._check_output()
        last = len(self._machines)
        layer = self.getOutputLayer() if self.isDefined(self.outputLayer) else last
        compute = Through(self.stack, layer)
        return with_column(
            dataset,
            self.getFeaturesCol(),
            self.numFeatures,
            compute,
            self.getOutputCol(),
            self.stack.layers[layer],
        )

    def reconstruct(self, dataset: DataFrame, outputCol: str = "reconstruction") -> DataFrame:
        """Return `dataset` with the means of the input that follow from those of the last layer."""
        compute = Through(self.stack, len(self._machines), down=True)
        width = self.numFeatures
        return with_column(dataset, self.getFeaturesCol(), width, compute, outputCol, width)

    def sample(
        self, n: int, steps: int = 1000, seed: int = 1, start: np.ndarray | None = None
    ) -> np.ndarray:
        """Draw rows of the input, (n, visible) float32, from the top down, on the driver.

        `steps` of Gibbs sampling between the two top layers, then one pass down. start: (visible,)
        or (n, visible), rows from which the chains begin; by default at units without any input.
        """
        if start is not None:
            start = np.broadcast_to(start, (n, self.numFeatures))
        return self.stack.sample(n, steps, seed, start)

    def initialWeights(self, numClasses: int, seed: int = 1) -> DenseVector:
        """Return weights for a perceptron of sigmoid units to begin with.

        For `MultilayerPerceptronClassifier(layers=[*layers, numClasses], initialWeights=…)`: the
        machines' weights, and an output layer drawn with `seed`. With hiddenType "gaussian" the
        last hidden layer's activation is "linear".
        """
        return Vectors.dense(self.stack.initial_weights(numClasses, seed))

    def unroll(self, loss: str = "crossEntropy") -> tuple[Network, np.ndarray]:
        """Return the autoencoder that the network unrolls to, and its weights, (size,) float64.

        loss: "crossEntropy" of each input unit, or "squared". Raises ValueError for the
        cross-entropy of Gaussian input units. `Autoencoder` trains it further.
        """
        return self.stack.unrolled(loss)

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {}
        for number, machine in enumerate(self._machines):
            for name, array in machine._arrays().items():
                arrays[f"{name} {number}"] = array
        return arrays

    def _facts(self) -> dict[str, Any]:
        names = ("numHidden", "visibleType", "hiddenType", "featuresCol", "outputCol")
        return {
            "machines": [
                {name: machine.getOrDefault(name) for name in names} for machine in self._machines
            ]
        }

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> DBNModel:
        return cls(
            [
                RBMModel(arrays[f"theta {number}"], arrays[f"means {number}"])._set(**params)
                for number, params in enumerate(facts["machines"])
            ]
        )

    def __repr__(self) -> str:
        return f"DBNModel: uid={self.uid}, layers={self.stack.layers}"


@dataclass(frozen=True, eq=False)
class Through:
    """Rows' way up a stack to a layer, and down again, as it is sent to the executors."""

    stack: Stack
    layer: int
    down: bool = False

    def __call__(self, features: Any) -> np.ndarray:
        dense = features.toarray() if issparse(features) else features
        means = self.stack.up(dense.astype(np.float32), self.layer)
        return self.stack.down(means, self.layer) if self.down else means
