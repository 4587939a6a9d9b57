"""From a perceptron's params to its fit, whatever the perceptron predicts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from sparknn.blocks import Blocks
from sparknn.errors import InvalidParamError
from sparknn.linear import LinearObjective
from sparknn.network import Network
from sparknn.objective import L2, ElasticNet, Objective
from sparknn.params import require
from sparknn.solvers import LBFGS, OWLQN, ConjugateGradient, GradientDescent, Solver
from sparknn.training import Fit, FullBatchFit, MinibatchFit

__all__ = ["check_network", "check_penalty", "linear_fit", "network_fit", "operations", "start_of"]


def check_penalty(estimator: Any) -> None:
    """Raise InvalidParamError for a penalty that is out of range or that the solver has not."""
    require(estimator, "regParam", lambda v: v >= 0, "at least 0")
    require(estimator, "elasticNetParam", lambda v: 0 <= v <= 1, "in [0, 1]")
    if estimator.getSolver() in ("gd", "cg") and estimator.getRegParam():
        smooth = f"0 for solver={estimator.getSolver()!r}, which needs a smooth objective"
        require(estimator, "elasticNetParam", lambda v: v == 0, smooth)


def check_network(estimator: Any) -> Network:
    """Return the network that the estimator's params describe.

    Raises InvalidParamError where they describe none, or initial weights do not fit it.
    """
    if not estimator.isSet(estimator.layers):
        raise InvalidParamError(
            f"{type(estimator).__name__}: set layers to the sizes of all layers, such as "
            f"{estimator.LAYERS}"
        )
    check_penalty(estimator)
    try:
        network = estimator._network(estimator.getDropout())
    except ValueError as error:
        # The numbers' floor knows no params: what it refuses is what was set here.
        raise InvalidParamError(f"{type(estimator).__name__}: {error}") from None
    if not estimator._is_minibatch and np.any(estimator.getDropout()):
        raise InvalidParamError(
            f"{type(estimator).__name__}: dropout is for minibatches: set solver to 'sgd' or "
            "'adam', or leave dropout at 0"
        )
    if estimator.isDefined("initialWeights"):
        given = len(estimator.getInitialWeights())
        if given != network.size:
            raise InvalidParamError(
                f"initialWeights holds {given} values, and layers {network.layers} have "
                f"{network.size}"
            )
    return network


def start_of(estimator: Any, network: Network) -> np.ndarray:
    """Return the weights that the estimator was given, or random ones, (size,)."""
    if estimator.isDefined("initialWeights"):
        return estimator.getInitialWeights().toArray()
    return network.initial(estimator.getSeed())


def operations(layers: list[int]) -> int:
    """Return the floating-point operations of a training's pass, per row.

    6 per weight, 4 in the first layer, whose input needs no gradient.
    """
    weights = [inputs * units for inputs, units in pairwise(layers)]
    return 6 * sum(weights) - 2 * weights[0]


def network_fit(estimator: Any, blocks: Blocks, network: Network, start: np.ndarray) -> Fit:
    """Return the fit of a network by the estimator's solver; `start`: (size,)."""
    strength, mix = estimator.getRegParam(), estimator.getElasticNetParam()
    l2 = network.penalty((1 - mix) * strength)
    l1 = np.zeros(network.size)
    for weights, _ in l2.slices:
        l1[weights] = mix * strength
    if estimator._is_minibatch:
        penalty = ElasticNet(l2.strength, l2.slices, l1) if l1.any() else l2
        return MinibatchFit(
            blocks, network, penalty, estimator._optimizer(), start, estimator._minibatch()
        )
    return _full_batch(estimator, blocks, network, l2, l1, start)


def linear_fit(
    estimator: Any,
    blocks: Blocks,
    objective: LinearObjective,
    deviation: np.ndarray,
    start: np.ndarray,
) -> Fit:
    """Return the fit of a network without hidden layers by a full-batch solver.

    deviation: (features,), of the columns. start: the objective's flat parameters, (size,).
    """
    strength, mix = estimator.getRegParam(), estimator.getElasticNetParam()
    # As a network's: on the weights of the columns as they are.
    l2 = objective.penalty((1 - mix) * strength, deviation, standardization=False)
    l1 = objective.l1(mix * strength, deviation, standardization=False)
    return _full_batch(estimator, blocks, objective, l2, l1, start)


def _full_batch(
    estimator: Any,
    blocks: Blocks,
    objective: Objective,
    l2: L2,
    l1: np.ndarray,
    start: np.ndarray,
) -> Fit:
    solver = _solver(estimator, start, l1)
    return FullBatchFit(blocks, objective, l2, solver, estimator.getGradientTol())


def _solver(estimator: Any, start: np.ndarray, l1: np.ndarray) -> Solver:
    limits = estimator.getMaxIter(), estimator.getTol()
    if estimator.getSolver() == "gd":
        return GradientDescent(start, estimator.getStepSize(), *limits)
    if estimator.getSolver() == "cg":
        return ConjugateGradient(start, *limits)
    return OWLQN(start, l1, *limits) if l1.any() else LBFGS(start, *limits)
