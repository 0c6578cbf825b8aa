"""Where a model will run: one device, many, or this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kleiber.cost import Calibration, Device, find_device
from kleiber.cost.layouts import Layout
from kleiber.runs import num_cores

__all__ = ["LOCAL", "Place", "here"]

LOCAL = "local"
"""The name of this machine among devices."""


_ONE = Layout()


@dataclass(frozen=True)
class Place:
    """Devices and how the model is spread over them."""

    device: Device
    num_devices: int = 1
    layout: Layout = _ONE
    calibration: Calibration | None = None
    """Of this machine; None of another device, or when nothing was measured."""
    num_threads: int = 1
    """Of a process on this machine."""
    is_compiled: bool = False
    """Whether a compiler joins passes over memory (torch.compile)."""
    usd_per_hour: float | None = None
    """Of one device; None takes its list price."""

    @property
    def is_here(self) -> bool:
        """Whether it is this machine."""
        return self.device.name == LOCAL


def here(calibration: Calibration | None, *, num_threads: int | None = None) -> Place:
    """Return this machine: its memory as the system says, its rate as calibrated or assumed.

    Args:
        calibration: None when it was never calibrated.
        num_threads: Of the process; None takes all cores.
    """
    threads = num_threads or num_cores()
    assumed = find_device("cpu")
    device = assumed.model_copy(
        update={
            "name": LOCAL,
            "title": "this machine",
            "memory_bytes": _memory_bytes(),
            "peak_flops_per_s": {"fp32": calibration.peak(threads)}
            if calibration
            else assumed.peak_flops_per_s,
        }
    )
    return Place(device, calibration=calibration, num_threads=threads)


def _memory_bytes() -> float | None:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # not a Unix
        return None
