"""Classifiers, in place of `pyspark.ml.classification`: one changed import, the same answers."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from pyspark import keyword_only
from pyspark.ml.classification import (
    ProbabilisticClassificationModel,
    ProbabilisticClassifier,
    _LogisticRegressionParams,
    _MultilayerPerceptronParams,
)
from pyspark.ml.linalg import DenseMatrix, DenseVector, Vector, Vectors
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasRegParam
from pyspark.sql import DataFrame

from sparknn.blocks import Blocks, Source, pack
from sparknn.cluster import Cluster
from sparknn.columns import Prediction, with_predictions
from sparknn.errors import InvalidDataError
from sparknn.linear import LinearObjective
from sparknn.losses import loss as loss_named
from sparknn.network import Network
from sparknn.params import (
    HasTraining,
    refuse_unimplemented,
    require,
    to_names,
    to_rates,
    with_setters,
)
from sparknn.persistence import Persistent
from sparknn.rows import Layout
from sparknn.schema import declared_classes, feature_columns, feature_names, numeric_column
from sparknn.solvers import LBFGS, GradientDescent
from sparknn.training import Fitted, fit_full_batch, fit_minibatch

__all__ = [
    "LogisticRegression",
    "LogisticRegressionModel",
    "MultilayerPerceptronClassificationModel",
    "MultilayerPerceptronClassifier",
]

logger = logging.getLogger("sparknn")


class _Classifier(ProbabilisticClassifier, HasTraining, Persistent):
    """What the classifiers' `fit` has in common: pack the rows, then train on the blocks."""

    def _fit(self, dataset: DataFrame):
        cluster = Cluster(dataset.sparkSession)
        self._check()
        model = cluster.run(lambda: self._train(cluster, dataset))
        return self._copyValues(model._resetUid(self.uid))

    def _check(self) -> None:
        """Raise ValueError for params that are out of range."""
        raise NotImplementedError

    def _train(self, cluster: Cluster, dataset: DataFrame):
        raise NotImplementedError

    def _pack(
        self, cluster: Cluster, dataset: DataFrame, classes: int, width: int | None, precise: bool
    ) -> Blocks:
        """Pack features, labels below `classes` (0: any) and weights into resident blocks."""
        weight = _weight_column(self)
        features, label = self.getFeaturesCol(), self.getLabelCol()
        columns, single = feature_columns(dataset, features)
        columns.append(numeric_column(dataset, label))
        if weight:
            columns.append(numeric_column(dataset, weight))
        layout = Layout(
            features,
            single,
            (label,),
            classes,
            weight,
            width,
            self.getHandleInvalid() == "skip",
            feature_names(dataset, features),
        )
        source = Source(layout, self._is_minibatch, precise, self.getSeed())
        return pack(cluster, dataset, source, self._partitions, columns)


class _ClassificationModel(ProbabilisticClassificationModel, Persistent):
    """What the classifiers' models have in common: predictions of one row and of a DataFrame.

    training: how the fit went (a `sparknn.training.Fitted`), or None for a model that was loaded.
    """

    training: Fitted | None = None

    def _predictor(self):
        """Return the function from features, (rows, features), to a Prediction."""
        raise NotImplementedError

    def _transform(self, dataset: DataFrame) -> DataFrame:
        names = Prediction(
            self.getRawPredictionCol(), self.getProbabilityCol(), self.getPredictionCol()
        )
        return with_predictions(
            dataset,
            self.getFeaturesCol(),
            self.numFeatures,
            self._predictor(),
            names,
            self.numClasses,
        )

    def _predict_one(self, value: Vector) -> Prediction:
        row = np.asarray(value.toArray() if hasattr(value, "toArray") else value, np.float64)
        if row.shape != (self.numFeatures,):
            raise ValueError(f"features are {row.shape}; the model takes ({self.numFeatures},)")
        return self._predictor()(row[np.newaxis])

    def predict(self, value: Vector) -> float:
        """Predict the label of one row's features, (features,)."""
        return float(self._predict_one(value).label[0])

    def predictRaw(self, value: Vector) -> Vector:
        """Return the raw prediction for each class, for one row's features."""
        return Vectors.dense(self._predict_one(value).raw[0])

    def predictProbability(self, value: Vector) -> Vector:
        """Return the probability of each class, for one row's features."""
        return Vectors.dense(self._predict_one(value).probability[0])


