"""Spark's own random numbers, so that a seed draws the initial weights that MLlib would draw."""

from __future__ import annotations

import numpy as np

__all__ = ["XorShift"]

MASK = 2**64 - 1
ARRAY_SEED = 0x3C074A61
"""scala.util.hashing.MurmurHash3.arraySeed"""


class XorShift:
    """The generator org.apache.spark.util.random.XORShiftRandom (Marsaglia, 2003, xorshift).

    Its step is linear over the bits of the state. So k steps at once are one table look-up per
    byte, and each pass below doubles the states that are known.
    """

    def __init__(self, seed: int):
        data = (seed & MASK).to_bytes(8, "big")
        low = _murmur3(data, ARRAY_SEED)
        self.state = _murmur3(data, low) << 32 | low

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        """Draw `size` doubles in [low, high), as java.util.Random.nextDouble draws them."""
        states = self._states(2 * size)
        bits = (states[0::2] & np.uint64(2**26 - 1)) << np.uint64(27)
        bits += states[1::2] & np.uint64(2**27 - 1)
        return low + (high - low) * (bits.astype(np.float64) * 2.0**-53)

    def _states(self, count: int) -> np.ndarray:
        """Return the next `count` states, (count,) uint64."""
        states = np.empty(max(count, 1), np.uint64)
        states[0] = _next(self.state)
        known, images = 1, np.array([_next(1 << bit) for bit in range(64)], np.uint64)
        while known < count:
            more = min(known, count - known)
            tables = _byte_tables(images)
            states[known : known + more] = _apply(tables, states[:more])
            known += more
            images = _apply(tables, images)
        if count:
            self.state = int(states[count - 1])
        return states[:count]


def _next(state: int) -> int:
    state ^= state << 21 & MASK
    state ^= state >> 35
    return state ^ (state << 4 & MASK)


def _byte_tables(images: np.ndarray) -> np.ndarray:
    """Return a linear map's images of all values of each byte, (8, 256), from those of the bits."""
    tables = np.zeros((8, 256), np.uint64)
    for bit in range(8):
        half = 1 << bit
        tables[:, half : 2 * half] = tables[:, :half] ^ images[bit::8, np.newaxis]
    return tables


def _apply(tables: np.ndarray, states: np.ndarray) -> np.ndarray:
    result = np.zeros_like(states)
    for byte, table in enumerate(tables):
        result ^= table[(states >> np.uint64(8 * byte)) & np.uint64(255)]
    return result


def _murmur3(data: bytes, seed: int) -> int:
    """Return the 32-bit MurmurHash3 (Appleby) of data whose length is a multiple of four."""
    h = seed
    for start in range(0, len(data), 4):
        k = int.from_bytes(data[start : start + 4], "little") * 0xCC9E2D51 & 0xFFFFFFFF
        k = _rotated(k, 15) * 0x1B873593 & 0xFFFFFFFF
        h = (_rotated(h ^ k, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & 0xFFFFFFFF
