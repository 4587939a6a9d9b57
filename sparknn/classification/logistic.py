"""Logistic regression."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from pyspark import keyword_only
from pyspark.ml.linalg import Matrix, Vector, VectorUDT
from pyspark.sql import DataFrame

from sparknn.blocks import Blocks
from sparknn.classification.base import ClassificationModel, Classifier
from sparknn.classification.compressed import compressed_matrix, compressed_vector, row_of
from sparknn.classification.interchange import from_mllib, model_to_mllib
from sparknn.classification.problem import BOUNDS, Problem
from sparknn.classification.summary import Kind
from sparknn.classification.thresholds import LogisticParams, check_thresholds
from sparknn.columns import checked_vectors, require_new
from sparknn.errors import InvalidDataError
from sparknn.fitting import Beginning, Wanted
from sparknn.params import HasInitialWeights, require, with_setters
from sparknn.prediction import LinearPredictor
from sparknn.schema import column_type
from sparknn.training import Fitted

__all__ = ["LogisticRegression", "LogisticRegressionModel"]

logger = logging.getLogger("sparknn")


@with_setters
class LogisticRegression(Classifier, LogisticParams, HasInitialWeights):
    """Logistic regression, binary and multinomial, with MLlib's objective and so its optimum.

    It minimises the weighted mean of the rows' cross-entropy plus regParam times
    (1 - elasticNetParam) / 2 times the sum of squared coefficients and elasticNetParam times the
    sum of their magnitudes: those of standardised columns (divided by their deviation) with
    `standardization`, else those of the columns as they are.

    Parameters
    ----------
    featuresCol, labelCol, predictionCol, probabilityCol, rawPredictionCol, weightCol : str
        A vector or array column; labels 0..K-1; names of the columns that `transform` adds ("":
        not computed); row weights, by default all 1.
    maxIter : int, default 100
        Iterations of "l-bfgs", epochs of "sgd".
    regParam, elasticNetParam : float, default 0.0
        Strength of the penalty, at least 0, and the share of L1 in it, in [0, 1]. With L1 the
        solver is OWL-QN, and coefficients become exactly zero ("sgd" leaves them small).
    lowerBoundsOnCoefficients, upperBoundsOnCoefficients : Matrix, optional
        (1 or classes, features). With bounds the solver is a projected L-BFGS, as in MLlib.
    lowerBoundsOnIntercepts, upperBoundsOnIntercepts : Vector, optional
        (1 or classes,)
    initialWeights : Vector, optional
        Where to begin: the coefficients row by row, (1 or classes, features), then the
        intercepts. By default zeros, and the classes' shares.
    tol : float, default 1e-6
        "l-bfgs" stops when the objective changes by less than tol times its first value in twenty
        iterations, or the gradient is shorter than tol times the objective; "sgd" when an epoch's
        loss changes by less than tol of it.
    fitIntercept, standardization : bool, default True
    family : str, default "auto"
        "binomial", "multinomial", or by the number of classes.
    threshold : float, default 0.5
        Binomial models predict class 1 where its probability is above.
    thresholds : list of float, optional
        One for each class: the largest of probability over threshold wins. At most one is 0.
    maxBlockSizeInMB : float, default 0.0
        Most megabytes of rows that "l-bfgs" works on at a time; 0.0: what suits a core's cache.
    aggregationDepth : int, default 2
        Without effect: partial sums need no tree here.
    solver : str, default "l-bfgs"
        Or "sgd": minibatches on virtually centred and scaled columns, several partitions at once.
        Ten epochs with stepSize 0.03, momentum 0.9, blockSize 32 and stepSizeSchedule
        "linear" end within a few per cent of the optimum on data like MNIST.
    stepSize, stepSizeSchedule, momentum, blockSize, stepsPerRound, seed
        Of "sgd": 0.03, "constant" ("linear" and "cosine" fall to zero, "step" and "inverseTime"
        to a hundredth and a tenth), 0.0, 128 rows per partition and step, 0 (parameters are
        averaged after each pass), 1.
    gradientTol : float, default 0.0
        "l-bfgs" stops when the gradient is no longer than this, too.
    validationIndicatorCol : str, optional
        Boolean column, true for rows that are held out: training stops when their loss has not
        reached a new low for `patience` (5) iterations or epochs, and the best weights are kept.
    checkpointDir : str, optional
        Where to save the fit's state every `checkpointInterval` (10) iterations or epochs. A fit
        that was killed and is started again goes on from there; when complete it clears them.
    numPartitions : int, optional
        By default one per core, or fewer where there are few rows.
    handleInvalid : str, default "error"
        "skip" leaves invalid rows out.
    deterministic : bool, default False
        Fail where a block that had to be packed again came out different.

    Raises
    ------
    InvalidParamError
        By `fit`: for params out of range, or that do not go together.
    InvalidDataError
        By `fit`: for rows, labels or weights that are invalid, with the column and the first row.
    DivergenceError
        By `fit`: where the loss becomes infinite or NaN.
    CheckpointError
        By `fit`: where `checkpointDir` holds the state of another fit.

    References
    ----------
    Nocedal and Wright (2006), Numerical Optimization, chapter 7; Andrew and Gao (2007), Scalable
    training of L1-regularized log-linear models; Byrd, Lu, Nocedal and Zhu (1995), A limited
    memory algorithm for bound constrained optimization; McMahan et al. (2017),
    Communication-efficient learning of deep networks, algorithm 1 (averaging).
    """

    NAME = "logistic regression"
    SOLVERS = ("l-bfgs", "sgd")
    setThresholds = LogisticParams.setThresholds

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
        lowerBoundsOnCoefficients: Matrix | None = None,
        upperBoundsOnCoefficients: Matrix | None = None,
        lowerBoundsOnIntercepts: Vector | None = None,
        upperBoundsOnIntercepts: Vector | None = None,
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
        initialWeights: Vector | None = None,
        gradientTol: float = 0.0,
        validationIndicatorCol: str | None = None,
        patience: int = 5,
        checkpointDir: str | None = None,
        checkpointInterval: int = 10,
    ):
        super().__init__()
        self._setDefault(solver="l-bfgs")
        self._set(**self._input_kwargs)
        self._checkThresholdConsistency()

    @keyword_only
    def setParams(self, **kwargs: Any) -> LogisticRegression:
        """Set any of the params that the constructor takes."""
        self._set(**self._input_kwargs)
        self._checkThresholdConsistency()
        return self

    def _check(self) -> None:
        super()._check()
        require(self, "aggregationDepth", lambda v: v >= 2, "at least 2")
        require(self, "maxBlockSizeInMB", lambda v: v >= 0, "at least 0")
        require(self, "regParam", lambda v: v >= 0, "at least 0")
        families = ("auto", "binomial", "multinomial")
        require(self, "elasticNetParam", lambda v: 0 <= v <= 1, "in [0, 1]")
        require(self, "family", lambda v: v.lower() in families, f"one of {', '.join(families)}")
        if any(self.isSet(name) for name in BOUNDS):
            self._check_bounded()

    def _check_bounded(self) -> None:
        """Raise InvalidParamError for params that bounds do not go with."""
        where = "where coefficients or intercepts are bounded"
        require(self, "solver", lambda v: v == "l-bfgs", f"'l-bfgs' {where}")
        require(self, "elasticNetParam", lambda v: v == 0, f"0 {where}: only L2 is for bounds")
        if any(self.isSet(name) for name in BOUNDS[2:]):
            require(self, "fitIntercept", lambda v: v, "True where intercepts are bounded")

    def _wanted(self) -> Wanted:
        return Wanted((self.getLabelCol(),), 0, None, precise=True)

    def _begin(self, blocks: Blocks, dataset: DataFrame) -> Beginning:
        histogram = self._histogram(blocks, dataset)
        check_thresholds(self, len(histogram))
        multinomial = self._is_multinomial(len(histogram))
        problem = Problem(self, blocks, histogram, len(histogram) if multinomial else 1)
        if np.count_nonzero(histogram) == 1 and not problem.bounded:
            if self.getFitIntercept():
                return Beginning(None, lambda _: _constant_model(histogram, multinomial, blocks))
            logger.warning("all labels are the same: coefficients may grow without bound")
        return Beginning(problem.fit(), lambda fitted: self._model(problem, fitted, multinomial))

    def _model(
        self, problem: Problem, fitted: Fitted | None, multinomial: bool
    ) -> LogisticRegressionModel:
        assert fitted is not None
        weights, intercepts = problem.objective.raw(fitted.theta)
        if multinomial and not problem.bounded:
            if self.getRegParam() == 0:
                # Without a penalty only differences between classes matter: centred as in glmnet.
                weights = weights - weights.mean(axis=1, keepdims=True)
            if self.getFitIntercept():
                intercepts = intercepts - intercepts.mean()
        classes = len(problem.histogram)
        model = LogisticRegressionModel(weights.T, intercepts, classes, multinomial)
        model.training = fitted
        return model

    def _histogram(self, blocks: Blocks, dataset: DataFrame) -> np.ndarray:
        """Return the weight of each class; a nominal label column says how many there are."""
        count = self._class_count(blocks, dataset)
        return np.pad(blocks.histogram, (0, count - len(blocks.histogram)))

    def _is_multinomial(self, classes: int) -> bool:
        family = self.getFamily().lower()
        if family == "binomial" and classes > 2:
            raise InvalidDataError(
                f"family='binomial' is for two classes, and column {self.getLabelCol()!r} holds "
                f"{classes}; use family='multinomial'"
            )
        return family == "multinomial" or (family == "auto" and classes > 2)


def _constant_model(
    histogram: np.ndarray, multinomial: bool, blocks: Blocks
) -> LogisticRegressionModel:
    """Return the model for a single class: it is certain, whatever the features."""
    logger.warning("all labels are the same: the coefficients are zero")
    units = len(histogram) if multinomial else 1
    if multinomial:
        intercepts = np.where(histogram > 0, np.inf, 0.0)
    else:
        intercepts = np.array([np.inf if histogram[1:].any() else -np.inf])
    model = LogisticRegressionModel(
        np.zeros((units, blocks.features)), intercepts, len(histogram), multinomial
    )
    model.training = Fitted(
        np.zeros(0), [0.0], reason="single class", rows=blocks.rows, skipped=blocks.skipped
    )
    return model


class LogisticRegressionModel(ClassificationModel, LogisticParams):
    """A fitted logistic regression.

    Parameters
    ----------
    coefficients : array of (1, features) for binomial, else (classes, features)
    intercepts : array of (1,) or (classes,)
    numClasses : int
    multinomial : bool
    """

    setThresholds = LogisticParams.setThresholds

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
    def coefficientMatrix(self) -> Matrix:
        """The coefficients, (1 or classes, features); sparse where that takes less space."""
        return compressed_matrix(self._coefficients)

    @property
    def interceptVector(self) -> Vector:
        """The intercepts, (1 or classes,); sparse where that takes less space."""
        return compressed_vector(self._intercepts)

    @property
    def coefficients(self) -> Vector:
        """The coefficients of a binomial model, (features,)."""
        if self._multinomial:
            raise ValueError(
                "Multinomial models contain a matrix of coefficients, use coefficientMatrix "
                "instead."
            )
        return row_of(self.coefficientMatrix)

    @property
    def intercept(self) -> float:
        """The intercept of a binomial model."""
        if self._multinomial:
            raise ValueError(
                "Multinomial models contain a vector of intercepts, use interceptVector instead."
            )
        return float(self._intercepts[0])

    @property
    def numClasses(self) -> int:
        """The number of classes."""
        return self._classes

    @property
    def numFeatures(self) -> int:
        """The number of features."""
        return self._coefficients.shape[1]

    def _transform(self, dataset: DataFrame) -> DataFrame:
        """Have MLlib's model do it: vectors on their way to Python take longer than a product."""
        features = self.getFeaturesCol()
        if not isinstance(column_type(dataset, features), VectorUDT):
            return super()._transform(dataset)
        check_thresholds(self, self.numClasses)
        names = [self.getRawPredictionCol(), self.getProbabilityCol(), self.getPredictionCol()]
        require_new(dataset, names)
        # MLlib's own error for a row without features names nothing.
        name = f"{self.uid}_features"
        checked = dataset.select("*", checked_vectors(features, self.numFeatures).alias(name))
        return self.toMLlib().setFeaturesCol(name).transform(checked).drop(name)

    def _size(self) -> tuple[int, int]:
        weights = self._coefficients.size
        return weights + len(self._intercepts) * self.getFitIntercept(), 4 * weights

    def _summary_kind(self) -> Kind:
        name = "LogisticRegression" if self.numClasses > 2 else "BinaryLogisticRegression"
        weight = self.getWeightCol() if self.isDefined(self.weightCol) else "weightCol"
        columns = [self.getProbabilityCol(), self.getPredictionCol(), self.getLabelCol()]
        return Kind(name, [*columns, self.getFeaturesCol(), weight])

    def _predictor(self, column: str) -> LinearPredictor:
        check_thresholds(self, self.numClasses)
        coefficients, intercepts = self._coefficients, self._intercepts
        if not self._multinomial:
            threshold = self.getThreshold()
            return LinearPredictor(coefficients, intercepts, False, threshold, column=column)
        thresholds = self.getThresholds() if self.isDefined(self.thresholds) else None
        return LinearPredictor(coefficients, intercepts, True, thresholds=thresholds)

    @classmethod
    def fromMLlib(cls, model) -> LogisticRegressionModel:
        """Return the same model as MLlib's one; the summary of its training stays there."""
        matrix = model.coefficientMatrix
        multinomial = matrix.numRows > 1 or model.getFamily().lower() == "multinomial"
        intercepts = model.interceptVector.toArray()
        return from_mllib(model, cls(matrix.toArray(), intercepts, model.numClasses, multinomial))

    def toMLlib(self):
        """Return the same model as a `pyspark.ml.classification.LogisticRegressionModel`."""
        return model_to_mllib(
            self, self.coefficientMatrix, self.interceptVector, self._classes, self._multinomial
        )

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
