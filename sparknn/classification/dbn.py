"""The deep belief network as a classifier: a perceptron that begins as a generative model."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.sql import DataFrame

from sparknn.blocks import Blocks
from sparknn.boltzmann import Stack
from sparknn.classification.base import Classifier
from sparknn.classification.perceptron import (
    MultilayerPerceptronClassificationModel,
    MultilayerPerceptronClassifier,
)
from sparknn.classification.thresholds import check_thresholds
from sparknn.feature import RBMTrainingSummary
from sparknn.feature.fine_tuning import FineTuned
from sparknn.feature.layers import with_layer_settings
from sparknn.fitting import Beginning, Wanted
from sparknn.network import Network
from sparknn.network_fit import check_network, network_fit
from sparknn.params import require, with_setters
from sparknn.prediction import perceptron
from sparknn.training import Fitted

__all__ = ["DeepBeliefNetworkClassificationModel", "DeepBeliefNetworkClassifier"]


@with_setters
@with_layer_settings
class DeepBeliefNetworkClassifier(FineTuned, MultilayerPerceptronClassifier):
    """A perceptron whose hidden layers are pre-trained, without labels, as a deep belief network.

    First each hidden layer is trained as a restricted Boltzmann machine on the one below; then an
    output layer is added and all weights are trained by backpropagation. Rows whose label is null
    take part in the pre-training only. (NaN is no missing label, but an error.)

    Parameters
    ----------
    layers : list of int
        Sizes of the input and of each hidden layer, such as [784, 500, 500, 2000]. The output
        layer, one unit for each class, follows from the labels.
    visibleType : str, default "binary"
        Of the input: "binary" for values in [0, 1], "gaussian" for standardised ones.
    pretrainMaxIter, pretrainStepSize, pretrainStepSizeSchedule, pretrainMomentum, \
pretrainMomentumSchedule, pretrainRegParam, pretrainBlockSize, pretrainStepsPerRound, \
pretrainTol, pretrainCdSteps, pretrainPersistent, pretrainSampleVisible, \
pretrainSparsityTarget, pretrainSparsityCost, pretrainMaxNorm
        The params of `sparknn.feature.RBM`, with its defaults, for the pre-training: one value, or
        a list with one for each hidden layer.
    featuresCol, labelCol, predictionCol, probabilityCol, rawPredictionCol, loss, dropout, \
regParam, elasticNetParam, weightCol, maxIter, tol, blockSize, stepSize, stepSizeSchedule, \
momentum, stepsPerRound, thresholds
        Of the fine-tuning: see `MultilayerPerceptronClassifier`. Row weights count there alone.
    solver : str, default "sgd"
        Of the fine-tuning: "sgd", "adam", "l-bfgs", "cg" or "gd".
    validationIndicatorCol, patience
        Held-out rows stop the training of each layer, by their reconstruction error, and the
        fine-tuning, by their loss.
    handleInvalid : str, default "error"
        "skip" leaves invalid rows out; "keep" takes values that visible units do not stand for.
    checkpointDir, checkpointInterval
        Each layer's and the fine-tuning's state go into directories of their own below
        `checkpointDir`; a fit that was killed goes on in the stage where it was.
    seed, numPartitions, deterministic, gradientTol
        See `LogisticRegression`.

    Raises
    ------
    InvalidParamError
        By `fit`: for params out of range.
    InvalidDataError
        By `fit`: for rows or labels that are invalid, or not what visible units stand for.
    DivergenceError
        By `fit`: where the loss becomes infinite or NaN.

    References
    ----------
    Hinton, Osindero and Teh (2006), A fast learning algorithm for deep belief nets; Hinton and
    Salakhutdinov (2006), Reducing the dimensionality of data with neural networks; Erhan et al.
    (2010), Why does unsupervised pre-training help deep learning?
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
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
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
        maxIter: int = 100,
        tol: float = 1e-6,
        seed: int | None = None,
        blockSize: int = 128,
        stepSize: float = 0.03,
        solver: str = "sgd",
        thresholds: list[float] | None = None,
        loss: str = "crossEntropy",
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
        self._setDefault(solver="sgd")
        self._set(**given)

    @keyword_only
    def setParams(self, **kwargs: Any) -> DeepBeliefNetworkClassifier:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    def _network(self, dropout: float | list[float] = 0.0, classes: int = 2) -> Network:
        return perceptron([*self.getLayers(), classes], "sigmoid", self.getLoss(), dropout)

    def _check(self) -> None:
        Classifier._check(self)
        require(self, "loss", lambda v: v in ("crossEntropy", "squared"), "crossEntropy or squared")
        require(self, "activation", lambda v: v == "sigmoid", "sigmoid, as the machines' units are")
        require(self, "initialWeights", lambda v: False, "unset: pre-training gives them")
        require(self, "classWeights", lambda v: False, "unset: give rows their weights (weightCol)")
        self._rbms()
        check_network(self)

    def _wanted(self) -> Wanted:
        return Wanted(
            (self.getLabelCol(),), 0, self.getLayers()[0], precise=False, bounds=self._bounds
        )

    def _begin_from(self, stack: Stack, blocks: Blocks, dataset: DataFrame) -> Beginning:
        classes = max(2, self._class_count(blocks, dataset))
        check_thresholds(self, classes)
        network = self._network(self.getDropout(), classes)
        start = stack.initial_weights(classes, self.getSeed())
        return Beginning(network_fit(self, blocks, network, start), self._model)

    def _model(self, fitted: Fitted | None) -> DeepBeliefNetworkClassificationModel:
        assert fitted is not None
        model = DeepBeliefNetworkClassificationModel(fitted.theta)
        model.training = fitted
        return model


class DeepBeliefNetworkClassificationModel(MultilayerPerceptronClassificationModel):
    """A fitted deep belief network that classifies: a perceptron, with its output layer.

    Parameters
    ----------
    weights : array of (parameters,)
        In MLlib's layout: layer by layer the weights, (inputs, units) in C order, then the biases.

    pretraining: how the training of each hidden layer went, or None for a model that was loaded.
    """

    pretraining: list[RBMTrainingSummary] | None = None

    def __repr__(self) -> str:
        return (
            f"DeepBeliefNetworkClassificationModel: uid={self.uid}, layers={self.getLayers()}, "
            f"numClasses={self.numClasses}"
        )
