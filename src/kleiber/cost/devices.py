"""Devices and what they can do; the figures stand in `devices.yaml`."""

from __future__ import annotations

import functools
from importlib import resources

import yaml
from pydantic import Field

from kleiber.errors import RecipeError
from kleiber.runs import Document

__all__ = ["DTYPES", "Device", "find_device", "known_devices"]

DTYPES = ("bf16", "fp16", "fp32", "tf32", "fp8")
"""Precisions of matrix products; a device without a choice takes the first of these that it has."""


class Device(Document):
    """What one accelerator, or the cores of a machine, can do at most."""

    name: str
    title: str
    peak_flops_per_s: dict[str, float]
    """Dense matrix products by dtype [FLOP/s]."""
    memory_bytes: float | None = Field(default=None, gt=0)
    """As marketed; None where it is the machine's."""
    bandwidth_bytes_per_s: float | None = Field(default=None, gt=0)
    usd_per_hour: float | None = Field(default=None, ge=0)
    """List price of one device on demand."""
    price_date: str | None = None
    """Year and month of that price."""

    def peak(self, dtype: str | None = None) -> tuple[str, float]:
        """Return a dtype and the peak rate with it [FLOP/s].

        Args:
            dtype: A name of `DTYPES`; None takes the one that training on this device takes.

        Raises:
            RecipeError: The device has no such rate.

        Example:
            >>> find_device("t4").peak()
            ('fp16', 65000000000000.0)
        """
        chosen = dtype or next(name for name in DTYPES if name in self.peak_flops_per_s)
        if chosen not in self.peak_flops_per_s:
            known = ", ".join(self.peak_flops_per_s)
            raise RecipeError(f"{self.name} has no peak for this dtype; it has {known}.", got=chosen)
        return chosen, self.peak_flops_per_s[chosen]


@functools.cache
def known_devices() -> dict[str, Device]:
    """Return all devices by name."""
    text = resources.files("kleiber.cost").joinpath("devices.yaml").read_text(encoding="utf-8")
    return {name: Device(name=name, **values) for name, values in yaml.safe_load(text).items()}


def find_device(name: str) -> Device:
    """Return the device of that name, however its letters are cased.

    Raises:
        RecipeError: There is none; the error lists the known ones.

    Example:
        >>> find_device("H100-SXM").memory_bytes
        80000000000.0
    """
    devices = known_devices()
    if name.strip().lower() not in devices:
        raise RecipeError(
            f"unknown device '{name}'. Known: {', '.join(sorted(devices))}.", hint="--device h100-sxm"
        )
    return devices[name.strip().lower()]
