"""Devices and what they can do; the figures stand in `devices.yaml`."""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import re
from collections.abc import Mapping
from importlib import resources
from typing import Annotated

import yaml
from pydantic import Field

from kleiber.errors import RecipeError
from kleiber.runs import Document

__all__ = ["DTYPES", "NETWORK_BYTES_PER_S", "Device", "described_device", "find_device", "known_devices"]

DTYPES = ("bf16", "fp16", "fp32", "tf32", "fp8", "int8")
"""Precisions of matrix products; a device without a choice takes the first of these that it has."""

NETWORK_BYTES_PER_S = 12.5e9
"""Of a device beyond its node where nothing says more: one port of 100 Gbit/s for each."""

_LIST = "list"
_BY_HAND = "--peak-flops-per-s 3e14 --memory-bytes 80e9"
_MAX_NEAR = 6
_MAKERS = re.compile(r"(nvidia|geforce|tesla|amd|instinct|radeon|google|intel|aws|apple)+")

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Device(Document):
    """What one accelerator, or the cores of a machine, can do at most."""

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    """Other names that can mean nothing else."""
    per: str = "device"
    """What a row is about: a GPU, one die of two (GCD), a chip, a machine."""
    peak_flops_per_s: dict[str, _Positive] = Field(min_length=1)
    """Dense matrix products by dtype [FLOP/s]."""
    memory_bytes: _Positive | None = None
    """As marketed; None where it is the machine's."""
    bandwidth_bytes_per_s: _Positive | None = None
    """Of its memory."""
    interconnect_bytes_per_s: _Positive | None = None
    """All links to the other devices of its node, one direction; None where there are none."""
    network_bytes_per_s: _Positive = NETWORK_BYTES_PER_S
    """Of this device beyond its node, one direction."""
    devices_per_node: int = Field(default=1, ge=1)
    """Devices that the interconnect joins: a server, a rack, a pod of TPUs."""
    watts: _Positive | None = None
    """Power limit of the device alone; None where the vendor publishes none."""
    usd_per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """List price of one device on demand."""
    price_date: str | None = None
    """Year and month of that price."""
    source: str | None = None
    """Title of the data sheet that the figures are of."""
    date: str | None = None
    """Year and month of the source."""
    is_checked: bool = False
    """Peaks, memory and bandwidth were compared with the source; otherwise they are from memory."""

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
    # libyaml's loader where it is installed: it reads the file ten times faster.
    rows = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return {name: Device(name=name, **values) for name, values in rows.items()}


def find_device(name: str) -> Device:
    """Return the device of that name or alias, whatever its letters' case and the marks between them.

    A name that could mean several devices is refused: an H100 with PCIe is a quarter slower than one with SXM.

    Raises:
        RecipeError: There is none, or there are several; the error lists the nearest ones. For the name "list" it
            lists all.

    Example:
        >>> find_device("RTX 4090").memory_bytes, find_device("trn2").name
        (24000000000.0, 'trainium2')
    """
    devices, spelled = known_devices(), _spelled(name)
    if spelled in _spellings():
        return devices[_spellings()[spelled]]
    everything = ", ".join(sorted(devices))
    if spelled == _LIST:
        raise RecipeError(f"the known devices are: {everything}.", hint=f"--device h100-sxm, or {_BY_HAND}")
    variants = [found for found in devices if spelled and _spelled(found).startswith(spelled)]
    if len(variants) > 1:
        raise RecipeError(
            f"'{name}' may be any of {', '.join(sorted(variants))}; their peaks, memory or links differ.",
            hint=f"--device {variants[0]}",
        )
    near = variants or _nearest(spelled)
    listed = f"Near: {', '.join(near)}." if near else f"Known: {everything}."
    example = near[0] if near else "h100-sxm"
    raise RecipeError(
        f"unknown device '{name}'. {listed}",
        hint=f"--device {example}   (--device {_LIST} shows all {len(devices)}; describe another: {_BY_HAND})",
    )


