"""How a process opens a model for a measurement, written so that another process can do it too."""

from __future__ import annotations

import importlib
from typing import Any

from pydantic import Field

from kleiber.infer.measure.work import Work
from kleiber.runs import Document

__all__ = ["Opening"]


class Opening(Document):
    """A function and what it is called with."""

    function: str
    """`package.module:function`; it returns a `Work`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """By name; what JSON can hold."""
    packages: tuple[str, ...] = ()
    """What the engine itself is: imported before memory is counted."""

    def open(self) -> Work:
        """Return the model, ready to be timed."""
        module, _, name = self.function.partition(":")
        work: Work = getattr(importlib.import_module(module), name)(**self.arguments)
        return work
