"""Where a model will run: one device, many, or this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from kleiber.cost import Calibration, Device, described_device, find_device, load_calibration
from kleiber.cost.layouts import Layout, parse_layout
from kleiber.errors import UsageError
from kleiber.runs import num_cores

__all__ = ["LOCAL", "Place", "here", "place_of"]

LOCAL = "local"
"""The name of this machine among devices."""


@dataclass(frozen=True)
class Place:
    """Devices, and how the model is spread over them."""

    device: Device
    num_devices: int = 1
    layout: Layout | None = None
    """None takes the best that fits."""
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
    """Return this machine: its memory as the system says, its rates as calibrated or assumed.

    Args:
        calibration: None when it was never calibrated.
        num_threads: Of the process; None takes all cores.
    """
    threads = num_threads or num_cores()
    memory = _memory_bytes()
    if calibration is not None and calibration.rates is not None:
        device = calibration.rates.device(threads, memory_bytes=memory)
        return Place(device, calibration=calibration, num_threads=threads)
    assumed = find_device("cpu")
    peaks = {"fp32": calibration.peak(threads)} if calibration else assumed.peak_flops_per_s
    changes = {"name": LOCAL, "title": "this machine", "memory_bytes": memory, "peak_flops_per_s": peaks}
    return Place(assumed.model_copy(update=changes), calibration=calibration, num_threads=threads)


def _memory_bytes() -> float | None:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # not a Unix
        return None


def place_of(
    name: str | None,
    *,
    num_devices: int | None = None,
    parallel: str | None = None,
    is_compiled: bool = False,
    usd_per_hour: float | None = None,
    peak_flops_per_s: float | None = None,
    memory_bytes: float | None = None,
    bandwidth_bytes_per_s: float | None = None,
    interconnect_bytes_per_s: float | None = None,
    watts: float | None = None,
) -> Place:
    """Return the place that was asked for.

    Args:
        name: Of a device; None and `local` are this machine, unless one is described by its peak.
        num_devices: None takes those of the layout, or one.
        parallel: The layout as typed; None takes the best that fits.
        is_compiled: As in `Place`.
        usd_per_hour: As in `Place`.
        peak_flops_per_s: Describes a device by hand, with the four that follow.
        memory_bytes: Of one device; beside a name it stands for the device's own.
        bandwidth_bytes_per_s: Of its memory.
        interconnect_bytes_per_s: Of its links to its neighbours.
        watts: Of one device.

    Raises:
        RecipeError: An unknown device or layout, a number out of its range.
        UsageError: A device both named and described, several of this machine, or what is not said of this machine.
    """
    layout = None if parallel is None else parse_layout(parallel)
    count = num_devices or (layout.num_devices if layout else 1)
    extras = {
        "bandwidth_bytes_per_s": bandwidth_bytes_per_s,
        "interconnect_bytes_per_s": interconnect_bytes_per_s,
        "watts": watts,
    }
    if peak_flops_per_s is not None:
        if name is not None:
            raise UsageError(
                "--device names a device and --peak-flops-per-s describes one; give either.",
                got=name,
                hint="--peak-flops-per-s 3e14 --memory-bytes 80e9",
            )
        if memory_bytes is None:
            raise UsageError(
                "a device that is described by its peak needs its memory.",
                hint=f"--peak-flops-per-s {peak_flops_per_s:g} --memory-bytes 80e9",
            )
        device = described_device(
            peak_flops_per_s,
            memory_bytes,
            bandwidth_bytes_per_s,
            interconnect_bytes_per_s=interconnect_bytes_per_s,
            watts=watts,
        )
        return Place(device, count, layout, is_compiled=is_compiled, usd_per_hour=usd_per_hour)
    given = {
        key: value for key, value in {**extras, "memory_bytes": memory_bytes}.items() if value is not None
    }
    if name is None or name.strip().lower() == LOCAL:
        if count > 1:
            raise UsageError(
                f"this machine is one device; {count} need a name.",
                hint=f"--device h100-sxm --num-devices {count}",
            )
        for option, value in (
            ("--bandwidth-bytes-per-s", bandwidth_bytes_per_s),
            ("--interconnect-bytes-per-s", interconnect_bytes_per_s),
            ("--compiled", is_compiled or None),
        ):
            if value is not None:
                raise UsageError(
                    f"{option} is for a device with a name; this machine is as kleiber calibrate measured it.",
                    hint="--device h100-sxm",
                )
        machine = here(load_calibration())
        return Place(
            machine.device.model_copy(update=given),
            calibration=machine.calibration,
            num_threads=machine.num_threads,
            usd_per_hour=usd_per_hour,
        )
    device = find_device(name).model_copy(update=given)
    return Place(device, count, layout, is_compiled=is_compiled, usd_per_hour=usd_per_hour)
