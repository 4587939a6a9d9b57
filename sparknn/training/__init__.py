"""The fit loops: rounds, steps, history, when to stop, and how to go on after an interruption."""

from sparknn.training.checkpoints import Checkpoints, description_of
from sparknn.training.fit import Fit
from sparknn.training.full_batch import FullBatchFit
from sparknn.training.held_out import HeldOut
from sparknn.training.history import Fitted, Round
from sparknn.training.minibatch import Minibatch, MinibatchFit
from sparknn.training.train import fit_minibatch, train_fits

__all__ = [
    "Checkpoints",
    "Fit",
    "Fitted",
    "FullBatchFit",
    "HeldOut",
    "Minibatch",
    "MinibatchFit",
    "Round",
    "description_of",
    "fit_minibatch",
    "train_fits",
]
