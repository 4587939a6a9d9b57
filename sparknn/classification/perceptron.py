"""The multilayer perceptron."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark import keyword_only
from pyspark.ml.classification import _MultilayerPerceptronParams
from pyspark.ml.linalg import DenseVector, Vector, Vectors
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasElasticNetParam, HasRegParam, HasWeightCol
from pyspark.sql import DataFrame

from sparknn.blocks import Blocks
from sparknn.classification.base import ClassificationModel, Classifier
from sparknn.classification.interchange import from_mllib, model_to_mllib
from sparknn.classification.summary import Kind
from sparknn.classification.thresholds import check_thresholds
from sparknn.fitting import Beginning, Wanted
from sparknn.network import Network
from sparknn.network_fit import check_network, network_fit, operations, start_of
from sparknn.params import HasActivation, HasDropout, require, with_setters
from sparknn.prediction import NetworkPredictor, perceptron
from sparknn.rows import LARGEST
from sparknn.training import Fitted

__all__ = ["MultilayerPerceptronClassificationModel", "MultilayerPerceptronClassifier"]


class _PerceptronParams(_MultilayerPerceptronParams, HasActivation, HasWeightCol):
    """The params that the perceptron and its model have beyond MLlib's."""

    loss: Param[str] = Param(
        Params._dummy(),
        "loss",
        "crossEntropy: softmax outputs, or a sigmoid one where layers end in 1; squared: sigmoid "
        "outputs with squared error",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(activation="sigmoid", loss="crossEntropy")

    def getLoss(self) -> str:
        """Gets the value of loss or its default value."""
        return self.getOrDefault(self.loss)

    def _network(self, dropout: float | list[float] = 0.0) -> Network:
        return perceptron(self.getLayers(), self.getActivation(), self.getLoss(), dropout)


@with_setters
class MultilayerPerceptronClassifier(
    Classifier, _PerceptronParams, HasDropout, HasRegParam, HasElasticNetParam
):
    """A multilayer perceptron; MLlib's with every default unchanged.

    Parameters
    ----------
    featuresCol, labelCol, predictionCol, probabilityCol, rawPredictionCol : str
        A vector or array column; labels 0..K-1; names of the columns that `transform` adds ("":
        not computed).
    layers : list of int
        Sizes from the input to the output layer. The last is the number of classes, or 1 for two
        classes and a sigmoid unit.
    activation : str or list of str, default "sigmoid"
        Of hidden units: "sigmoid", "tanh", "relu", "linear"; a list has one for each layer.
    loss : str, default "crossEntropy"
        Or "squared": sigmoid outputs with half the squared error.
    dropout : float or list of float, default 0.0
        Probability in [0, 1) of leaving out hidden units in training, by sgd or adam; a list begins
        with the inputs' and goes on with each hidden layer's.
    regParam, elasticNetParam : float, default 0.0
        Strength of the penalty on the weights, not the biases, at least 0, and the share of L1 in
        it, in [0, 1]: regParam times (1 - elasticNetParam) / 2 times the sum of squares, and
        elasticNetParam times the sum of magnitudes. L1 with "l-bfgs" (then OWL-QN) leaves exact
        zeros.
    weightCol : str, optional
        Row weights, by default all 1. (MLlib's perceptron has none, and averages its blocks of
        rows alike, the last and smaller one too; here rows count alike.)
    classWeights : list of float, optional
        What rows of each class weigh, at least 0, times their own weights; by default all 1. The
        loss is the mean over weights, so that only their ratios count.
    solver : str, default "l-bfgs"
        "l-bfgs", "cg" (conjugate gradients) and "gd" use all rows in every iteration; "sgd" and
        "adam" use minibatches.
    maxIter : int, default 100
        Iterations of a full-batch solver, epochs of a minibatch one.
    tol : float, default 1e-6
        When to stop, see `LogisticRegression`; "gd" stops when a step is shorter than tol times
        the weights.
    blockSize : int, default 128
        Rows per partition and minibatch step. Full-batch solvers take what suits the cache.
    stepSize : float, default 0.03, for "adam" 0.001
    stepSizeSchedule : str, default "constant"
        "linear" and "cosine" fall to zero over the epochs, "step" to a tenth after half of them
        and a hundredth after three quarters, "inverseTime" to a tenth.
    momentum : float, default 0.0
        Of "sgd", in [0, 1).
    stepsPerRound : int, default 0
        1: gradients of all partitions are added up at every step. 0: each partition takes steps
        on its own rows, and the weights are averaged after each pass; more: after so many steps.
    thresholds : list of float, optional
        One for each class: the largest of probability over threshold wins. At most one is 0.
    initialWeights : Vector, optional
        In MLlib's layout; by default drawn with `seed`, for sigmoid the very ones that MLlib draws
        (uniform in ±2.4 / sqrt(inputs)), Glorot's for tanh and linear, He's for relu.
    seed : int, default 1
    numPartitions, handleInvalid, deterministic, gradientTol, validationIndicatorCol, patience,
    checkpointDir, checkpointInterval
        See `LogisticRegression`.

    Raises
    ------
    InvalidParamError
        By `fit`: for params out of range.
    InvalidDataError
        By `fit`: for rows or labels that are invalid or do not fit `layers`.
    DivergenceError
        By `fit`: where the loss becomes infinite or NaN.

    References
    ----------
    Rumelhart, Hinton and Williams (1986), Learning representations by back-propagating errors;
    McMahan et al. (2017), Communication-efficient learning of deep networks (averaging);
    Srivastava et al. (2014), Dropout.
    """

    NAME = "perceptron"
    SOLVERS = ("l-bfgs", "cg", "gd", "sgd", "adam")
    LAYERS = "[784, 100, 10]"

    classWeights: Param[list[float]] = Param(
        Params._dummy(),
        "classWeights",
        "what rows of each class weigh, at least 0, times their own weights; by default all 1",
        typeConverter=TypeConverters.toListFloat,
    )

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        maxIter: int = 100,
        tol: float = 1e-6,
        seed: int | None = None,
        layers: list[int] | None = None,
        blockSize: int = 128,
        stepSize: float = 0.03,
        solver: str = "l-bfgs",
        initialWeights: Vector | None = None,
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
        thresholds: list[float] | None = None,
        activation: str | list[str] = "sigmoid",
        loss: str = "crossEntropy",
        dropout: float | list[float] = 0.0,
        regParam: float = 0.0,
        elasticNetParam: float = 0.0,
        weightCol: str | None = None,
        classWeights: list[float] | None = None,
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
        self._setDefault(regParam=0.0, elasticNetParam=0.0)
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **kwargs: Any) -> MultilayerPerceptronClassifier:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    def getClassWeights(self) -> list[float]:
        """Gets the value of classWeights."""
        return self.getOrDefault(self.classWeights)

    def _check(self) -> None:
        super()._check()
        require(self, "loss", lambda v: v in ("crossEntropy", "squared"), "crossEntropy or squared")
        classes = max(2, check_network(self).layers[-1])
        check_thresholds(self, classes)
        require(
            self,
            "classWeights",
            lambda v: len(v) == classes and any(v) and all(0 <= each <= LARGEST for each in v),
            f"{classes} numbers, one for each class, at least 0 and not all 0",
        )

    def _wanted(self) -> Wanted:
        layers = self.getLayers()
        weights = self.getClassWeights() if self.isDefined(self.classWeights) else ()
        classes = max(2, layers[-1])
        return Wanted((self.getLabelCol(),), classes, layers[0], False, tuple(weights))

    def _begin(self, blocks: Blocks, dataset: DataFrame) -> Beginning:
        network = self._network(self.getDropout())
        fit = network_fit(self, blocks, network, start_of(self, network))
        return Beginning(fit, self._model)

    def _model(self, fitted: Fitted | None) -> MultilayerPerceptronClassificationModel:
        assert fitted is not None
        model = MultilayerPerceptronClassificationModel(fitted.theta)
        model.training = fitted
        return model