@with_setters
class LogisticRegression(_Classifier, _LogisticRegressionParams):
    """Logistic regression, binary and multinomial, with MLlib's objective and so its optimum.

    It minimises the weighted mean of the rows' cross-entropy plus an L2 penalty, regParam / 2
    times the sum of squared coefficients: those of standardised columns (divided by their
    deviation) with `standardization`, else those of the columns as they are.

    Parameters
    ----------
    featuresCol, labelCol, predictionCol, probabilityCol, rawPredictionCol, weightCol : str
        A vector or array column; labels 0..K-1; names of the columns that `transform` adds ("":
        not computed); row weights, by default all 1.
    maxIter : int, default 100
        Iterations of "l-bfgs", epochs of "sgd".
    regParam : float, default 0.0
    tol : float, default 1e-6
        "l-bfgs" stops when the objective changes by less than tol times its first value in twenty
        iterations, or the gradient is shorter than tol times the objective; "sgd" when an epoch's
        loss changes by less than tol of it.
    fitIntercept, standardization : bool, default True
    family : str, default "auto"
        "binomial", "multinomial", or by the number of classes.
    solver : str, default "l-bfgs"
        Or "sgd": minibatches on virtually centred and scaled columns, several partitions at once.
        For 10 epochs on data like MNIST use stepSize 0.1, momentum 0.9, blockSize 32 and
        stepSizeSchedule "linear".
    stepSize, stepSizeSchedule, momentum, blockSize, stepsPerRound, seed
        Of "sgd": 0.03, "constant" ("linear" and "cosine" fall to zero), 0.0, 128 rows per
        partition and step, 0 (parameters are averaged after each pass), 1.
    numPartitions : int, optional
        By default one per core, or fewer where there are few rows.
    handleInvalid : str, default "error"
        "skip" leaves invalid rows out.
    deterministic : bool, default False
        Fail where a block that had to be packed again came out different.

    Raises
    ------
    InvalidDataError
        By `fit`: for rows, labels or weights that are invalid, with the column and the first row.
    DivergenceError
        By `fit`: where the loss becomes infinite or NaN.

    References
    ----------
    Nocedal and Wright (2006), Numerical Optimization, chapter 7; McMahan et al. (2017),
    Communication-efficient learning of deep networks, algorithm 1 (averaging).
    """

    SOLVERS = ("l-bfgs", "sgd")

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        maxIter: int = 100,
        regParam: float = 0.0,
        elasticNetParam: float = 0.0,
        tol: float = 1e-6,
        fitIntercept: bool = True,
        threshold: float = 0.5,
        thresholds: list[float] | None = None,
        probabilityCol: str = "probability",
        rawPredictionCol: str = "rawPrediction",
        standardization: bool = True,
        weightCol: str | None = None,
        aggregationDepth: int = 2,
        family: str = "auto",
        lowerBoundsOnCoefficients=None,
        upperBoundsOnCoefficients=None,
        lowerBoundsOnIntercepts=None,
        upperBoundsOnIntercepts=None,
        maxBlockSizeInMB: float = 0.0,
        solver: str = "l-bfgs",
        stepSize: float = 0.03,
        stepSizeSchedule: str = "constant",
        momentum: float = 0.0,
        blockSize: int = 128,
        stepsPerRound: int = 0,
        seed: int | None = None,
        numPartitions: int | None = None,
        handleInvalid: str = "error",
        deterministic: bool = False,
    ):
        super().__init__()
        self._setDefault(solver="l-bfgs")
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **kwargs: Any) -> LogisticRegression:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    def _check(self) -> None:
        refuse_unimplemented(self, UNIMPLEMENTED)
        self._check_training()
        require(self, "regParam", lambda v: v >= 0, "at least 0")
        families = ("auto", "binomial", "multinomial")
        require(self, "family", lambda v: v.lower() in families, f"one of {', '.join(families)}")

    def _train(self, cluster: Cluster, dataset: DataFrame) -> LogisticRegressionModel:
        with self._pack(cluster, dataset, 0, None, precise=True) as blocks:
            histogram = self._histogram(blocks, dataset)
            multinomial = self._is_multinomial(len(histogram))
            units = len(histogram) if multinomial else 1
            if np.count_nonzero(histogram) == 1:
                if self.getFitIntercept():
                    return _constant_model(histogram, multinomial, blocks)
                logger.warning("all labels are the same: coefficients may grow without bound")
            fitted, objective = self._optimise(blocks, histogram, units)
        weights, intercepts = objective.raw(fitted.theta)
        if multinomial and self.getRegParam() == 0:
            # Without a penalty only differences between classes matter: centred as in glmnet.
            weights = weights - weights.mean(axis=1, keepdims=True)
        if multinomial and self.getFitIntercept():
            intercepts = intercepts - intercepts.mean()
        model = LogisticRegressionModel(weights.T, intercepts, len(histogram), multinomial)
        model.training = fitted
        return model

    def _histogram(self, blocks: Blocks, dataset: DataFrame) -> np.ndarray:
        """Return the weight of each class; a nominal label column says how many there are."""
        declared = declared_classes(dataset, self.getLabelCol())
        found = len(blocks.histogram)
        if declared is not None and declared < found:
            raise InvalidDataError(
                f"column {self.getLabelCol()!r} declares {declared} classes in its metadata, but "
                f"holds the label {found - 1}"
            )
        return np.pad(blocks.histogram, (0, (declared or found) - found))

    def _is_multinomial(self, classes: int) -> bool:
        family = self.getFamily().lower()
        if family == "binomial" and classes > 2:
            raise InvalidDataError(
                f"family='binomial' is for two classes, and column {self.getLabelCol()!r} holds "
                f"{classes}; use family='multinomial'"
            )
        return family == "multinomial" or (family == "auto" and classes > 2)

    def _optimise(
        self, blocks: Blocks, histogram: np.ndarray, units: int
    ) -> tuple[Fitted, LinearObjective]:
        mean, deviation = blocks.moments()
        intercept = self.getFitIntercept()
        # Columns that hardly vary would take huge steps if divided by their deviation alone.
        floor = SGD_FLOOR * math.sqrt(np.mean(deviation**2)) if self._is_minibatch else 0.0
        scale = np.where(deviation > 0, deviation + floor, 0.0)
        centre = mean if intercept else np.zeros_like(mean)
        objective = LinearObjective(centre, scale, units, intercept)
        penalty = objective.penalty(self.getRegParam(), deviation, self.getStandardization())
        start = np.zeros(objective.size)
        if intercept:
            start[-units:] = _prior_scores(histogram, units)
        name = "logistic regression"
        if self._is_minibatch:
            fitted = fit_minibatch(
                blocks,
                objective,
                penalty,
                self._optimizer(),
                start,
                self._minibatch(),
                name,
                self.getDeterministic(),
            )
        else:
            solver = LBFGS(start, self.getMaxIter(), self.getTol())
            fitted = fit_full_batch(
                blocks, objective, penalty, solver, name, self.getDeterministic()
            )
        return fitted, objective


