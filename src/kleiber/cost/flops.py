"""Floating-point operations: how they are counted, and by which convention."""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field

from kleiber.runs.document import Document

__all__ = ["FLOP_CONVENTIONS", "FlopConvention", "FlopCount"]

FlopConvention = Literal["causal", "full"]
"""Which part of the attention square is counted."""

FLOP_CONVENTIONS: dict[FlopConvention, str] = {
    "causal": "2 per multiply-add forward and 4 backward; half of the attention square",
    "full": "2 per multiply-add forward and 4 backward; the whole attention square",
}


class FlopCount(Document):
    """Floating-point operations of one training step [FLOP].

    Matrix products only: norms, softmax, rotations, activations and look-ups are left out, and so is
    what a kernel computes a second time in its backward pass.

    Example:
        >>> FlopCount(forward=10, backward=20, convention="causal").total
        30
    """

    forward: int
    backward: int
    convention: FlopConvention

    @computed_field  # type: ignore[prop-decorator] # mypy does not follow decorated properties
    @property
    def total(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward
