"""Line searches as step objects: they ask for a step and are told value and slope there."""

from __future__ import annotations

import math

import numpy as np

from sparknn.solvers.base import Arrays, Facts

__all__ = ["Backtracking", "LineSearch", "StrongWolfe"]

Trial = tuple[float, float, float]
"""A step with the value and the slope there."""

DECREASE = 1e-4
"""The share of the decrease that the slope promises which a step must bring (Armijo)."""


class LineSearch:
    """A search for a step, beginning with `step`, along a direction of negative slope.

    step: the length to try next; accepted, failed: how it ended, both False while it goes on.
    """

    def __init__(self, value: float, slope: float, step: float):
        self.value, self.slope, self.step = value, slope, step
        self.tries = 0
        self.accepted = self.failed = False

    def tell(self, value: float, slope: float) -> None:
        """Take the function's value and slope at `step`."""
        raise NotImplementedError

    @property
    def guess(self) -> float | None:
        """The step to try next if this one is refused; None where that depends on why."""
        return None

    def _too_high(self, value: float) -> bool:
        return value > self.value + DECREASE * self.step * self.slope

    def state(self) -> tuple[Arrays, Facts]:
        """Return floats and trials as arrays, counts and flags as facts, for `restored`."""
        kept = vars(self).items()
        arrays = {name: np.array(it) for name, it in kept if isinstance(it, (float, tuple))}
        return arrays, {name: it for name, it in kept if name not in arrays}

    @classmethod
    def restored(cls, arrays: Arrays, facts: Facts) -> LineSearch:
        """Return the search whose `state` this was."""
        search = cls.__new__(cls)
        for name, array in arrays.items():
            setattr(search, name, tuple(array.tolist()) if array.ndim else float(array))
        for name, fact in facts.items():
            setattr(search, name, fact)
        return search


class StrongWolfe(LineSearch):
    """A step that meets the strong Wolfe conditions.

    Nocedal and Wright, Numerical Optimization (2006), algorithms 3.5 and 3.6.

    Parameters
    ----------
    value, slope : float
        At the step zero.
    step : float
        The first to try, at most `bound`.
    bound : float, default infinity
        The longest step; there a sufficient decrease is enough.
    curvature : float, default 0.9
        The slope must fall to this share of the first.
    most : int, default 10
        Most tries, both until an interval is found and within it.
    """

    def __init__(
        self,
        value: float,
        slope: float,
        step: float,
        bound: float = math.inf,
        curvature: float = 0.9,
        most: int = 10,
    ):
        super().__init__(value, slope, step)
        self.bound, self.curvature, self.most = bound, curvature, most
        self.low: Trial = (0.0, value, slope)
        self.high: Trial = self.low
        self.zooms = False

    def tell(self, value: float, slope: float) -> None:
        self.tries += 1
        here = (self.step, value, slope)
        (self._zoom if self.zooms else self._bracket)(here)
        if not self.accepted and self.tries >= self.most:
            self.failed = True

    def _bracket(self, here: Trial) -> None:
        """Grow the step until an interval surely holds a good one."""
        step, value, slope = here
        if not math.isfinite(value):
            self.step = step / 2
        elif self._too_high(value) or (value >= self.low[1] and self.tries > 1):
            self._begin_zoom(self.low, here)
        elif abs(slope) <= self.curvature * abs(self.slope):
            self.accepted = True
        elif slope >= 0:
            self._begin_zoom(here, self.low)
        elif step == self.bound:
            self.accepted = True
        else:
            self.low = here
            self.step = min(step * 1.5, self.bound)

    def _begin_zoom(self, low: Trial, high: Trial) -> None:
        self.low, self.high, self.tries, self.zooms = low, high, 0, True
        self.step = _cubic_minimum(low, high)

    def _zoom(self, here: Trial) -> None:
        """Shrink the interval between `low`, the best step so far, and `high`."""
        _, value, slope = here
        if self._too_high(value) or value >= self.low[1] or not math.isfinite(value):
            self.high = here
        elif abs(slope) <= self.curvature * abs(self.slope):
            self.accepted = True
            return
        else:
            if slope * (self.high[0] - self.low[0]) >= 0:
                self.high = self.low
            self.low = here
        if self.low[0] == self.high[0]:
            self.failed = True
        else:
            self.step = _cubic_minimum(self.low, self.high)


class Backtracking(LineSearch):
    """A step found by shrinking and growing the first, as Breeze's OWL-QN takes it.

    Two things are Breeze's and decide how many iterations a fit has. The first try is judged by
    its slope and by `stand_in` in the place of its value, and the twentieth step is taken
    whatever its slope. Unlike Breeze's, this search shrinks steps to values that are not finite
    and never ends with a twentieth that leads uphill.

    Parameters
    ----------
    value, slope : float
        At the step zero.
    step : float
        The first to try.
    shrink : float
        Multiplies a step that is too long.
    stand_in : float
        Takes the place of the first try's value.
    """

    CURVATURE = 0.9
    GROW = 2.1
    TRIES = 20
    SHORTEST, LONGEST = 1e-10, 1e10

    def __init__(self, value: float, slope: float, step: float, shrink: float, stand_in: float):
        super().__init__(value, slope, step)
        self.shrink, self.stand_in = shrink, stand_in
        self.factor = shrink

    @property
    def guess(self) -> float:
        """The step to try next if this one is refused for the reason that the last one was."""
        return self.step * self.factor

    def tell(self, value: float, slope: float) -> None:
        self.tries += 1
        factor = self._factor(value, slope)
        if factor == 1:
            self.accepted = True
            return
        self.factor = factor
        step = self.guess
        if not self.SHORTEST <= step <= self.LONGEST:
            self.failed = True
        elif self.tries >= self.TRIES:
            self.accepted = value <= self.value
            self.failed = not self.accepted
        else:
            self.step = step

    def _factor(self, value: float, slope: float) -> float:
        """Return by what to multiply the step, 1 where it is good."""
        if not math.isfinite(value):
            return self.shrink
        if self._too_high(self.stand_in if self.tries == 1 else value):
            return self.shrink
        if slope < self.CURVATURE * self.slope:
            return self.GROW
        return self.shrink if slope > -self.CURVATURE * self.slope else 1.0


def _cubic_minimum(one: Trial, other: Trial) -> float:
    """Return where the cubic through both trials is least, off the ends by a tenth.

    Nocedal and Wright, equation 3.59.
    """
    (left, f0, d0), (right, f1, d1) = sorted((one, other))
    low, high = left + 0.1 * (right - left), left + 0.9 * (right - left)
    slope = d0 + d1 - 3 * (f0 - f1) / (left - right)
    square = slope * slope - d0 * d1
    if not math.isfinite(square) or square < 0:
        return 0.5 * (left + right)
    root = math.sqrt(square)
    bottom = d1 - d0 + 2 * root
    if bottom == 0:
        return 0.5 * (left + right)
    return min(max(right - (right - left) * (d1 + root - slope) / bottom, low), high)
