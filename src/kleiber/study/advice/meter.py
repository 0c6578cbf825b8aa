"""What costs are counted in, and what may be spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kleiber.study.advice.token_cost import TokenCost
from kleiber.units import format_count, format_flops, format_seconds

__all__ = ["Meter", "Unit", "format_cost", "format_usd"]

Unit = Literal["usd", "s", "flops"]


@dataclass(frozen=True)
class Meter:
    """Turns operations and time of devices into the unit that routes are ranked in."""

    unit: Unit
    num_devices: int = 1
    usd_per_hour: float | None = None
    """Of one device; needed for money."""

    def amount(self, cost: TokenCost) -> float:
        """Return what a token costs.

        Example:
            >>> cost = TokenCost(flops=6e9, device_s=0.5)
            >>> Meter("flops").amount(cost), Meter("s", num_devices=8).amount(cost), Meter("usd", 8, 7200.0).amount(cost)
            (6000000000.0, 0.0625, 1.0)
        """
        if self.unit == "flops":
            return cost.flops
        if self.unit == "s":
            return cost.device_s / self.num_devices
        return cost.device_s * (self.usd_per_hour or 0.0) / 3600


def format_cost(value: float, unit: Unit) -> str:
    """Return a cost as people read it.

    Example:
        >>> format_cost(1.234e6, "usd"), format_cost(7380.0, "s"), format_cost(3e21, "flops")
        ('$1.23 M', '2 h 03 min', '3.00 ZFLOP')
    """
    return {"usd": format_usd, "s": format_seconds, "flops": format_flops}[unit](value)


def format_usd(value: float) -> str:
    """Return money with three digits.

    Example:
        >>> format_usd(0.0123), format_usd(12345), format_usd(9.87)
        ('$0.0123', '$12.3 K', '$9.87')
    """
    return f"${value:.3g}" if value < 1 else f"${format_count(value)}"