UNIMPLEMENTED = (
    "elasticNetParam",
    "threshold",
    "thresholds",
    "lowerBoundsOnCoefficients",
    "upperBoundsOnCoefficients",
    "lowerBoundsOnIntercepts",
    "upperBoundsOnIntercepts",
    "aggregationDepth",
    "maxBlockSizeInMB",
)
"""MLlib's params whose meaning is not built yet."""

SGD_FLOOR = 0.1
"""Added to each column's deviation, as a share of their root mean square, before it divides."""


def _weight_column(instance: Params) -> str | None:
    if not instance.hasParam("weightCol") or not instance.isSet("weightCol"):
        return None
    return instance.getOrDefault("weightCol") or None


def _prior_scores(histogram: np.ndarray, units: int) -> np.ndarray:
    """Return the intercepts that predict the classes' shares, where fits begin as MLlib's do."""
    if units == 1:
        with np.errstate(divide="ignore"):
            return np.log(histogram[1:2] / histogram[0])
    scores = np.log1p(histogram)
    return scores - scores.mean()


def _constant_model(
    histogram: np.ndarray, multinomial: bool, blocks: Blocks
) -> LogisticRegressionModel:
    """Return the model for a single class: it is certain, whatever the features."""
    logger.warning("all labels are the same: the coefficients are zero")
    units = len(histogram) if multinomial else 1
    if multinomial:
        intercepts = np.where(histogram > 0, np.inf, 0.0)
    else:
        intercepts = np.array([np.inf if len(histogram) == 2 else -np.inf])
    model = LogisticRegressionModel(
        np.zeros((units, blocks.features)), intercepts, len(histogram), multinomial
    )
    model.training = Fitted(
        np.zeros(0), [0.0], reason="single class", rows=blocks.rows, skipped=blocks.skipped
    )
    return model


