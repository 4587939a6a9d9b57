"""Minibatch optimizers: one object each, with one `step`.

Step size and momentum are schedules: functions of the training's progress, from 0 at its first
step to 1 at its end. To add an optimizer or a schedule, write it here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

__all__ = [
    "SCHEDULES",
    "SGD",
    "Adam",
    "Optimizer",
    "constant",
    "cosine",
    "inverse_time",
    "linear",
    "step",
]

Schedule = Callable[[float], float]

PIECE = 2**16
"""Parameters that a step takes at a time: its passes over them stay in a core's cache."""

LEAST_FACTOR = 2.0**-30
"""Where a velocity is brought back to its own scale; float32 goes from 2^-126 to 2^127."""


@dataclass(frozen=True)
class constant:
    """A schedule that stays at `value`."""

    value: float

    def __call__(self, progress: float) -> float:
        return self.value


@dataclass(frozen=True)
class linear:
    """A schedule that goes from `start` to `end` in a straight line, over all of the training."""

    start: float
    end: float = 0.0

    def __call__(self, progress: float) -> float:
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True)
class cosine:
    """A schedule that goes from `start` to `end` along half a cosine (Loshchilov, Hutter 2017)."""

    start: float
    end: float = 0.0

    def __call__(self, progress: float) -> float:
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class step:
    """A schedule that is multiplied by `factor` at each of some places (He et al., 2016)."""

    start: float
    factor: float = 0.1
    places: tuple[float, ...] = (0.5, 0.75)

    def __call__(self, progress: float) -> float:
        return self.start * self.factor ** sum(progress >= place for place in self.places)


@dataclass(frozen=True)
class inverse_time:
    """A schedule of start / (1 + decay * progress) (Robbins, Monro 1951)."""

    start: float
    decay: float = 9.0

    def __call__(self, progress: float) -> float:
        return self.start / (1 + self.decay * progress)


SCHEDULES: dict[str, Callable[[float], Schedule]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "step": step,
    "inverseTime": inverse_time,
}
"""What `stepSizeSchedule` names, from the step size at the start."""


def _schedule(value: float | Schedule) -> Schedule:
    return value if callable(value) else constant(float(value))


class Optimizer:
    """Takes steps against a gradient, in place.

    carries: how many vectors of the parameters' size its state holds that have to travel with
        the parameters when partitions take steps of their own and are then averaged.
    """

    carries = 0
    state: np.ndarray

    def start(self, size: int, dtype: type) -> None:
        """Forget all state and prepare for parameters of (size,) and `dtype`."""
        raise NotImplementedError

    def step(self, theta: np.ndarray, gradient: np.ndarray, progress: float, count: int) -> None:
        """Move `theta` by one step; `count` is the number of steps before it.

        `gradient` is scratch: its contents are lost.
        """
        raise NotImplementedError

    def gathers(self) -> bool:
        """Return whether `gather`, `follow` and `settle` can be used in place of `step`."""
        return False

    def gather(self, progress: float) -> float:
        """Prepare a step, and return how much of the gradient is to be added to `state[0]`."""
        raise NotImplementedError

    def follow(self, theta: np.ndarray) -> None:
        """Move `theta` by the step whose gradient was added."""
        raise NotImplementedError

    def settle(self) -> None:
        """Bring `state` to what `step` would have left; to be called after the last `follow`."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v <- m v - s g, theta <- theta + v.

    Parameters
    ----------
    step_size : float or schedule
        s, greater than 0.
    momentum : float or schedule, default 0
        m, in [0, 1).
    nesterov : bool, default False
        Use Nesterov's gradient, theta <- theta + m v - s g (Sutskever et al., 2013, eq. 3-4).
    """

    def __init__(
        self,
        step_size: float | Schedule,
        momentum: float | Schedule = 0.0,
        nesterov: bool = False,
    ):
        self.step_size = _schedule(step_size)
        self.momentum = _schedule(momentum)
        self.nesterov = nesterov
        self._factor = 1.0

    def start(self, size: int, dtype: type) -> None:
        self.state = np.zeros((1, size), dtype)
        self._factor = 1.0

    def gathers(self) -> bool:
        return not self.nesterov

    def gather(self, progress: float) -> float:
        """Prepare a step, and return how much of the gradient is to be added to `state[0]`.

        The velocity is `state[0]` times a factor, which takes up the momentum: so the velocity is
        only added to, which BLAS does while it computes the gradient.
        """
        self._factor *= self.momentum(progress)
        if self._factor < LEAST_FACTOR:
            self.settle()
        return -self.step_size(progress) / self._factor

    def follow(self, theta: np.ndarray) -> None:
        axpy = blas.saxpy if theta.dtype == np.float32 else blas.daxpy
        axpy(self.state[0], theta, a=self._factor)

    def settle(self) -> None:
        if self._factor != 1:
            self.state *= self._factor
        self._factor = 1.0

    def step(self, theta: np.ndarray, gradient: np.ndarray, progress: float, count: int) -> None:
        momentum, step_size = self.momentum(progress), self.step_size(progress)
        for start in range(0, len(theta), PIECE):
            piece = slice(start, start + PIECE)
            move, velocity = gradient[piece], self.state[0, piece]
            move *= step_size
            velocity *= momentum
            velocity -= move
            if self.nesterov:
                theta[piece] -= move
                theta[piece] += momentum * velocity
            else:
                theta[piece] += velocity


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1, with the order of section 2's last paragraph).

    Parameters
    ----------
    step_size : float or schedule
        Greater than 0.
    beta1, beta2 : float, default 0.9 and 0.999
        Decay of the mean gradient and of the mean squared gradient.
    epsilon : float, default 1e-8
        Added to the root of the mean square.
    """

    carries = 2

    def __init__(
        self,
        step_size: float | Schedule,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ):
        self.step_size = _schedule(step_size)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def start(self, size: int, dtype: type) -> None:
        self.state = np.zeros((2, size), dtype)

    def step(self, theta: np.ndarray, gradient: np.ndarray, progress: float, count: int) -> None:
        mean, square = self.state
        mean *= self.beta1
        mean += (1 - self.beta1) * gradient
        gradient *= gradient
        gradient *= 1 - self.beta2
        square *= self.beta2
        square += gradient
        root = np.sqrt(square, out=gradient)
        correction = math.sqrt(1 - self.beta2 ** (count + 1))
        root += self.epsilon * correction
        np.divide(mean, root, out=root)
        root *= self.step_size(progress) * correction / (1 - self.beta1 ** (count + 1))
        theta -= root
