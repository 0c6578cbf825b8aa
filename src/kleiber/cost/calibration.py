"""What was measured on this machine: `machine.json` in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from kleiber.cost.rates import Rates
from kleiber.runs import Document, default_cache

__all__ = ["Calibration", "Probe", "calibration_path", "load_calibration", "save_calibration"]


class Probe(Document):
    """A few real training steps of one size."""

    spec: dict[str, Any]
    """The spec's own document: a plan for the same spec takes this probe's time as it is."""
    optimizer: str
    num_blocks: int = Field(ge=1)
    """Repeated layers: each costs the overhead of its operations, however small it is."""
    flops_per_step: float = Field(gt=0)
    """Of the model (causal convention) and of the optimizer."""
    tokens_per_step: int = Field(ge=1)
    num_threads: int = Field(ge=1)
    num_processes: int = Field(default=1, ge=1)
    """Training processes that ran side by side on the machine, this one included."""
    step_time_s: float = Field(gt=0)
    """Median of a step."""
    peak_memory_bytes: float | None = Field(default=None, ge=0)
    """Peak of the steps above what the process held before, without validation."""
    planned_peak_bytes: float | None = Field(default=None, ge=0)
    """What the closed form gives for the same steps: the difference is the libraries' share."""


class Calibration(Document):
    """This machine's measured rates."""

    measured_at: str
    """UTC, ISO 8601."""
    peak_flops_per_s: dict[int, float]
    """Fastest fp32 matrix product by number of threads [FLOP/s]."""
    probes: tuple[Probe, ...] = ()
    rates: Rates | None = None
    """What `kleiber calibrate` found; None where only probes were made."""

    def peak(self, num_threads: int) -> float:
        """Return the peak with so many threads; of a number not measured, the nearest one's [FLOP/s].

        Example:
            >>> Calibration(measured_at="", peak_flops_per_s={1: 1e11, 2: 1.8e11}).peak(4)
            180000000000.0
        """
        return self.peak_flops_per_s[min(self.peak_flops_per_s, key=lambda n: (abs(n - num_threads), n))]


def calibration_path() -> Path:
    """Return where the calibration is kept."""
    return default_cache() / "machine.json"


def load_calibration(path: Path | None = None) -> Calibration | None:
    """Return this machine's calibration, None when it was never calibrated.

    Raises:
        RunFolderError: The file does not parse.
    """
    path = path or calibration_path()
    return Calibration.read(path) if path.is_file() else None


def save_calibration(calibration: Calibration, path: Path | None = None) -> Path:
    """Write the calibration and return where.

    Raises:
        StorageError: The disk refused.
    """
    path = path or calibration_path()
    calibration.write(path)
    return path