class LogisticRegressionModel(_ClassificationModel, _LogisticRegressionParams):
    """A fitted logistic regression.

    Parameters
    ----------
    coefficients : array of (1, features) for binomial, else (classes, features)
    intercepts : array of (1,) or (classes,)
    numClasses : int
    multinomial : bool
    """

    def __init__(
        self,
        coefficients: np.ndarray,
        intercepts: np.ndarray,
        numClasses: int,
        multinomial: bool,
    ):
        super().__init__()
        self._coefficients = np.asarray(coefficients, np.float64)
        self._intercepts = np.asarray(intercepts, np.float64)
        self._classes, self._multinomial = numClasses, multinomial

    @property
    def coefficientMatrix(self) -> DenseMatrix:
        """The coefficients, (1 or classes, features)."""
        return DenseMatrix(*self._coefficients.shape, self._coefficients.ravel(), True)

    @property
    def interceptVector(self) -> DenseVector:
        """The intercepts, (1 or classes,)."""
        return Vectors.dense(self._intercepts)

    @property
    def coefficients(self) -> DenseVector:
        """The coefficients of a binomial model, (features,)."""
        self._require_binomial("coefficientMatrix")
        return Vectors.dense(self._coefficients[0])

    @property
    def intercept(self) -> float:
        """The intercept of a binomial model."""
        self._require_binomial("interceptVector")
        return float(self._intercepts[0])

    def _require_binomial(self, instead: str) -> None:
        if self._multinomial:
            raise ValueError(
                f"a multinomial model has no single set of coefficients: use {instead}"
            )

    @property
    def numClasses(self) -> int:
        """The number of classes."""
        return self._classes

    @property
    def numFeatures(self) -> int:
        """The number of features."""
        return self._coefficients.shape[1]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        refuse_unimplemented(self, UNIMPLEMENTED)
        return super()._transform(dataset)

    def _predictor(self):
        coefficients, intercepts = self._coefficients, self._intercepts
        multinomial = self._multinomial

        def predict(features: np.ndarray) -> Prediction:
            margins = features @ coefficients.T + intercepts
            if multinomial:
                return Prediction(
                    margins, _probability("softmax", margins), margins.argmax(axis=1).astype(float)
                )
            return _binary(margins, _probability("sigmoid", margins))

        return predict

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"coefficients": self._coefficients, "intercepts": self._intercepts}

    def _facts(self) -> dict[str, Any]:
        return {"numClasses": self._classes, "multinomial": self._multinomial}

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]):
        return cls(arrays["coefficients"], arrays["intercepts"], **facts)

    def __repr__(self) -> str:
        return (
            f"LogisticRegressionModel: uid={self.uid}, numClasses={self.numClasses}, "
            f"numFeatures={self.numFeatures}"
        )


def _probability(units: str, scores: np.ndarray) -> np.ndarray:
    """Return the outputs of a loss's units, in an array of their own."""
    outputs = scores.copy()
    loss_named(units).outputs(outputs)
    return outputs


def _binary(margin: np.ndarray, probability: np.ndarray) -> Prediction:
    """Return two classes' prediction of the margin and probability, (rows, 1), of class 1."""
    return Prediction(
        np.hstack([-margin, margin]),
        np.hstack([1 - probability, probability]),
        (probability[:, 0] > 0.5).astype(float),
    )


class _PerceptronParams(_MultilayerPerceptronParams):
    """The params that the perceptron and its model have beyond MLlib's."""

    activation: Param = Param(
        Params._dummy(),
        "activation",
        "of hidden units: sigmoid, tanh, relu or linear; one name, or a list with one for each "
        "hidden layer",
        typeConverter=to_names,
    )
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

    def getActivation(self) -> str | list[str]:
        """Gets the value of activation or its default value."""
        return self.getOrDefault(self.activation)

    def getLoss(self) -> str:
        """Gets the value of loss or its default value."""
        return self.getOrDefault(self.loss)

    def _network(self, dropout: float | list[float] = 0.0) -> Network:
        loss = "sigmoid-squared" if self.getLoss() == "squared" else None
        return Network(self.getLayers(), self.getActivation(), loss, dropout)