def described_device(
    peak_flops_per_s: float | Mapping[str, float],
    memory_bytes: float,
    bandwidth_bytes_per_s: float | None = None,
    *,
    name: str = "custom",
    interconnect_bytes_per_s: float | None = None,
    network_bytes_per_s: float = NETWORK_BYTES_PER_S,
    devices_per_node: int = 1,
    watts: float | None = None,
    usd_per_hour: float | None = None,
) -> Device:
    """Return a device that somebody describes instead of naming one.

    Args:
        peak_flops_per_s: Dense matrix products [FLOP/s], by dtype; a single number holds for every floating-point
            dtype, since whoever gives one means the dtype they will use.
        memory_bytes: Of one device.
        bandwidth_bytes_per_s: Of its memory; None leaves every operation bound by compute.
        name: Shown in plans.
        interconnect_bytes_per_s: To the other devices of its node, one direction.
        network_bytes_per_s: Beyond its node, one direction.
        devices_per_node: Devices that the interconnect joins.
        watts: Power limit.
        usd_per_hour: Price of one device.

    Raises:
        RecipeError: A number that is not positive and finite, or a dtype that does not exist.

    Example:
        >>> described_device(3e14, 80e9).peak("fp16")
        ('fp16', 300000000000000.0)
    """
    peaks = _by_dtype(peak_flops_per_s)
    _check_positive(
        {
            "peak-flops-per-s": min(peaks.values(), default=math.nan),
            "memory-bytes": memory_bytes,
            "bandwidth-bytes-per-s": bandwidth_bytes_per_s,
            "interconnect-bytes-per-s": interconnect_bytes_per_s,
            "network-bytes-per-s": network_bytes_per_s,
            "devices-per-node": devices_per_node,
            "watts": watts,
        }
    )
    if usd_per_hour is not None and not 0 <= usd_per_hour < math.inf:
        raise RecipeError("--usd-per-hour must not be negative.", got=usd_per_hour, hint="--usd-per-hour 2.5")
    return Device(
        name=name,
        title=f"{name}, described by hand",
        peak_flops_per_s=peaks,
        memory_bytes=memory_bytes,
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        interconnect_bytes_per_s=interconnect_bytes_per_s,
        network_bytes_per_s=network_bytes_per_s,
        devices_per_node=devices_per_node,
        watts=watts,
        usd_per_hour=usd_per_hour,
        source="described by hand",
    )


@functools.cache
def _spellings() -> dict[str, str]:
    """Return each name and alias, spelled without marks, and the device it means."""
    return {
        _spelled(word): name for name, device in known_devices().items() for word in (name, *device.aliases)
    }


def _spelled(name: str) -> str:
    return _MAKERS.sub("", re.sub(r"[^a-z0-9]", "", name.lower()), count=1)


def _nearest(spelled: str) -> list[str]:
    """Return the names that look most like what was typed, the best first, each device once."""
    close = difflib.get_close_matches(spelled, _spellings(), n=2 * _MAX_NEAR, cutoff=0.6)
    # What was typed is more often right at its beginning than at its end.
    close.sort(key=lambda word: -_num_shared(word, spelled))
    return list(dict.fromkeys(_spellings()[word] for word in close))[:_MAX_NEAR]


def _num_shared(first: str, second: str) -> int:
    """Return how many letters two words begin with alike."""
    return sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    )


def _by_dtype(peak_flops_per_s: float | Mapping[str, float]) -> dict[str, float]:
    if not isinstance(peak_flops_per_s, Mapping):
        return {dtype: peak_flops_per_s for dtype in DTYPES if dtype != "int8"}
    if unknown := [dtype for dtype in peak_flops_per_s if dtype not in DTYPES]:
        raise RecipeError(f"a peak is given by dtype, one of {', '.join(DTYPES)}.", got=unknown[0])
    return dict(peak_flops_per_s)


def _check_positive(numbers: Mapping[str, float | None]) -> None:
    """Raise a RecipeError for the first option whose number is not positive and finite."""
    for option, value in numbers.items():
        if value is not None and not 0 < value < math.inf:
            raise RecipeError(f"--{option} must be a positive number.", got=value, hint=_BY_HAND)
