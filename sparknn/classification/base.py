"""What all classifiers share: how they fit, and how their models predict."""

from __future__ import annotations

import numpy as np
from pyspark.ml.classification import ProbabilisticClassificationModel, ProbabilisticClassifier
from pyspark.ml.linalg import Vector, Vectors
from pyspark.ml.param import Params
from pyspark.sql import DataFrame

from sparknn.blocks import Blocks, pack
from sparknn.cluster import Cluster
from sparknn.columns import Prediction, with_predictions
from sparknn.losses import loss as loss_named
from sparknn.packing import Source
from sparknn.params import HasTraining
from sparknn.persistence import Persistent
from sparknn.rows import Layout
from sparknn.schema import feature_columns, feature_names, feature_shape, numeric_column
from sparknn.training import Fitted

__all__ = ["ClassificationModel", "Classifier", "binary_prediction", "output_units"]


class Classifier(ProbabilisticClassifier, HasTraining, Persistent):
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
        shape = feature_shape(dataset, features)
        width, standard = shape[:2] if width is None else (width, Layout.standard)
        layout = Layout(
            features,
            single,
            (label,),
            classes,
            weight,
            width,
            standard,
            self.getHandleInvalid() == "skip",
            feature_names(dataset, features),
            shape.sparse,
            shape.row_bytes,
        )
        source = Source(layout, self._is_minibatch, precise, self.getSeed())
        return pack(cluster, dataset, source, self._partitions, columns)


class ClassificationModel(ProbabilisticClassificationModel, Persistent):
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


def _weight_column(instance: Params) -> str | None:
    if not instance.hasParam("weightCol") or not instance.isSet("weightCol"):
        return None
    return instance.getOrDefault("weightCol") or None


def output_units(units: str, scores: np.ndarray) -> np.ndarray:
    """Return the outputs of a loss's units, in an array of their own."""
    outputs = scores.copy()
    loss_named(units).outputs(outputs)
    return outputs


def binary_prediction(margin: np.ndarray, probability: np.ndarray) -> Prediction:
    """Return two classes' prediction of the margin and probability, (rows, 1), of class 1."""
    return Prediction(
        np.hstack([-margin, margin]),
        np.hstack([1 - probability, probability]),
        (probability[:, 0] > 0.5).astype(float),
    )