@with_setters
class MultilayerPerceptronClassifier(_Classifier, _PerceptronParams, HasRegParam):
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
        Probability in [0, 1) of leaving out hidden units in training; a list begins with the
        inputs' and goes on with each hidden layer's.
    regParam : float, default 0.0
        L2 penalty on the weights, not the biases: regParam / 2 times the sum of squares.
    solver : str, default "l-bfgs"
        "l-bfgs" and "gd" use all rows in every iteration; "sgd" and "adam" use minibatches.
    maxIter : int, default 100
        Iterations of a full-batch solver, epochs of a minibatch one.
    tol : float, default 1e-6
        When to stop, see `LogisticRegression`; "gd" stops when a step is shorter than tol times
        the weights.
    blockSize : int, default 128
        Rows per partition and minibatch step. Full-batch solvers take what suits the cache.
    stepSize : float, default 0.03, for "adam" 0.001
    stepSizeSchedule : str, default "constant"
        "linear" and "cosine" fall to zero over the epochs.
    momentum : float, default 0.0
        Of "sgd", in [0, 1).
    stepsPerRound : int, default 0
        1: gradients of all partitions are added up at every step. 0: each partition takes steps
        on its own rows, and the weights are averaged after each pass; more: after so many steps.
    initialWeights : Vector, optional
        In MLlib's layout; by default drawn with `seed`, uniform in ±2.4 / inputs for sigmoid as
        MLlib's are, Glorot's for tanh and linear, He's for relu.
    seed : int, default 1
    numPartitions, handleInvalid, deterministic
        See `LogisticRegression`.

    Raises
    ------
    ValueError
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

    SOLVERS = ("l-bfgs", "gd", "sgd", "adam")

    dropout: Param = Param(
        Params._dummy(),
        "dropout",
        "probability in [0, 1) of leaving out hidden units in training; a list begins with the "
        "inputs' and goes on with each hidden layer's",
        typeConverter=to_rates,
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
        activation: str | list[str] = "sigmoid",
        loss: str = "crossEntropy",
        dropout: float | list[float] = 0.0,
        regParam: float = 0.0,
        stepSizeSchedule: str = "constant",
        momentum: float = 0.0,
        stepsPerRound: int = 0,
        numPartitions: int | None = None,
        handleInvalid: str = "error",
        deterministic: bool = False,
    ):
        super().__init__()
        self._setDefault(dropout=0.0, regParam=0.0)
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **kwargs: Any) -> MultilayerPerceptronClassifier:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    def getDropout(self) -> float | list[float]:
        """Gets the value of dropout or its default value."""
        return self.getOrDefault(self.dropout)

    def _check(self) -> None:
        self._check_training()
        if not self.isSet(self.layers):
            raise ValueError(
                "MultilayerPerceptronClassifier: set layers to the sizes of all layers, such as "
                "[784, 100, 10]"
            )
        require(self, "regParam", lambda v: v >= 0, "at least 0")
        require(self, "loss", lambda v: v in ("crossEntropy", "squared"), "crossEntropy or squared")
        network = self._network(self.getDropout())
        if self.isDefined(self.initialWeights) and len(self.getInitialWeights()) != network.size:
            raise ValueError(
                f"initialWeights holds {len(self.getInitialWeights())} values, and layers "
                f"{self.getLayers()} have {network.size}"
            )

    def _train(
        self, cluster: Cluster, dataset: DataFrame
    ) -> MultilayerPerceptronClassificationModel:
        network = self._network(self.getDropout())
        if self.isDefined(self.initialWeights):
            start = self.getInitialWeights().toArray()
        else:
            start = network.initial(self.getSeed())
        classes = max(2, network.layers[-1])
        with self._pack(cluster, dataset, classes, network.layers[0], precise=False) as blocks:
            fitted = self._optimise(blocks, network, start)
        model = MultilayerPerceptronClassificationModel(fitted.theta)
        model.training = fitted
        return model

    def _optimise(self, blocks: Blocks, network: Network, start: np.ndarray) -> Fitted:
        penalty = network.penalty(self.getRegParam())
        name = "perceptron"
        if self._is_minibatch:
            return fit_minibatch(
                blocks,
                network,
                penalty,
                self._optimizer(),
                start,
                self._minibatch(),
                name,
                self.getDeterministic(),
            )
        if self.getSolver() == "gd":
            solver = GradientDescent(start, self.getStepSize(), self.getMaxIter(), self.getTol())
        else:
            solver = LBFGS(start, self.getMaxIter(), self.getTol())
        return fit_full_batch(blocks, network, penalty, solver, name, self.getDeterministic())


class MultilayerPerceptronClassificationModel(_ClassificationModel, _PerceptronParams):
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

    def _predictor(self):
        network, theta = self._network(), self._weights.astype(np.float32)

        def predict(features: np.ndarray) -> Prediction:
            scores = network.scores(theta, features).astype(np.float64)
            probability = _probability(network.loss.name, scores)
            if scores.shape[1] == 1:
                return _binary(scores, probability)
            probability /= probability.sum(axis=1, keepdims=True)
            return Prediction(scores, probability, scores.argmax(axis=1).astype(float))

        return predict

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
