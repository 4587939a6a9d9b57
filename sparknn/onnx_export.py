"""Models as ONNX graphs, for runtimes that know no Python.

The graph is the predictor's own arithmetic, operator by operator, so that both say the same.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from sparknn.errors import MissingPackageError
from sparknn.prediction import (
    LARGEST_MARGIN,
    LinearPredictor,
    NetworkPredictor,
    Predictor,
    ValuePredictor,
    limit_of_margins,
)

__all__ = ["save_onnx"]

OPSET = 17
IR_VERSION = 8
"""ONNX 1.12's, of 2022: what is newer adds nothing that is needed, and fewer runtimes know it."""

MOST_BYTES = 2**31 - 2**20
"""A file of ONNX is one protobuf message, which cannot exceed 2 GB."""


def save_onnx(predictor: Predictor | ValuePredictor, path: str) -> None:
    """Write a model as an ONNX graph into a local file, which is replaced if it is there.

    Raises MissingPackageError without the package onnx, ValueError for a path that is not local
    or a graph beyond 2 GB.
    """
    path = os.fspath(path)
    if re.match(r"[A-Za-z][\w+.-]+:/", path):
        raise ValueError(f"{path} is not the path of a local file: write one, and copy it there")
    onnx = _onnx()
    graph = _Graph(onnx)
    if isinstance(predictor, LinearPredictor):
        model = _linear(graph, predictor)
    elif isinstance(predictor, ValuePredictor):
        model = _regression(graph, predictor)
    else:
        model = _perceptron(graph, predictor)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError("toONNX needs a package: pip install 'onnx>=1.16'") from error
    return onnx


def _linear(graph: _Graph, predictor: LinearPredictor) -> Any:
    """Return the model of a logistic regression, in double."""
    (units, features), intercepts = predictor.coefficients.shape, predictor.intercepts
    rows = graph.cast("features", np.float64)
    coefficients = predictor.coefficients
    if predictor.multinomial:
        graph.add("Gemm", rows, coefficients, intercepts, transB=1, output="rawPrediction")
        finite = graph.add("Min", "rawPrediction", np.float64(LARGEST_MARGIN))
        graph.add("Softmax", finite, axis=1, output="probability")
        _label(graph, predictor.thresholds)
        return graph.model(features, _of_classes(units))
    margins = graph.add("Gemm", rows, coefficients, intercepts, transB=1)
    negative = graph.add("Neg", margins)
    graph.add("Concat", negative, margins, axis=1, output="rawPrediction")
    zero = graph.add("Sigmoid", negative)
    one = graph.add("Sub", np.float64(1), zero)
    graph.add("Concat", zero, one, axis=1, output="probability")
    positive = graph.add("Greater", margins, np.float64(limit_of_margins(predictor.threshold)))
    graph.cast(graph.add("Squeeze", positive, np.array([1])), np.float64, output="prediction")
    return graph.model(features, _of_classes(2))


def _perceptron(graph: _Graph, predictor: NetworkPredictor) -> Any:
    """Return the model of a perceptron: layers in its own dtype, what follows in double."""
    network = predictor.network
    values = "features"
    for layer, (weights, biases) in enumerate(network.views(predictor.theta)):
        values = graph.add("Gemm", values, weights, biases)
        if layer < len(network.activations):
            values = graph.add(network.activations[layer].onnx, values)
    scores = graph.cast(values, np.float64)
    output = graph.add(network.loss.onnx, scores)
    if network.layers[-1] == 1:
        scores = graph.add("Concat", graph.add("Neg", scores), scores, axis=1)
        output = graph.add("Concat", graph.add("Sub", np.float64(1), output), output, axis=1)
    graph.add("Identity", scores, output="rawPrediction")
    total = graph.add("ReduceSum", output, np.array([1]), keepdims=1)
    graph.add("Div", output, total, output="probability")
    _label(graph, predictor.thresholds)
    return graph.model(network.layers[0], _of_classes(max(2, network.layers[-1])))


def _regression(graph: _Graph, predictor: ValuePredictor) -> Any:
    """Return the model of a regression: hidden layers in float32, the last one in double."""
    network = predictor.network
    values = "features"
    for activation, (weights, biases) in zip(
        network.activations, network.views(predictor.theta.astype(network.dtype)), strict=False
    ):
        values = graph.add(activation.onnx, graph.add("Gemm", values, weights, biases))
    weights, biases = network.views(predictor.theta)[-1]
    targets = len(biases)
    single = targets == 1
    values = graph.cast(values, np.float64)
    values = graph.add("Gemm", values, weights, biases, output="" if single else "prediction")
    if single:
        graph.add("Squeeze", values, np.array([1]), output="prediction")
    return graph.model(network.layers[0], {"prediction": [] if single else [targets]})


def _of_classes(classes: int) -> dict[str, list[int]]:
    """Return the shapes, but for the rows, of what a classifier's graph puts out."""
    return {"rawPrediction": [classes], "probability": [classes], "prediction": []}


def _label(graph: _Graph, thresholds: list[float] | None) -> None:
    """Add the choice of the largest score, or of the largest probability over its threshold."""
    scores = "rawPrediction"
    if thresholds is not None:
        scale = np.asarray(thresholds, np.float64)
        scores = graph.add("Div", "probability", np.where(scale == 0, 1, scale))
        # A class of threshold 0 always wins.
        scores = graph.add("Add", scores, np.where(scale == 0, np.inf, 0))
    largest = graph.add("ArgMax", scores, axis=1, keepdims=0)
    graph.cast(largest, np.float64, output="prediction")


class _Graph:
    """Nodes and constants, in the order in which they are added."""

    def __init__(self, onnx: Any):
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[np.ndarray] = []

    def add(self, operator: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        """Add a node, whose inputs are names or constants; return its output's name."""
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, names, [output], **attributes))
        return output

    def cast(self, name: str, kind: type, output: str = "") -> str:
        """Add the conversion of a value to NumPy's `kind`."""
        return self.add("Cast", name, output=output, to=self._type(kind))

    def model(self, features: int, outputs: dict[str, list[int]]) -> Any:
        """Return the nodes as a model with double outputs of these shapes, but for the rows.

        Raises ValueError where it is too large for a file.
        """
        size = sum(array.nbytes for array in self.constants)
        if size > MOST_BYTES:
            raise ValueError(f"the model's {size} bytes are more than the 2 GB that ONNX can hold")
        helper, numbers = self.onnx.helper, self.onnx.numpy_helper
        graph = helper.make_graph(
            self.nodes,
            "sparknn",
            [self._value("features", np.float32, [features])],
            [self._value(name, np.float64, shape) for name, shape in outputs.items()],
            [numbers.from_array(array, _named(i)) for i, array in enumerate(self.constants)],
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="sparknn"
        )

    def _constant(self, array: np.ndarray) -> str:
        self.constants.append(np.asarray(array))
        return _named(len(self.constants) - 1)

    def _type(self, kind: type) -> int:
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))

    def _value(self, name: str, kind: type, shape: list[int]) -> Any:
        """Return the description of an input or output, (rows, *shape)."""
        return self.onnx.helper.make_tensor_value_info(name, self._type(kind), ["rows", *shape])


def _named(constant: int) -> str:
    return f"constant_{constant}"
