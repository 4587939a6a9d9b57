"""Restricted Boltzmann machines: energies, contrastive divergence, partition functions.

Nothing here knows Spark.
"""

from sparknn.boltzmann.divergence import ContrastiveDivergence
from sparknn.boltzmann.likelihood import (
    log_likelihood,
    pseudo_likelihood,
    reconstruction_error,
)
from sparknn.boltzmann.machine import Machine
from sparknn.boltzmann.partition import annealed_log_partition, exact_log_partition
from sparknn.boltzmann.sampling import bernoulli, packed, unpacked
from sparknn.boltzmann.stack import Stack, Up, machines_of, unrolled_network
from sparknn.boltzmann.units import UNITS, Units, units

__all__ = [
    "UNITS",
    "ContrastiveDivergence",
    "Machine",
    "Stack",
    "Units",
    "Up",
    "annealed_log_partition",
    "bernoulli",
    "exact_log_partition",
    "log_likelihood",
    "machines_of",
    "packed",
    "pseudo_likelihood",
    "reconstruction_error",
    "units",
    "unpacked",
    "unrolled_network",
]
