"""The multilayer perceptron that predicts numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark import keyword_only
from pyspark.ml.linalg import DenseVector, Vector, Vectors
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasElasticNetParam, HasRegParam, HasWeightCol
from pyspark.ml.regression import RegressionModel, Regressor
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparknn.blocks import Blocks
from sparknn.cluster import Cluster
from sparknn.columns import Output, with_predictions
from sparknn.diagnostics import Training, training_of, valid_features, warn_of_few_rows
from sparknn.errors import InvalidParamError
from sparknn.fitting import Beginning, Trainable, Wanted, weight_column
from sparknn.linear import LinearObjective
from sparknn.losses import loss as loss_named
from sparknn.moments import column_moments, target_moments
from sparknn.network import Network
from sparknn.network_fit import check_network, linear_fit, network_fit, operations, start_of
from sparknn.onnx_export import save_onnx
from sparknn.params import HasActivation, HasDropout, HasInitialWeights, require, with_setters
from sparknn.persistence import Persistent
from sparknn.prediction import Estimate, ValuePredictor, regression_perceptron
from sparknn.regression.summary import (
    MultilayerPerceptronRegressionSummary,
    MultilayerPerceptronRegressionTrainingSummary,
)
from sparknn.rows import LARGEST
from sparknn.scaling import ScaledLoss, Scaling
from sparknn.schema import numeric_column
from sparknn.training import Fitted

__all__ = ["MultilayerPerceptronRegressionModel", "MultilayerPerceptronRegressor"]

LOSSES = ("squared", "absolute", "huber")


class _RegressorParams(HasActivation, HasWeightCol):
    """The params that the regressor and its model have beyond those of all regressors."""

    layers: Param[list[int]] = Param(
        Params._dummy(),
        "layers",
        "sizes of all layers, from the features to the targets; [features, 1] is a linear "
        "regression",
        typeConverter=TypeConverters.toListInt,
    )
    labelCols: Param[list[str]] = Param(
        Params._dummy(),
        "labelCols",
        "columns of several targets, in place of labelCol; predictions are vectors then",
        typeConverter=TypeConverters.toListString,
    )
    loss: Param[str] = Param(
        Params._dummy(),
        "loss",
        "squared: half the squared error, for the mean; absolute: for the median; huber: squared "
        "up to 1.35 deviations of the target, linear beyond",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._setDefault(activation="relu", loss="squared")

    def getLayers(self) -> list[int]:
        """Gets the value of layers."""
        return self.getOrDefault(self.layers)

    def getLabelCols(self) -> list[str]:
        """Gets the value of labelCols."""
        return self.getOrDefault(self.labelCols)

    def getLoss(self) -> str:
        """Gets the value of loss or its default value."""
        return self.getOrDefault(self.loss)

    @property
    def _targets(self) -> list[str]:
        """The target columns."""
        if self.isDefined(self.labelCols):
            return self.getLabelCols()
        return [self.getOrDefault("labelCol")]

    def _network(self, dropout: float | list[float] = 0.0) -> Network:
        return regression_perceptron(self.getLayers(), self.getActivation(), dropout)


@with_setters
class MultilayerPerceptronRegressor(
    Regressor,
    Trainable,
    _RegressorParams,
    HasDropout,
    HasInitialWeights,
    HasRegParam,
    HasElasticNetParam,
):
    """A multilayer perceptron that predicts one number or several.

    It learns targets less their mean, in units of their (weighted, sample) deviation, so that the
    defaults suit targets of any size; the model is a plain network that predicts targets as they
    are. Features are not scaled, except where there are no hidden layers: see StandardScaler.

    Parameters
    ----------
    featuresCol, labelCol, predictionCol : str
        A vector or array column; a column of numbers; the column that `transform` adds ("": none).
    labelCols : list of str, optional
        Columns of several targets, in place of `labelCol`; predictions are vectors then.
    layers : list of int
        Sizes from the input to the output layer, whose units are linear: as many as targets.
        [features, 1] is a linear regression, by full-batch solvers in float64 and in centred and
        scaled columns, from weights of zero: with "squared" and no penalty the solution is that of
        `pyspark.ml.regression.LinearRegression`.
    activation : str or list of str, default "relu"
        Of hidden units: "sigmoid", "tanh", "relu", "linear"; a list has one for each layer.
    loss : str, default "squared"
        Summed over the targets, each in units of its deviation. "squared": half the squared error;
        "absolute": the error's magnitude, for the median; "huber": half the square up to 1.35
        deviations of the target, linear beyond.
    regParam, elasticNetParam : float, default 0.0
        As the classifier's, added to the loss of scaled targets: the last layer's weights count in
        deviations of the target. (LinearRegression's penalty with standardization=False is this
        one with regParam divided by the target's deviation.)
    solver : str, default "l-bfgs"
        "l-bfgs", "cg" (conjugate gradients) and "gd" use all rows in every iteration; "sgd" and
        "adam" use minibatches. "absolute" has no gradient where it is least, and full-batch
        solvers may end a little before.
    initialWeights : Vector, optional
        In the layout, and the units, of a model's `weights`; by default drawn with `seed`.
    dropout, weightCol, maxIter, tol, blockSize, stepSize, stepSizeSchedule, momentum, \
stepsPerRound, seed
        See `sparknn.classification.MultilayerPerceptronClassifier`.
    numPartitions, handleInvalid, deterministic, gradientTol, validationIndicatorCol, patience, \
checkpointDir, checkpointInterval
        See `sparknn.classification.LogisticRegression`. Losses of held-out rows are of scaled
        targets, too.

    Raises
    ------
    InvalidParamError
        By `fit`: for params out of range, or `layers` that end in another number than targets.
    InvalidDataError
        By `fit`: for rows or targets that are invalid or do not fit `layers`.
    DivergenceError
        By `fit`: where the loss becomes infinite or NaN.

    References
    ----------
    Rumelhart, Hinton and Williams (1986), Learning representations by back-propagating errors;
    Huber (1964), Robust estimation of a location parameter.
    """

    NAME = "perceptron"
    SOLVERS = ("l-bfgs", "cg", "gd", "sgd", "adam")
    LAYERS = "[784, 100, 1]"

    # pyspark's own stand before these in the order of bases.
    _fit = Trainable._fit
    fitMultiple = Trainable.fitMultiple

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        labelCol: str = "label",
        predictionCol: str = "prediction",
        labelCols: list[str] | None = None,
        layers: list[int] | None = None,
        activation: str | list[str] = "relu",
        loss: str = "squared",
        maxIter: int = 100,
        tol: float = 1e-6,
        seed: int | None = None,
        blockSize: int = 128,
        stepSize: float = 0.03,
        solver: str = "l-bfgs",
        initialWeights: Vector | None = None,
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
        super().__init__()
        self._setDefault(maxIter=100, tol=1e-6, solver="l-bfgs", regParam=0.0, elasticNetParam=0.0)
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(self, **kwargs: Any) -> MultilayerPerceptronRegressor:
        """Set any of the params that the constructor takes."""
        return self._set(**self._input_kwargs)

    def _check(self) -> None:
        super()._check()
        require(self, "loss", lambda v: v in LOSSES, f"one of {', '.join(LOSSES)}")
        require(self, "labelCols", lambda v: len(v) > 0, "one column or more")
        outputs, targets = check_network(self).layers[-1], self._targets
        if outputs != len(targets):
            raise InvalidParamError(
                f"{type(self).__name__}: layers {self.getLayers()} must end in as many outputs as "
                f"there are targets: {len(targets)}, {', '.join(map(repr, targets))}"
            )

    @property
    def _is_linear(self) -> bool:
        """Whether the solver works on centred and scaled columns, in float64."""
        return len(self.getLayers()) == 2 and not self._is_minibatch

    def _wanted(self) -> Wanted:
        return Wanted(tuple(self._targets), None, self.getLayers()[0], precise=self._is_linear)

    def _begin(self, blocks: Blocks, dataset: DataFrame) -> Beginning:
        scaling = Scaling(*target_moments(blocks))
        loss = ScaledLoss(loss_named(self.getLoss()), scaling)
        if self._is_linear:
            return self._begin_linear(blocks, scaling, loss)
        network = regression_perceptron(
            self.getLayers(), self.getActivation(), self.getDropout(), loss
        )
        start = start_of(self, network)
        if self.isDefined(self.initialWeights):
            start = last_layer(network, start, scaling.scaled)
        fit = network_fit(self, blocks, network, start)
        return Beginning(fit, lambda fitted: self._model(fitted, network, scaling))

    def _begin_linear(self, blocks: Blocks, scaling: Scaling, loss: ScaledLoss) -> Beginning:
        mean, deviation = column_moments(blocks)
        objective = LinearObjective(mean, deviation, len(self._targets), True, loss)
        start = np.zeros(objective.size)
        if self.isDefined(self.initialWeights):
            ((weights, biases),) = self._network().views(self.getInitialWeights().toArray())
            start = objective.theta(*scaling.scaled(weights, biases))
        fit = linear_fit(self, blocks, objective, deviation, start)

        def model(fitted: Fitted | None) -> MultilayerPerceptronRegressionModel:
            assert fitted is not None
            weights, biases = scaling.raw(*objective.raw(fitted.theta))
            return _trained(np.concatenate([weights.ravel(), biases]), fitted)

        return Beginning(fit, model)

    def _model(
        self, fitted: Fitted | None, network: Network, scaling: Scaling
    ) -> MultilayerPerceptronRegressionModel:
        assert fitted is not None
        return _trained(last_layer(network, fitted.theta, scaling.raw), fitted)

    def _finished(self, model: Any, dataset: DataFrame, cluster: Cluster, packing: float) -> None:
        warn_of_few_rows(self, model.training.rows, model._size()[0])
        if model.training.skipped:
            valid = valid_features(dataset, model, weight_column(self))
            for name in self._targets:
                valid &= F.abs(numeric_column(dataset, name)) <= LARGEST
            dataset = dataset.filter(valid)
        model._trained = training_of(model, dataset, cluster, packing, self._is_minibatch)


def last_layer(network: Network, theta: np.ndarray, change: Any) -> np.ndarray:
    """Return parameters, (size,) float64, whose last weights and biases are changed."""
    changed = np.array(theta, np.float64)
    weights, biases = network.views(changed)[-1]
    weights[:], biases[:] = change(weights, biases)
    return changed


def _trained(weights: np.ndarray, fitted: Fitted) -> MultilayerPerceptronRegressionModel:
    model = MultilayerPerceptronRegressionModel(weights)
    model.training = fitted
    return model


class MultilayerPerceptronRegressionModel(RegressionModel, Persistent, _RegressorParams):
    """A fitted multilayer perceptron for regression.

    Parameters
    ----------
    weights : array of (parameters,)
        Layer by layer the weights, (inputs, units) in C order, then the biases.

    training: how the fit went (a `sparknn.training.Fitted`, whose parameters and losses are those
    of scaled targets), or None for a model that was loaded.
    """

    training: Fitted | None = None
    _trained: Training | None = None
    _summarised: MultilayerPerceptronRegressionTrainingSummary | None = None

    def __init__(self, weights: np.ndarray):
        super().__init__()
        self._weights = np.asarray(weights, np.float64)

    @property
    def weights(self) -> DenseVector:
        """All weights and biases, of targets as they are."""
        return Vectors.dense(self._weights)

    @property
    def numFeatures(self) -> int:
        """The number of features."""
        return self.getLayers()[0]

    @property
    def numTargets(self) -> int:
        """The number of targets."""
        return self.getLayers()[-1]

    @property
    def hasSummary(self) -> bool:
        """Whether there is a summary: for a model that `fit` returned, and its copies."""
        return self._trained is not None

    @property
    def summary(self) -> MultilayerPerceptronRegressionTrainingSummary:
        """How the training went, and how well its rows are predicted; nothing is computed yet.

        Raises RuntimeError for a model that was loaded.
        """
        if self._trained is None:
            raise RuntimeError(f"No training summary available for this {type(self).__name__}")
        if self._summarised is None:
            named = _predicting(self.copy()._set(**self._trained.columns))
            self._summarised = MultilayerPerceptronRegressionTrainingSummary(named, self._trained)
        return self._summarised

    def evaluate(self, dataset: DataFrame) -> MultilayerPerceptronRegressionSummary:
        """Return the summary of the predictions for `dataset`, which holds the targets, too."""
        if not isinstance(dataset, DataFrame):
            raise TypeError(f"dataset must be a DataFrame but got {type(dataset)}.")
        return MultilayerPerceptronRegressionSummary(_predicting(self), dataset)

    def predict(self, value: Vector) -> float | DenseVector:
        """Predict the target of one row's features, (features,); several targets are a vector."""
        row = np.asarray(value.toArray() if hasattr(value, "toArray") else value, np.float64)
        if row.shape != (self.numFeatures,):
            raise ValueError(f"features are {row.shape}; the model takes ({self.numFeatures},)")
        (found,) = self._predictor()(row[np.newaxis]).value
        return float(found) if self.numTargets == 1 else Vectors.dense(found)

    def toONNX(self, path: str) -> None:
        """Save the model, without the stages before it, as an ONNX graph in a local file.

        The input `features` is float32, (rows, features); the output `prediction` is double,
        (rows,), or (rows, targets) of several.

        Raises
        ------
        MissingPackageError
            If onnx is not installed.
        ValueError
            If `path` is not local, or the graph is beyond ONNX's 2 GB.
        """
        save_onnx(self._predictor(), path)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        width = None if self.numTargets == 1 else self.numTargets
        (part,) = Estimate._fields
        output = Output(part, self.getPredictionCol(), width)
        return with_predictions(
            dataset, self.getFeaturesCol(), self.numFeatures, self._predictor(), [output]
        )

    def _predictor(self) -> ValuePredictor:
        return ValuePredictor(self._network(), self._weights)

    def _size(self) -> tuple[int, int]:
        """Return the number of parameters, and a training's operations per row and pass."""
        return len(self._weights), operations(self.getLayers())

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"weights": self._weights}

    @classmethod
    def _restored(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]):
        return cls(arrays["weights"])

    def __repr__(self) -> str:
        return (
            f"MultilayerPerceptronRegressionModel: uid={self.uid}, "
            f"numLayers={len(self.getLayers())}, numTargets={self.numTargets}, "
            f"numFeatures={self.numFeatures}"
        )


def _predicting(model: MultilayerPerceptronRegressionModel) -> MultilayerPerceptronRegressionModel:
    """Return the model, or a copy that has a name for its predictions where it has none."""
    if model.getPredictionCol():
        return model
    return model.copy()._set(predictionCol=f"prediction_{model.uid}")
