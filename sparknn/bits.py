"""Random numbers of 16 bits, which cost half of what NumPy's float32 ones do."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["LEVELS", "random_bits"]

LEVELS = 2**16
"""How many numbers there are."""


def random_bits(
    random: np.random.Generator, shape: tuple[int, ...], kind: type = np.uint16
) -> np.ndarray:
    """Draw an array of uint16 from 0 to 65535, or of int16 from -32768 to 32767."""
    size = math.prod(shape)
    words = random.bit_generator.random_raw((size + 3) // 4)
    return words.view(kind)[:size].reshape(shape)
