"""Features learnt without labels."""

from sparknn.feature.rbm import RBM, RBMModel
from sparknn.feature.summary import RBMTrainingSummary

__all__ = ["RBM", "RBMModel", "RBMTrainingSummary"]
