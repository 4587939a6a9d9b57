"""Fast coin tosses, and many of them in few bytes.

Contrastive divergence draws a random number per unit and row, which with NumPy's own float32
numbers takes as long as one of its matrix products; here it is a quarter of that.
"""

from __future__ import annotations

import numpy as np

from sparknn.bits import LEVELS, random_bits

__all__ = ["bernoulli", "packed", "unpacked"]


def bernoulli(
    probabilities: np.ndarray, random: np.random.Generator, out: np.ndarray | None = None
) -> np.ndarray:
    """Draw 0 or 1 for each probability.

    A number in [0, 1) is made of 16 random bits for each unit, and of a fraction of the last bit
    which all units of the call share. So each unit's probability is exact to float32's rounding
    (2^-25), while two units depend on each other by less than 2^-32.

    Parameters
    ----------
    probabilities : array of floats in [0, 1]
    random : numpy.random.Generator
    out : array of the same shape and dtype, optional
        Where to write to; may be `probabilities` itself.
    """
    out = np.multiply(probabilities, LEVELS, out=out)
    _toss(out, random, np.uint16)
    return out


def tossed(inputs: np.ndarray, random: np.random.Generator) -> None:
    """Replace each input z, in place, by 1 with probability 1 / (1 + exp(-z)), or else by 0.

    As `bernoulli`, without the passes that make a probability of tanh(z / 2).
    """
    inputs *= 0.5
    np.tanh(inputs, out=inputs)
    inputs *= LEVELS // 2
    _toss(inputs, random, np.int16)


def _toss(levels: np.ndarray, random: np.random.Generator, kind: type) -> None:
    """Replace `levels`, in place, by whether they are above random numbers of 16 bits."""
    bits = random_bits(random, levels.shape, kind)
    levels -= random.random()
    np.copyto(levels, np.less(bits, levels))


def packed(states: np.ndarray) -> np.ndarray:
    """Return states of 0 and 1, (rows, units), as bits, (rows, ceil(units / 8)) uint8."""
    return np.packbits(states != 0, axis=1)


def unpacked(bits: np.ndarray, units: int, dtype: type = np.float32) -> np.ndarray:
    """Return what `packed` took: (rows, units) of `dtype`."""
    return np.unpackbits(bits, axis=1, count=units).astype(dtype)
