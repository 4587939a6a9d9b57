"""Features learnt without labels."""

from sparknn.feature.dbn import DBN, DBNModel
from sparknn.feature.rbm import RBM, RBMModel
from sparknn.feature.summary import RBMTrainingSummary

__all__ = ["DBN", "DBNModel", "RBM", "RBMModel", "RBMTrainingSummary"]
