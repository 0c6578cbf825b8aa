"""What somebody can spend, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kleiber.cost import Device
from kleiber.errors import UsageError
from kleiber.runs import Document
from kleiber.units import format_bytes, format_flops

__all__ = ["Budget", "Spend", "price_of", "spends"]

_Amount = Annotated[float, Field(gt=0, le=1e40, allow_inf_nan=False)]

_S_PER_HOUR = 3600.0


class Budget(Document):
    """What may be spent; of several limits all hold.

    Money, hours and operations pay for training and, with `inference_tokens`, for serving as well.

    Example:
        >>> Budget(usd=100.0).has_compute, Budget(memory_bytes=24e9).has_compute
        (True, False)
    """

    help_line = "kleiber plan gpt --budget-usd 100 --device a100-80gb"

    usd: _Amount | None = None
    hours: _Amount | None = None
    """Of all devices side by side."""
    flops: _Amount | None = None
    memory_bytes: _Amount | None = None
    """Of one device; without it the device's own."""
    inference_tokens: float = Field(default=0.0, ge=0, le=1e30, allow_inf_nan=False)
    """Tokens that the model will read and write over its life."""
    num_devices: int = Field(default=1, ge=1, le=10**6, strict=True)

    @model_validator(mode="after")
    def _holds_a_limit(self) -> Self:
        if not self.has_compute and self.memory_bytes is None:
            raise ValueError(
                "a budget needs at least one of usd, hours, flops and memory_bytes; none was given"
            )
        return self

    @property
    def has_compute(self) -> bool:
        """Something limits how much is computed."""
        return any(limit is not None for limit in (self.usd, self.hours, self.flops))

    @property
    def sentence(self) -> str:
        """The limits as people write them."""
        parts = [
            None if self.usd is None else f"{self.usd:g} USD",
            None if self.hours is None else f"{self.hours:g} hours of {self.num_devices} device(s)",
            None if self.flops is None else format_flops(self.flops),
            None if self.memory_bytes is None else f"{format_bytes(self.memory_bytes)} a device",
        ]
        return " and ".join(part for part in parts if part is not None)


@dataclass(frozen=True)
class Spend:
    """One limit in the unit that a size is costed in."""

    name: Literal["usd", "hours", "flops"]
    """Which limit."""
    flops: float | None
    """Operations that may be done, where these are limited [FLOP]."""
    time_s: float | None
    """Time that may pass, where this is limited."""

    def flops_at(self, flops_per_s: float) -> float:
        """Return the operations that the limit leaves at a rate of all devices together [FLOP].

        Example:
            >>> Spend("hours", None, 10.0).flops_at(2e12), Spend("flops", 3e12, None).flops_at(2e12)
            (20000000000000.0, 3000000000000.0)
        """
        return self.flops if self.flops is not None else flops_per_s * (self.time_s or 0.0)


def spends(budget: Budget, device: Device, usd_per_hour: float | None = None) -> tuple[Spend, ...]:
    """Return the limits on computing: operations as they are, hours and money as time.

    Args:
        budget: What may be spent.
        device: Its list price is taken where no other is given.
        usd_per_hour: Price of one device.

    Raises:
        UsageError: Money is limited and there is no price, or the price is not positive.

    Example:
        >>> from kleiber.cost import find_device
        >>> [found.time_s for found in spends(Budget(usd=16.0, num_devices=8), find_device("cpu"), 2.0)]
        [3600.0]
    """
    found = []
    if budget.usd is not None:
        hours = budget.usd / (price_of(device, usd_per_hour) * budget.num_devices)
        found.append(Spend("usd", None, hours * _S_PER_HOUR))
    if budget.hours is not None:
        found.append(Spend("hours", None, budget.hours * _S_PER_HOUR))
    if budget.flops is not None:
        found.append(Spend("flops", budget.flops, None))
    return tuple(found)


def price_of(device: Device, usd_per_hour: float | None) -> float:
    """Return the price of one device [USD/h]: the one given, or its list price.

    Raises:
        UsageError: There is none, or it is not positive.
    """
    price = usd_per_hour if usd_per_hour is not None else device.usd_per_hour
    if price is None:
        raise UsageError(
            f"--budget-usd needs a price, and {device.name} has none.",
            hint="--budget-usd 100 --usd-per-hour 2.50",
        )
    if not price > 0:
        raise UsageError(
            "--budget-usd needs a price above 0: what costs nothing is limited by hours.",
            got=price,
            hint="--budget-hours 24",
        )
    return price
