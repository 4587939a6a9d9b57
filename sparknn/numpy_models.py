"""Saved models without Spark: pyarrow reads them, NumPy predicts.

What is computed is `sparknn.prediction`, the same as in `transform`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sparknn.errors import InvalidDataError, InvalidParamError, UnsupportedModelError
from sparknn.numpy_stages import preprocessing, stages_of
from sparknn.prediction import (
    LinearPredictor,
    NetworkPredictor,
    ValuePredictor,
    fault_of_thresholds,
    perceptron,
    regression_perceptron,
    threshold_of,
)
from sparknn.saved import Folder, Saved

__all__ = [
    "NumpyClassifier",
    "NumpyLogisticRegression",
    "NumpyModel",
    "NumpyPerceptron",
    "NumpyPerceptronRegressor",
    "load_numpy",
]

PIPELINES = ("pyspark.ml.pipeline.PipelineModel", "org.apache.spark.ml.PipelineModel")

PIECE_BYTES = 2**21
"""Of features: what is predicted at a time, so that a network's layers stay in a core's cache."""


class NumpyModel:
    """A saved model that predicts by NumPy.

    features: the number of columns that it takes. columns: where the model was saved with the
    VectorAssembler before it, that one's input columns, in order (a vector among them stands for
    all of its values); else None.
    """

    columns: tuple[str, ...] | None = None
    _steps: Sequence[Callable[[np.ndarray], np.ndarray]] = ()

    def __init__(self, predictor: Callable[[Any], Any], features: int):
        self._predictor, self.features = predictor, features

    def _predictions(self, features: Any) -> Any:
        """Return the predictor's named tuple for all rows, predicted some at a time."""
        rows = features.tocsr() if issparse(features) else np.asarray(features)
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise InvalidDataError(
                f"features are {rows.shape}; the model takes (rows, {self.features})"
            )
        if issparse(rows) and self._takes_sparse:
            return self._predictor(rows)
        step = max(1, PIECE_BYTES // (8 * self.features))
        # No rows are a piece, too: it says how wide the predictions are.
        starts = range(0, max(rows.shape[0], 1), step)
        pieces = [self._predict_piece(rows[start : start + step]) for start in starts]
        return type(pieces[0])(*(np.concatenate(part) for part in zip(*pieces, strict=True)))

    def _predict_piece(self, rows: Any) -> Any:
        values = (rows.toarray() if issparse(rows) else rows).astype(np.float64)
        for step in self._steps:
            values = step(values)
        return self._predictor(values)

    @property
    def _takes_sparse(self) -> bool:
        return False


class NumpyClassifier(NumpyModel):
    """A saved classifier that predicts by NumPy.

    classes: the number of classes. See `NumpyModel` for features and columns.
    """

    def __init__(self, predictor: Callable[[Any], Any], features: int, classes: int):
        super().__init__(predictor, features)
        self.classes = classes

    def predict(self, features: Any) -> np.ndarray:
        """Return each row's label, (rows,) float64, by the thresholds that were saved.

        features: (rows, features), an array, a sparse one of SciPy's or a DataFrame of pandas.
        Raises InvalidDataError for any other shape.
        """
        return self._predictions(features).label

    def predict_proba(self, features: Any) -> np.ndarray:
        """Return the probability of each class, (rows, classes) float64; see `predict`."""
        return self._predictions(features).probability

    def decision_function(self, features: Any) -> np.ndarray:
        """Return the raw scores, (rows, classes) float64, also of two classes; see `predict`.

        They are what `transform` calls rawPrediction.
        """
        return self._predictions(features).raw


class NumpyLogisticRegression(NumpyClassifier):
    """A saved logistic regression; sparse rows stay sparse unless something precedes the model.

    coefficients: (1, features) of a binomial model, else (classes, features). intercepts: (1,) or
    (classes,).
    """

    def __init__(self, predictor: LinearPredictor, classes: int):
        super().__init__(predictor, predictor.coefficients.shape[1], classes)
        self.coefficients, self.intercepts = predictor.coefficients, predictor.intercepts

    @property
    def _takes_sparse(self) -> bool:
        return not self._steps


class NumpyPerceptron(NumpyClassifier):
    """A saved perceptron; its layers compute in float32, as in `transform`.

    layers: sizes from the input to the output. weights: (parameters,), in MLlib's layout.
    activations: of the hidden layers. Sparse rows become dense, some at a time.
    """

    def __init__(self, predictor: NetworkPredictor, weights: np.ndarray):
        network = predictor.network
        super().__init__(predictor, network.layers[0], max(2, network.layers[-1]))
        self.layers, self.weights = list(network.layers), weights
        self.activations = [each.name for each in network.activations]


class NumpyPerceptronRegressor(NumpyModel):
    """A saved perceptron for regression.

    layers: sizes from the input to the output. weights: (parameters,), in MLlib's layout.
    activations: of the hidden layers. Sparse rows become dense, some at a time.
    """

    def __init__(self, predictor: ValuePredictor):
        network = predictor.network
        super().__init__(predictor, network.layers[0])
        self.layers, self.weights = list(network.layers), predictor.theta
        self.activations = [each.name for each in network.activations]

    def predict(self, features: Any) -> np.ndarray:
        """Return each row's target, (rows,) float64, or targets, (rows, targets).

        features: (rows, features), an array, a sparse one of SciPy's or a DataFrame of pandas.
        Raises InvalidDataError for any other shape.
        """
        return self._predictions(features).value


def load_numpy(path: str | os.PathLike) -> NumpyModel:
    """Load a saved model for prediction by NumPy: it starts no JVM and needs none.

    Parameters
    ----------
    path : str
        What `model.save(path)` wrote, a job's --output, or a saved PipelineModel whose stages up
        to the model are VectorAssembler, StandardScaler and MinMaxScaler: they are carried
        out, too. A local path, or a URI of a file system that pyarrow knows ("s3://", which may
        be spelled "s3a://", "gs://", "abfss://").

    Raises
    ------
    IncompleteError
        If nothing is there, or the model has no marker because its writing was cut short.
    UnsupportedModelError
        For another class, or another stage before the model.
    InvalidParamError
        If the saved thresholds do not fit the classes.
    """
    saved = Saved(Folder.at(path))
    return _pipeline(saved) if saved.kind in PIPELINES else _model(saved)


def _pipeline(pipeline: Saved) -> NumpyModel:
    """Return a pipeline's only model of sparknn's, with the stages before it."""
    stages = stages_of(pipeline)
    found = [index for index, stage in enumerate(stages) if stage.kind in KINDS]
    if len(found) != 1:
        raise UnsupportedModelError(
            f"{pipeline} has {len(found)} of sparknn's models among its {len(stages)} stages; "
            "load_numpy takes pipelines with one"
        )
    saved = stages[found[0]]
    model = _model(saved)
    model._steps, model.columns = preprocessing(stages[: found[0]], saved.params["featuresCol"])
    return model


def _model(saved: Saved) -> NumpyModel:
    saved.folder.require_marker()
    if saved.kind not in KINDS:
        known = ", ".join(name.rpartition(".")[2] for name in KINDS)
        raise UnsupportedModelError(f"load_numpy reads {known}, not {saved}")
    return KINDS[saved.kind](saved)


def _logistic(saved: Saved) -> NumpyLogisticRegression:
    arrays, facts = saved.arrays(), saved.metadata["facts"]
    thresholds = _thresholds(saved, facts["numClasses"])
    threshold = saved.params["threshold"]
    if thresholds is not None and not facts["multinomial"]:
        threshold = threshold_of(thresholds)
    parts = ("rawPredictionCol", "probabilityCol", "predictionCol")
    wanted = next((part for part in parts if saved.params[part]), parts[0])
    predictor = LinearPredictor(
        arrays["coefficients"],
        arrays["intercepts"],
        facts["multinomial"],
        threshold,
        thresholds,
        {"rawPredictionCol": "raw", "probabilityCol": "probability"}.get(wanted, "label"),
    )
    return NumpyLogisticRegression(predictor, facts["numClasses"])


def _perceptron(saved: Saved) -> NumpyPerceptron:
    params, weights = saved.params, saved.arrays()["weights"]
    network = perceptron(params["layers"], params["activation"], params["loss"])
    thresholds = _thresholds(saved, max(2, network.layers[-1]))
    predictor = NetworkPredictor(network, weights.astype(np.float32), thresholds)
    return NumpyPerceptron(predictor, weights)


def _regressor(saved: Saved) -> NumpyPerceptronRegressor:
    params = saved.params
    network = regression_perceptron(params["layers"], params["activation"])
    return NumpyPerceptronRegressor(ValuePredictor(network, saved.arrays()["weights"]))


def _thresholds(saved: Saved, classes: int) -> list[float] | None:
    thresholds = saved.params.get("thresholds")
    fault = None if thresholds is None else fault_of_thresholds(thresholds, classes)
    if fault:
        raise InvalidParamError(f"{saved}: {fault}")
    return thresholds


KINDS: dict[str, Callable[[Saved], NumpyModel]] = {
    "sparknn.classification.logistic.LogisticRegressionModel": _logistic,
    "sparknn.classification.perceptron.MultilayerPerceptronClassificationModel": _perceptron,
    "sparknn.classification.dbn.DeepBeliefNetworkClassificationModel": _perceptron,
    "sparknn.regression.perceptron.MultilayerPerceptronRegressionModel": _regressor,
    "sparknn.regression.dbn.DeepBeliefNetworkRegressionModel": _regressor,
}
"""What can be loaded, by the class's name in the metadata."""
