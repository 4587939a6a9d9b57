"""What a cluster costs an hour, by a small table of list prices."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AS_OF", "REGION", "Estimate", "estimate", "per_hour"]

AS_OF = "2025-06"
REGION = "us-east-1"

# Dollars an hour for Linux on demand, of each family's `large`; the sizes are priced in proportion.
LARGE = {
    "c5": 0.085,
    "c6g": 0.068,
    "c6i": 0.085,
    "c7g": 0.0725,
    "c7i": 0.08925,
    "i4i": 0.1716,
    "m5": 0.096,
    "m6g": 0.077,
    "m6i": 0.096,
    "m7g": 0.0816,
    "m7i": 0.1008,
    "m7gd": 0.1068,
    "r5": 0.126,
    "r6g": 0.1008,
    "r6i": 0.126,
    "r7g": 0.1071,
    "r7i": 0.1323,
    "t3": 0.0832,
    "t4g": 0.0672,
}
VOLUME_GB_MONTH = 0.08
ADDRESS_HOUR = 0.005
HOURS_A_MONTH = 730


@dataclass(frozen=True)
class Estimate:
    """Dollars an hour; unknown: instance types that the table does not have."""

    dollars: float
    unknown: tuple[str, ...]
    spot: bool

    def __str__(self) -> str:
        least = "at least " if self.unknown else ("up to " if self.spot else "")
        text = f"{least}{self.dollars:.2f} dollars an hour ({REGION}, {AS_OF}, without traffic)"
        if self.unknown:
            text += f", and the price of {', '.join(self.unknown)}, which the table lacks"
        return text


def per_hour(instance_type: str) -> float | None:
    """Return the list price of an instance type on demand, None where the table lacks it."""
    family, _, size = instance_type.partition(".")
    sizes = {"medium": 0.5, "large": 1.0, "xlarge": 2.0}
    times = sizes.get(size)
    if times is None and size.endswith("xlarge") and size[:-6].isdigit():
        times = 2.0 * int(size[:-6])
    if family not in LARGE or times is None:
        return None
    return LARGE[family] * times


def estimate(
    types: list[str], volume_gb: int, public_address: bool, spot: bool = False
) -> Estimate:
    """Return the price of a cluster.

    types : each machine's instance type. volume_gb : of one machine, all volumes. spot : the
    workers are, and cost less than the list price counted here.
    """
    prices = {name: per_hour(name) for name in set(types)}
    machine = volume_gb * VOLUME_GB_MONTH / HOURS_A_MONTH + ADDRESS_HOUR * public_address
    dollars = sum((prices[name] or 0.0) + machine for name in types)
    unknown = sorted(name for name, price in prices.items() if price is None)
    return Estimate(dollars, tuple(unknown), spot)
