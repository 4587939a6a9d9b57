"""What a confusion matrix tells: of each class, and of true and predicted classes as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["agreement", "per_class"]


def per_class(matrix: Sequence[Sequence[int]], words: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return rows, predictions, precision, recall and F of each class.

    Parameters
    ----------
    matrix : (classes, classes) of int
        Counts, a row for each true class.
    words : (classes,) of str, optional
        Their names.

    A quotient of nothing by nothing is 0, as in MLlib.
    """
    counts = np.asarray(matrix, np.int64)
    rows, predicted, right = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    precision, recall = _ratio(right, predicted), _ratio(right, rows)
    f1 = _ratio(2 * right, rows + predicted)
    return [
        {
            "class": words[index] if words else index,
            "rows": int(rows[index]),
            "predicted": int(predicted[index]),
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
        }
        for index in range(len(counts))
    ]


def agreement(matrix: Sequence[Sequence[int]]) -> dict[str, float]:
    """Return the mean F of the classes, Cohen's kappa (1960) and Matthews' correlation.

    The last is that of several classes (Gorodkin, 2004). Both are 0 where chance would agree as
    often, and where they are not defined, because one class alone is true or predicted.
    """
    counts = np.asarray(matrix, np.float64)
    rows, predicted, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    right = np.trace(counts)
    chance = rows @ predicted
    covariance = right * total - chance
    spread = math.sqrt((total**2 - predicted @ predicted) * (total**2 - rows @ rows))
    f1 = _ratio(2 * np.diag(counts), rows + predicted)
    return {
        "macroF1": float(f1[rows + predicted > 0].mean()),
        "kappa": float(covariance / (total**2 - chance)) if total**2 > chance else 0.0,
        "matthews": float(covariance / spread) if spread else 0.0,
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
