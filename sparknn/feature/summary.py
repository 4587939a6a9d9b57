"""How the training of a machine went."""

from __future__ import annotations

from sparknn.diagnostics import Diagnostics, Training

__all__ = ["RBMTrainingSummary"]


class RBMTrainingSummary(Diagnostics):
    """Curves over the epochs, and where the time went.

    Work is counted as 6 + 4 cdSteps floating-point operations per weight and row.
    """

    def __init__(self, training: Training):
        self._training = training

    @property
    def objectiveHistory(self) -> list[float]:
        """The reconstruction error of each epoch: mean squared, per row and visible unit.

        Taken as the steps went on, given sampled hidden units; with the penalty, if there is one.
        """
        return self._training.fitted.objective_history

    @property
    def validationHistory(self) -> list[float]:
        """The held-out rows' reconstruction error after each epoch, without sampling."""
        return self._training.fitted.held_out_history

    @property
    def freeEnergyGap(self) -> list[float]:
        """Mean free energy of held-out rows less that of training rows, after each epoch.

        Of the first training rows of each partition, about as many as were held out. While it
        stays near zero nothing is learnt by heart; when it grows, the machine overfits (Hinton
        2012, section 6). Empty without validationIndicatorCol.
        """
        return [held - own for own, held in self._training.fitted.monitored]
