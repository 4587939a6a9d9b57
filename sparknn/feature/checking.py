"""Whether columns are what a machine's visible units can stand for."""

from __future__ import annotations

import numpy as np

from sparknn.blocks import Blocks
from sparknn.errors import InvalidDataError
from sparknn.moments import Ranges, column_ranges

__all__ = ["require_visible", "visible_ranges"]

FARTHEST_MEAN = 0.5
NARROWEST, WIDEST = 0.5, 2.0
"""What a standardised column's mean and deviation may be in rows that are a sample."""


def visible_ranges(
    blocks: Blocks, kind: str, column: str, names: tuple[str, ...], keep: bool
) -> Ranges:
    """Return what the columns hold; raise InvalidDataError where it is not what units take.

    Parameters
    ----------
    blocks : Blocks
        The training rows.
    kind : str
        Of the visible units.
    column : str
        The name of the features' column.
    names : tuple of str
        Of the single features, where they are known.
    keep : bool
        Take any values (handleInvalid='keep').
    """
    ranges = column_ranges(blocks)
    if not keep:
        require_visible(ranges, blocks.rows, kind, column, names)
    return ranges


def require_visible(
    ranges: Ranges, rows: int, kind: str, column: str, names: tuple[str, ...]
) -> None:
    """Raise InvalidDataError for columns that visible units of this kind cannot stand for."""
    if kind == "binary":
        _require_probabilities(ranges, rows, column, names)
    else:
        _require_standardised(ranges, column, names)


def _require_probabilities(ranges: Ranges, rows: int, column: str, names: tuple[str, ...]) -> None:
    bad = (ranges.lowest < 0) | (ranges.highest > 1)
    if not bad.any():
        return
    excess = np.maximum(-ranges.lowest, ranges.highest - 1)
    worst = int(excess.argmax())
    raise InvalidDataError(
        f"column {column!r}: {ranges.outside} of {rows} rows hold values outside [0, 1], in "
        f"{bad.sum()} of {len(bad)} features; {_named(worst, names)} goes from "
        f"{ranges.lowest[worst]:g} to {ranges.highest[worst]:g}. Binary visible units stand for "
        "probabilities: scale the features (MinMaxScaler, or divide grey levels by 255), or "
        "standardise them and set visibleType='gaussian', or set handleInvalid='keep' to train on "
        "them as they are"
    )


def _require_standardised(ranges: Ranges, column: str, names: tuple[str, ...]) -> None:
    varies = ranges.deviation > 0
    off = np.abs(ranges.mean) > FARTHEST_MEAN
    spread = (ranges.deviation < NARROWEST) | (ranges.deviation > WIDEST)
    bad = varies & (off | spread)
    if not bad.any():
        return
    distance = np.abs(ranges.mean) + np.abs(np.log2(np.where(varies, ranges.deviation, 1)))
    worst = int(np.where(bad, distance, -1).argmax())
    raise InvalidDataError(
        f"column {column!r}: {bad.sum()} of {len(bad)} features are not standardised; "
        f"{_named(worst, names)} goes from {ranges.lowest[worst]:g} to {ranges.highest[worst]:g}, "
        f"with mean {ranges.mean[worst]:g} and deviation {ranges.deviation[worst]:g}. Gaussian "
        f"visible units have unit variance, so means must be within ±{FARTHEST_MEAN:g} and "
        f"deviations between {NARROWEST:g} and {WIDEST:g}: put a StandardScaler(withMean=True) "
        "before, or set handleInvalid='keep' for features that are whitened or scaled as a whole"
    )


def _named(index: int, names: tuple[str, ...]) -> str:
    return repr(names[index]) if names else f"feature {index}"
