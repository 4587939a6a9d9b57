"""What a fit leaves behind: its parameters, and how it came to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

__all__ = ["Fitted", "Round"]


class Round(NamedTuple):
    """One line of a fit's history.

    epoch: from 1, for full-batch solvers the evaluation. loss: mean over the round's rows, with
    penalty. compute: seconds of work per core; other: seconds of everything else. batch: rows
    behind each step, over all partitions.
    """

    epoch: int
    loss: float
    compute: float
    other: float
    batch: int


@dataclass
class Fitted:
    """A fit's outcome.

    theta: the parameters, (size,). objective_history: as `Solver.history`, or the mean loss of
    each epoch. held_out_history: the mean loss of the held-out rows after each iteration or epoch.
    monitored: then, too, what the objective monitors, its mean over some training rows and over
    the held-out ones.
    iterations: of the solver, or epochs. rounds: one entry each. reason: why it ended.
    rows, skipped: trained on, and left out as invalid. threads: of linear algebra in each task.
    seconds: of training, packing not counted.
    """

    theta: np.ndarray
    objective_history: list[float] = field(default_factory=list)
    held_out_history: list[float] = field(default_factory=list)
    monitored: list[tuple[float, float]] = field(default_factory=list)
    iterations: int = 0
    rounds: list[Round] = field(default_factory=list)
    reason: str = ""
    rows: int = 0
    skipped: int = 0
    threads: int = 1
    seconds: float = 0.0
