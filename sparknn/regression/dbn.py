"""The deep belief network as a regressor: a perceptron that begins as a generative model."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark import keyword_only
from pyspark.sql import DataFrame

from sparknn.blocks import Blocks
from sparknn.boltzmann import Stack
from sparknn.feature import RBMTrainingSummary
from sparknn.feature.fine_tuning import FineTuned
from sparknn.feature.layers import with_layer_settings
from sparknn.fitting import Beginning, Trainable, Wanted
from sparknn.losses import loss as loss_named
from sparknn.moments import target_moments
from sparknn.network import Network
from sparknn.network_fit import check_network, network_fit
from sparknn.params import require, with_setters
from sparknn.prediction import regression_perceptron
from sparknn.regression.perceptron import (
    LOSSES,
    MultilayerPerceptronRegressionModel,
    MultilayerPerceptronRegressor,
    last_layer,
)
from sparknn.scaling import ScaledLoss, Scaling
from sparknn.training import Fitted

__all__ = ["DeepBeliefNetworkRegressionModel", "DeepBeliefNetworkRegressor"]


@with_setters
@with_layer_settings
class DeepBeliefNetworkRegressor(FineTuned, MultilayerPerceptronRegressor):
    """A perceptron for regression that is pre-trained, without targets, as a deep belief network.

    See `sparknn.classification.DeepBeliefNetworkClassifier` for the pre-training and its params,
    and `MultilayerPerceptronRegressor` for targets, which are scaled inside, and the fine-tuning.
    Rows whose targets are all null take part in the pre-training only.

    Parameters
    ----------
    layers : list of int
        Sizes of the input and of each hidden layer; the output layer has a unit for each target.
    solver : str, default "sgd"
    featuresCol, labelCol, predictionCol, labelCols, loss, dropout, regParam, elasticNetParam, \
weightCol, maxIter, tol, blockSize, stepSize, stepSizeSchedule, momentum, stepsPerRound, seed
        See `MultilayerPerceptronRegressor`.
    visibleType, pretrainMaxIter, pretrainStepSize, pretrainStepSizeSchedule, pretrainMomentum, \
pretrainMomentumSchedule, pretrainRegParam, pretrainBlockSize, pretrainStepsPerRound, \
pretrainTol, pretrainCdSteps, pretrainPersistent, pretrainSampleVisible, \
pretrainSparsityTarget, pretrainSparsityCost, pretrainMaxNorm, handleInvalid, numPartitions, \
deterministic, gradientTol, validationIndicatorCol, patience, checkpointDir, checkpointInterval
        See `sparknn.classification.DeepBeliefNetworkClassifier`.

    Raises
    ------
    InvalidParamError
        By `fit`: for params out of range.
    InvalidDataError
        By `fit`: for rows or targets that are invalid, or not what visible units stand for.
    DivergenceError
        By `fit`: where the loss becomes infinite or NaN.
    """

    NAME = "DBN"
    INVALID = ("error", "skip", "keep")

    _fit = FineTuned._fit
    fitMultiple = FineTuned.fitMultiple

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        labelCols: list[str] | None = None,
        layers: list[int] | None = None,
        visibleType: str = "binary",
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
        loss: str = "squared",
        maxIter: int = 100,
        tol: float = 1e-6,
        seed: int | None = None,
        blockSize: int = 128,
        stepSize: float = 0.03,
        solver: str = "sgd",
        dropout: float | list[float] = 0.0,
        regParam: float = 0.0,
        elasticNetParam: float = 0.0,
        weightCol: str | None = None,
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
        given = self._input_kwargs
        super().__init__()
        self._setDefault(solver="sgd", activation="sigmoid")
        self._set(**given)

    @keyword_only
    def setParams(self, **kwargs: Any) -> DeepBeliefNetworkRegressor:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    def _network(self, dropout: float | list[float] = 0.0) -> Network:
        layers = [*self.getLayers(), len(self._targets)]
        return regression_perceptron(layers, "sigmoid", dropout)

    def _check(self) -> None:
        Trainable._check(self)
        require(self, "loss", lambda v: v in LOSSES, f"one of {', '.join(LOSSES)}")
        require(self, "labelCols", lambda v: len(v) > 0, "one column or more")
        require(self, "activation", lambda v: v == "sigmoid", "sigmoid, as the machines' units are")
        require(self, "initialWeights", lambda v: False, "unset: pre-training gives them")
        self._rbms()
        check_network(self)

    def _wanted(self) -> Wanted:
        return Wanted(
            tuple(self._targets), None, self.getLayers()[0], precise=False, bounds=self._bounds
        )

    def _begin_from(self, stack: Stack, blocks: Blocks, dataset: DataFrame) -> Beginning:
        scaling = Scaling(*target_moments(blocks))
        loss = ScaledLoss(loss_named(self.getLoss()), scaling)
        layers = [*self.getLayers(), len(self._targets)]
        network = regression_perceptron(layers, "sigmoid", self.getDropout(), loss)
        start = stack.initial_weights(len(self._targets), self.getSeed())

        def model(fitted: Fitted | None) -> DeepBeliefNetworkRegressionModel:
            assert fitted is not None
            weights = last_layer(network, fitted.theta, scaling.raw)
            found = DeepBeliefNetworkRegressionModel(weights)
            found.training = fitted
            return found

        return Beginning(network_fit(self, blocks, network, start), model)


class DeepBeliefNetworkRegressionModel(MultilayerPerceptronRegressionModel):
    """A fitted deep belief network for regression: a perceptron, with its output layer.

    Parameters
    ----------
    weights : array of (parameters,)
        Layer by layer the weights, (inputs, units) in C order, then the biases.

    pretraining: how the training of each hidden layer went, or None for a model that was loaded.
    """

    pretraining: list[RBMTrainingSummary] | None = None

    def __init__(self, weights: np.ndarray):
        super().__init__(weights)
        self._setDefault(activation="sigmoid")

    def __repr__(self) -> str:
        return (
            f"DeepBeliefNetworkRegressionModel: uid={self.uid}, layers={self.getLayers()}, "
            f"numTargets={self.numTargets}"
        )
