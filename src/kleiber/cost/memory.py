"""Memory of a training step: what is held, and at which moment it is most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kleiber.runs import Document

__all__ = ["VAL_SEQUENCES", "MemoryBytes", "StepMemory"]

VAL_SEQUENCES = 8
"""Sequences of a validation batch: it stays below the memory of a training step of as many."""


class MemoryBytes(Document):
    """What training holds in memory [bytes]."""

    weights: float
    gradients: float
    optimizer: float
    """State kept from step to step."""
    activations: float
    """Saved by the forward pass for the backward pass, at their most."""
    peak: float
    """Everything at the fullest moment, temporary buffers included."""


@dataclass(frozen=True)
class StepMemory:
    """A training step's memory [bytes], moment by moment."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    moments: Mapping[str, int]
    """Held at each named moment beside weights and optimizer state."""
    copies: Mapping[str, int] = field(default_factory=dict)
    """Of that, half-precision copies of the weights that autocast holds; FSDP gathers such weights instead."""

    @property
    def fullest_moment(self) -> str:
        """The name of the moment of the peak."""
        return max(self.moments, key=lambda name: self.moments[name])

    def summary(self, overhead_bytes: float = 0.0) -> MemoryBytes:
        """Return the document; `overhead_bytes` is what libraries hold beside the tensors.

        Example:
            >>> StepMemory(10, 10, 20, 5, {"backward": 12, "step": 11}).summary().peak
            42.0
        """
        peak = self.weights + self.optimizer + self.moments[self.fullest_moment] + overhead_bytes
        return MemoryBytes(
            weights=self.weights,
            gradients=self.gradients,
            optimizer=self.optimizer,
            activations=self.activations,
            peak=peak,
        )
