"""What was typed of a budget, before it is known what it is for."""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.errors import UsageError
from kleiber.models import BROUGHT, FAMILIES, parse_size
from kleiber.study.budget import Budget

__all__ = ["Limits", "is_size_open"]

_SIZES = ("depth", "width", "params")


@dataclass(frozen=True)
class Limits:
    """What was typed of a budget."""

    usd: float | None = None
    hours: float | None = None
    """Of all devices side by side."""
    flops: float | None = None
    memory_bytes: float | None = None
    """Of one device."""
    inference_tokens: float = 0.0
    """Served over the model's life."""

    @property
    def has_compute(self) -> bool:
        """Something limits how much is computed."""
        return any(limit is not None for limit in (self.usd, self.hours, self.flops))

    @property
    def is_asked(self) -> bool:
        """Whether there is any limit."""
        return self.has_compute or self.memory_bytes is not None

    def budget(self, num_devices: int) -> Budget:
        """Return the document.

        Raises:
            UsageError: A number out of its range, or no limit.
        """
        return Budget.of({**self.__dict__, "num_devices": num_devices}, "the budget", UsageError)


def is_size_open(text: str) -> bool:
    """Return whether a size such as `gpt` or `gpt:head_dim=64` leaves open how large the model is.

    Example:
        >>> is_size_open("gpt"), is_size_open("gpt:depth=12"), is_size_open("config.json")
        (True, False, False)
    """
    family = text.partition(":")[0]
    if family not in FAMILIES or family in BROUGHT:  # which say their sizes themselves
        return False
    return not any(key in parse_size(text).size for key in _SIZES)
