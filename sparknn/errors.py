"""What can go wrong, a class per situation; every message says what to do next."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ClusterMismatchError",
    "DiskSpaceError",
    "DivergenceError",
    "DownloadError",
    "IncompleteError",
    "InvalidDataError",
    "InvalidParamError",
    "LostBlockError",
    "MissingPackageError",
    "SparknnError",
    "UnsupportedModelError",
]


class SparknnError(Exception):
    """Base of all errors of this package."""


class InvalidDataError(SparknnError, ValueError):
    """Rows, columns or labels that cannot be trained on."""


class InvalidParamError(SparknnError, ValueError):
    """A param or option whose value is out of range, or not implemented yet."""


class IncompleteError(SparknnError, OSError):
    """A saved model or estimator whose writing was cut short, or something else altogether."""


class UnsupportedModelError(SparknnError, ValueError):
    """A saved model, or a stage of a saved pipeline, that cannot do its work without Spark."""


class MissingPackageError(SparknnError, ImportError):
    """A package is needed that comes with one of the extras."""


class DownloadError(SparknnError, OSError):
    """A jar that cannot be fetched, or that came broken."""


class DivergenceError(SparknnError, ArithmeticError):
    """The loss became infinite or not a number."""


class DiskSpaceError(SparknnError, OSError):
    """An executor's disk cannot hold the blocks."""


class LostBlockError(SparknnError, RuntimeError):
    """A block went missing again and again, or came out different when it was packed anew."""


class ClusterMismatchError(SparknnError, RuntimeError):
    """Driver and executors do not run the same Python or the same packages."""


class CheckpointError(SparknnError, ValueError):
    """Checkpoints of other settings or other rows, or of which none can be read."""
