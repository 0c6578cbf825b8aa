"""What every step of a compression offers."""

from __future__ import annotations

from typing import Protocol

from kleiber.compress.calibration import Calibration
from kleiber.compress.subject import Subject

__all__ = ["Step"]


class Step(Protocol):
    """Something that makes a model smaller or faster, or better again; a frozen `Document` of settings with a `name`."""

    @property
    def name(self) -> str:
        """As it is typed: `prune`, `quantize`."""
        ...

    def apply(self, subject: Subject, calibration: Calibration) -> Subject:
        """Return the model after the step.

        Raises:
            RecipeError: The step does not go with the model or with what was done to it before; says why.
            DataError: Calibration data is missing or of the wrong kind.
        """
        ...
