"""sparknn: logistic regression, perceptrons and more, trained data-parallel on Apache Spark.

The estimators are in `sparknn.classification`, in place of `pyspark.ml.classification`, and in
`sparknn.regression`. For the pyspark shell there is also the core on its own:

>>> from sparknn import SGD, Network, train
>>> network = Network([784, 100, 10], "relu")
>>> fitted = train(network, rdd_of_label_and_features, SGD(0.05, momentum=0.9), epochs=5)

A saved model predicts without Spark, too:

>>> from sparknn import load_numpy
>>> labels = load_numpy("s3://bucket/model").predict(features)
"""

from sparknn.network import Network
from sparknn.optimizers import SGD, Adam

__version__ = "0.1.0"

__all__ = ["SGD", "Adam", "Network", "load_numpy", "train"]


def __getattr__(name: str):
    # Imported when it is first asked for: the rest of this page needs no Spark, and no Arrow.
    if name == "train":
        from sparknn.shell import train

        return train
    if name == "load_numpy":
        from sparknn.numpy_models import load_numpy

        return load_numpy
    raise AttributeError(f"module 'sparknn' has no attribute {name!r}")
