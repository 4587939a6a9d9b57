"""Features learnt without labels."""

from sparknn.feature.autoencoder import Autoencoder, AutoencoderModel
from sparknn.feature.dbn import DBN, DBNModel
from sparknn.feature.rbm import RBM, RBMModel
from sparknn.feature.summary import RBMTrainingSummary

__all__ = [
    "Autoencoder",
    "AutoencoderModel",
    "DBN",
    "DBNModel",
    "RBM",
    "RBMModel",
    "RBMTrainingSummary",
]
