"""What all classifiers share: how they fit, and how their models predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.ml.classification import ProbabilisticClassificationModel, ProbabilisticClassifier
from pyspark.ml.linalg import Vector, Vectors
from pyspark.ml.util import HasTrainingSummary
from pyspark.sql import DataFrame

from sparknn.blocks import Blocks
from sparknn.classification.interchange import from_mllib
from sparknn.classification.summary import Kind, evaluation, training_summary, without_invalid
from sparknn.classification.thresholds import check_thresholds
from sparknn.cluster import Cluster
from sparknn.columns import Output, with_predictions
from sparknn.diagnostics import Training, training_of, warn_of_few_rows
from sparknn.errors import InvalidDataError
from sparknn.fitting import Trainable, Wanted, weight_column
from sparknn.onnx_export import save_onnx
from sparknn.persistence import Persistent
from sparknn.prediction import Prediction, Predictor
from sparknn.schema import declared_classes
from sparknn.training import Fitted

__all__ = ["ClassificationModel", "Classifier"]


class Classifier(ProbabilisticClassifier, Trainable):
    """What the classifiers have in common."""

    # pyspark's own stand before these in the order of bases, which their params dictate.
    _fit = Trainable._fit
    fitMultiple = Trainable.fitMultiple

    def _check(self) -> None:
        super()._check()
        check_thresholds(self)

    def _held_wanted(self, wanted: Wanted, blocks: Blocks, dataset: DataFrame) -> Wanted:
        if wanted.classes != 0:
            return wanted
        # Those of the model, of which there may be more than the rows that train have.
        return wanted._replace(classes=max(2, self._class_count(blocks, dataset)))

    def _class_count(self, blocks: Blocks, dataset: DataFrame) -> int:
        """Return how many classes there are in the rows, or as a nominal label column declares."""
        declared, found = declared_classes(dataset, self.getLabelCol()), len(blocks.histogram)
        if declared is not None and declared < found:
            raise InvalidDataError(
                f"column {self.getLabelCol()!r} declares {declared} classes in its metadata, but "
                f"holds the label {found - 1}"
            )
        return declared or found

    @classmethod
    def fromMLlib(cls, estimator):
        """Return an estimator with the params, and the uid, of MLlib's one."""
        return from_mllib(estimator, cls())

    def _finished(self, model: Any, dataset: DataFrame, cluster: Cluster, packing: float) -> None:
        warn_of_few_rows(self, model.training.rows, model._size()[0])
        if model.training.skipped:
            dataset = without_invalid(dataset, model, weight_column(self))
        model._trained = training_of(model, dataset, cluster, packing, self._is_minibatch)


class ClassificationModel(ProbabilisticClassificationModel, HasTrainingSummary, Persistent):
    """What the classifiers' models have in common: predictions of one row and of a DataFrame.

    training: how the fit went (a `sparknn.training.Fitted`), or None for a model that was loaded.
    """

    training: Fitted | None = None
    _trained: Training | None = None
    _summarised: tuple[Any, Any] = (None, None)

    def _predictor(self, column: str) -> Predictor:
        """Return the function from features, (rows, features), to a Prediction.

        column: "raw", "probability" or "label", the first one that is wanted.
        """
        raise NotImplementedError

    def _size(self) -> tuple[int, int]:
        """Return the number of parameters, and a training's operations per row and pass."""
        raise NotImplementedError

    def _summary_kind(self) -> Kind:
        """Return which of MLlib's summaries is this model's."""
        raise NotImplementedError

    @property
    def hasSummary(self) -> bool:
        """Whether there is a summary: for a model that `fit` returned, and its copies."""
        return self._trained is not None

    @property
    def summary(self):
        """How the training went, and how well its rows are predicted; nothing is computed yet.

        Predictions go by the thresholds as they are now, and by the columns' names at the time of
        the fit. Raises RuntimeError for a model that was loaded.
        """
        if self._trained is None:
            raise RuntimeError(f"No training summary available for this {type(self).__name__}")
        thresholds = [
            self.getOrDefault(name)
            for name in ("threshold", "thresholds")
            if self.hasParam(name) and self.isDefined(name)
        ]
        if self._summarised[0] != thresholds:
            self._summarised = (thresholds, training_summary(self, self._trained))
        return self._summarised[1]

    def evaluate(self, dataset: DataFrame):
        """Return the summary of the predictions for `dataset`, which holds labels, too."""
        return evaluation(self, dataset)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        classes = self.numClasses
        nominal = {"ml_attr": {"type": "nominal", "num_vals": classes}}
        outputs = [
            Output("raw", self.getRawPredictionCol(), classes),
            Output("probability", self.getProbabilityCol(), classes),
            Output("label", self.getPredictionCol(), None, nominal),
        ]
        predictor = self._predictor(next((each.part for each in outputs if each.name), "raw"))
        return with_predictions(
            dataset, self.getFeaturesCol(), self.numFeatures, predictor, outputs
        )

    def toONNX(self, path: str) -> None:
        """Save the model, without the stages before it, as an ONNX graph in a local file.

        The input `features` is float32, (rows, features); the outputs `rawPrediction` and
        `probability`, (rows, classes), and `prediction`, (rows,), are double, as `transform`'s
        columns are. Thresholds are the model's at the time.

        A logistic regression computes in double; what is lost is lost where features become
        float32. Where that is too much (a date in seconds, say), centre such columns before
        training. A perceptron's layers compute in float32, as they do here.

        Raises
        ------
        MissingPackageError
            If onnx is not installed.
        ValueError
            If `path` is not local, or the graph is beyond ONNX's 2 GB.
        """
        save_onnx(self._predictor("raw"), path)

    def _predict_one(self, value: Vector) -> Prediction:
        row = np.asarray(value.toArray() if hasattr(value, "toArray") else value, np.float64)
        if row.shape != (self.numFeatures,):
            raise ValueError(f"features are {row.shape}; the model takes ({self.numFeatures},)")
        return self._predictor("label")(row[np.newaxis])

    def predict(self, value: Vector) -> float:
        """Predict the label of one row's features, (features,)."""
        return float(self._predict_one(value).label[0])

    def predictRaw(self, value: Vector) -> Vector:
        """Return the raw prediction for each class, for one row's features."""
        return Vectors.dense(self._predict_one(value).raw[0])

    def predictProbability(self, value: Vector) -> Vector:
        """Return the probability of each class, for one row's features."""
        return Vectors.dense(self._predict_one(value).probability[0])