class MultilayerPerceptronClassificationModel(ClassificationModel, _PerceptronParams):
    """A fitted multilayer perceptron.

    Parameters
    ----------
    weights : array of (parameters,)
        In MLlib's layout: layer by layer the weights, (inputs, units) in C order, then the biases.
    """

    def __init__(self, weights: np.ndarray):
        super().__init__()
        self._weights = np.asarray(weights, np.float64)

    @property
    def weights(self) -> DenseVector:
        """All weights and biases, in MLlib's layout."""
        return Vectors.dense(self._weights)

    @property
    def numClasses(self) -> int:
        """The number of classes."""
        return max(2, self.getLayers()[-1])

    @property
    def numFeatures(self) -> int:
        """The number of features."""
        return self.getLayers()[0]

    def _size(self) -> tuple[int, int]:
        return len(self._weights), operations(self.getLayers())

    def _summary_kind(self) -> Kind:
        weight = self.getWeightCol() if self.isDefined(self.weightCol) else ""
        columns = [self.getPredictionCol(), self.getLabelCol(), weight]
        return Kind("MultilayerPerceptronClassification", columns)

    def _predictor(self, column: str) -> NetworkPredictor:
        check_thresholds(self, self.numClasses)
        thresholds = self.getThresholds() if self.isDefined(self.thresholds) else None
        return NetworkPredictor(self._network(), self._weights.astype(np.float32), thresholds)

    @classmethod
    def fromMLlib(cls, model) -> MultilayerPerceptronClassificationModel:
        """Return the same model as MLlib's one; the summary of its training stays there."""
        return from_mllib(model, cls(model.weights.toArray()))

    def toMLlib(self):
        """Return the same model as a pyspark.ml one.

        Raises ValueError for what MLlib's perceptron is not: only sigmoid units in hidden layers,
        and a softmax over two outputs or more.
        """
        network = self._network()
        others = {each.name for each in network.activations} - {"sigmoid"}
        if others or network.loss.name != "softmax":
            found = f"hidden units are {', '.join(sorted(others))}" if others else ""
            found = found or f"outputs are {network.loss.name}"
            raise ValueError(
                f"MLlib's perceptron has sigmoid units in hidden layers and softmax outputs; here "
                f"{found}"
            )
        return model_to_mllib(self, self.weights)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"weights": self._weights}

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]):
        return cls(arrays["weights"])

    def __repr__(self) -> str:
        return (
            f"MultilayerPerceptronClassificationModel: uid={self.uid}, "
            f"numLayers={len(self.getLayers())}, numClasses={self.numClasses}, "
            f"numFeatures={self.numFeatures}"
        )
