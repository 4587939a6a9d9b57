"""From a perceptron's params to its fit, whatever the perceptron predicts."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparknn.blocks import Blocks
from sparknn.errors import InvalidParamError
from sparknn.network import Network
from sparknn.objective import ElasticNet
from sparknn.params import require
from sparknn.solvers import LBFGS, OWLQN, ConjugateGradient, GradientDescent, Solver
from sparknn.training import Fit, FullBatchFit, MinibatchFit

__all__ = ["check_initial_weights", "check_penalty", "network_fit"]


def check_penalty(estimator: Any) -> None:
    """Raise InvalidParamError for a penalty that is out of range or that the solver has not."""
    require(estimator, "regParam", lambda v: v >= 0, "at least 0")
    require(estimator, "elasticNetParam", lambda v: 0 <= v <= 1, "in [0, 1]")
    if estimator.getSolver() in ("gd", "cg") and estimator.getRegParam():
        smooth = f"0 for solver={estimator.getSolver()!r}, which needs a smooth objective"
        require(estimator, "elasticNetParam", lambda v: v == 0, smooth)


def check_initial_weights(estimator: Any, network: Network) -> None:
    """Raise InvalidParamError for initial weights that are not as many as the network's."""
    if not estimator.isDefined("initialWeights"):
        return
    given = len(estimator.getInitialWeights())
    if given != network.size:
        raise InvalidParamError(
            f"initialWeights holds {given} values, and layers {network.layers} have {network.size}"
        )


def network_fit(estimator: Any, blocks: Blocks, network: Network) -> Fit:
    """Return the fit of a network by the estimator's solver, at its start."""
    if estimator.isDefined("initialWeights"):
        start = estimator.getInitialWeights().toArray()
    else:
        start = network.initial(estimator.getSeed())
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
    solver = _solver(estimator, start, l1)
    return FullBatchFit(blocks, network, l2, solver, estimator.getGradientTol())


def _solver(estimator: Any, start: np.ndarray, l1: np.ndarray) -> Solver:
    limits = estimator.getMaxIter(), estimator.getTol()
    if estimator.getSolver() == "gd":
        return GradientDescent(start, estimator.getStepSize(), *limits)
    if estimator.getSolver() == "cg":
        return ConjugateGradient(start, *limits)
    return OWLQN(start, l1, *limits) if l1.any() else LBFGS(start, *limits)
