"""Autoencoders that begin as unrolled deep belief networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark import keyword_only
from pyspark.ml import Estimator, Model
from pyspark.ml.linalg import DenseVector, Vectors
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasElasticNetParam,
    HasFeaturesCol,
    HasOutputCol,
    HasRegParam,
)
from pyspark.sql import DataFrame
from scipy.sparse import issparse

from sparknn.blocks import Blocks
from sparknn.boltzmann import Stack, unrolled_network
from sparknn.columns import with_column
from sparknn.errors import InvalidParamError
from sparknn.feature.fine_tuning import FineTuned
from sparknn.feature.layers import HasLayers, with_layer_settings
from sparknn.feature.summary import RBMTrainingSummary
from sparknn.fitting import Beginning, Trainable, Wanted
from sparknn.network import Network
from sparknn.network_fit import check_penalty, network_fit
from sparknn.params import require, with_setters
from sparknn.persistence import Persistent
from sparknn.training import Fitted

__all__ = ["Autoencoder", "AutoencoderModel"]


class _AutoencoderParams(HasLayers, HasFeaturesCol, HasOutputCol):
    """The params that an autoencoder and its model have in common."""

    codeType: Param[str] = Param(
        Params._dummy(),
        "codeType",
        "of the code layer; gaussian: linear units, pre-trained with unit-variance noise; binary: "
        "sigmoid units",
        typeConverter=TypeConverters.toString,
    )
    loss: Param[str] = Param(
        Params._dummy(),
        "loss",
        "crossEntropy of each input unit, for values in [0, 1]; squared: half the squared error",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(codeType="gaussian", loss="crossEntropy", outputCol="code")

    def getCodeType(self) -> str:
        """Gets the value of codeType or its default value."""
        return self.getOrDefault(self.codeType)

    def getLoss(self) -> str:
        """Gets the value of loss or its default value."""
        return self.getOrDefault(self.loss)

    @property
    def _top_type(self) -> str:
        return self.getCodeType()

    def _network(self) -> Network:
        return unrolled_network(
            self.getLayers(), self.getVisibleType(), self.getCodeType(), self.getLoss()
        )


@with_setters
@with_layer_settings
class Autoencoder(
    FineTuned, Estimator, Trainable, _AutoencoderParams, HasRegParam, HasElasticNetParam
):
    """A deep autoencoder: pre-trained as a deep belief network, unrolled, and fine-tuned.

    The network goes up through `layers` to the code and down again to the input, which it learns
    to reproduce; the packed rows are input and target at once.

    Parameters
    ----------
    featuresCol, outputCol : str, default "features" and "code"
        A vector or array column; the column of codes that `transform` adds.
    layers : list of int
        Sizes of the input, the hidden layers and the code, such as [784, 1000, 500, 250, 30].
    visibleType : str, default "binary"
        Of the input: "binary" for values in [0, 1], "gaussian" for standardised ones.
    codeType : str, default "gaussian"
        "gaussian": linear code units; "binary": sigmoid ones.
    loss : str, default "crossEntropy"
        Of each input unit; or "squared": half the squared error, which Gaussian inputs need.
    solver : str, default "sgd"
        Of the fine-tuning: "sgd", "adam", "l-bfgs", "cg" or "gd".
    pretrainMaxIter, pretrainStepSize, pretrainStepSizeSchedule, pretrainMomentum, \
pretrainMomentumSchedule, pretrainRegParam, pretrainBlockSize, pretrainStepsPerRound, \
pretrainTol, pretrainCdSteps, pretrainPersistent, pretrainSampleVisible, \
pretrainSparsityTarget, pretrainSparsityCost, pretrainMaxNorm
        The params of `RBM`, with its defaults, for the pre-training: one value, or a list with one
        for each layer up to the code.
    maxIter, tol, blockSize, stepSize, stepSizeSchedule, momentum, stepsPerRound, regParam, \
elasticNetParam
        Of the fine-tuning: see `sparknn.classification.MultilayerPerceptronClassifier`.
    validationIndicatorCol, patience, handleInvalid, checkpointDir, checkpointInterval, seed, \
