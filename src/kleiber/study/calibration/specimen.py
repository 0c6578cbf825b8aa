"""What calibration runs, one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kleiber.cost.operations import Phase

__all__ = ["Specimen", "Step"]

Step = Callable[[Callable[[Phase], object]], None]
"""Runs once; calls what it is given as each phase begins."""


@dataclass(frozen=True)
class Specimen:
    """One thing to run."""

    build: Callable[[], Step]
    """Makes tensors on the current default device."""
    is_step: bool = False
    """A whole training step, and not a single operation with its gradients."""