numPartitions, deterministic, gradientTol
        See `sparknn.classification.DeepBeliefNetworkClassifier`.

    Raises
    ------
    InvalidParamError
        By `fit`: for params out of range.
    InvalidDataError
        By `fit`: for rows that are invalid, or not what visible units stand for.
    DivergenceError
        By `fit`: where the loss becomes infinite or NaN.

    References
    ----------
    Hinton and Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.
    """

    NAME = "autoencoder"
    SOLVERS = ("l-bfgs", "cg", "gd", "sgd", "adam")
    INVALID = ("error", "skip", "keep")

    _fit = FineTuned._fit
    fitMultiple = FineTuned.fitMultiple

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        outputCol: str = "code",
        layers: list[int] | None = None,
        visibleType: str = "binary",
        codeType: str = "gaussian",
        loss: str = "crossEntropy",
        pretrainMaxIter: int | list[int] = 10,
        pretrainStepSize: float | list[float] | None = None,
        pretrainStepSizeSchedule: str | list[str] = "constant",
        pretrainMomentum: float | list[float] = 0.9,
        pretrainMomentumSchedule: str | list[str] = "step",
        pretrainRegParam: float | list[float] = 0.0,
        pretrainBlockSize: int | list[int] = 100,
        pretrainStepsPerRound: int | list[int] = 0,
        pretrainTol: float | list[float] = 0.0,
        pretrainCdSteps: int | list[int] = 1,
        pretrainPersistent: bool | list[bool] = False,
        pretrainSampleVisible: bool | list[bool] = True,
        pretrainSparsityTarget: float | list[float] = 0.1,
        pretrainSparsityCost: float | list[float] = 0.0,
        pretrainMaxNorm: float | list[float] | None = None,
        maxIter: int = 100,
        tol: float = 1e-6,
        seed: int | None = None,
        blockSize: int = 128,
        stepSize: float = 0.03,
        solver: str = "sgd",
        regParam: float = 0.0,
        elasticNetParam: float = 0.0,
        stepSizeSchedule: str = "constant",
        momentum: float = 0.0,
        stepsPerRound: int = 0,
        numPartitions: int | None = None,
        handleInvalid: str = "error",
        deterministic: bool = False,
        gradientTol: float = 0.0,
        validationIndicatorCol: str | None = None,
        patience: int = 5,
        checkpointDir: str | None = None,
        checkpointInterval: int = 10,
    ):
        super().__init__()
        self._setDefault(solver="sgd", maxIter=100, tol=1e-6, regParam=0.0, elasticNetParam=0.0)
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **kwargs: Any) -> Autoencoder:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    def _check(self) -> None:
        Trainable._check(self)
        require(self, "codeType", lambda v: v in ("binary", "gaussian"), "binary or gaussian")
        require(self, "loss", lambda v: v in ("crossEntropy", "squared"), "crossEntropy or squared")
        self._rbms()
        check_penalty(self)
        try:
            self._network()
        except ValueError as error:
            raise InvalidParamError(f"{type(self).__name__}: {error}") from None

    def _wanted(self) -> Wanted:
        # The rows are their own targets, and those are dense.
        return Wanted((), None, self.getLayers()[0], precise=False, dense=True, bounds=self._bounds)

    def _begin_from(self, stack: Stack, blocks: Blocks, dataset: DataFrame) -> Beginning:
        network, start = stack.unrolled(self.getLoss())

        def model(fitted: Fitted | None) -> AutoencoderModel:
            assert fitted is not None
            found = AutoencoderModel(fitted.theta)
            found.training = fitted
            return found

        return Beginning(network_fit(self, blocks, network, start), model)

    def _complete(self, model: Any, network: Network) -> None:
        """Leave the layers as they are: up to the code."""


@with_setters
class AutoencoderModel(Model, _AutoencoderParams, Persistent):
    """A fitted autoencoder.

    Parameters
    ----------
    weights : array of (parameters,)
        Layer by layer, up to the code and down again: the weights, (inputs, units) in C order,
        then the biases.

    training: how the fine-tuning went (a `sparknn.training.Fitted`), pretraining: how that of each
    layer before; None for a model that was loaded.
    """

    training: Fitted | None = None
    pretraining: list[RBMTrainingSummary] | None = None

    def __init__(self, weights: np.ndarray):
        super().__init__()
        self._weights = np.asarray(weights, np.float64)

    @property
    def weights(self) -> DenseVector:
        """All weights and biases."""
        return Vectors.dense(self._weights)

    @property
    def network(self) -> Network:
        """The network, as numbers."""
        return self._network()

    @property
    def numFeatures(self) -> int:
        """The number of features."""
        return self.getLayers()[0]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        layers = self.getLayers()
        # The code's layer as the output of a network that ends there.
        units = "squared" if self.getCodeType() == "gaussian" else "sigmoid"
        encoder = Network(layers, "sigmoid", units)
        compute = _Outputs(encoder, self._weights[: encoder.size])
        features, output = self.getFeaturesCol(), self.getOutputCol()
        return with_column(dataset, features, self.numFeatures, compute, output, layers[-1])

    def reconstruct(self, dataset: DataFrame, outputCol: str = "reconstruction") -> DataFrame:
        """Return `dataset` with what becomes of each row on its way through the code."""
        compute, width = _Outputs(self.network, self._weights), self.numFeatures
        return with_column(dataset, self.getFeaturesCol(), width, compute, outputCol, width)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"weights": self._weights}

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> AutoencoderModel:
        return cls(arrays["weights"])

    def __repr__(self) -> str:
        return f"AutoencoderModel: uid={self.uid}, layers={self.getLayers()}"


@dataclass(frozen=True, eq=False)
class _Outputs:
    """A network's outputs as a function of rows, as it is sent to the executors."""

    network: Network
    theta: np.ndarray

    def __call__(self, features: Any) -> np.ndarray:
        dense = features.toarray() if issparse(features) else features
        return self.network.outputs(self.theta, dense)
