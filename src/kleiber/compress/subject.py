"""What is compressed: a module, how its weights are stored, and what it was trained for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from kleiber.data import Data
from kleiber.models import Spec
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Activations, Forms
from kleiber.runs import Recipe
from kleiber.tasks import Task

__all__ = ["InputRange", "Subject"]


@dataclass(frozen=True)
class InputRange:
    """The numbers that go into a layer, as calibration saw them: what static int8 spreads its 256 steps over."""

    low: float
    high: float


@dataclass(frozen=True)
class Subject:
    """A model on its way through the steps; a step returns another and leaves its own as it was."""

    module: FamilyModule
    """fp32, in evaluation mode; its weights are those that its forms stand for."""
    spec: Spec
    recipe: Recipe
    """Its task and data; `model` gives `spec` on that data."""
    data: Data
    task: Task
    forms: Forms = field(default_factory=dict)
    input_ranges: Mapping[str, InputRange] = field(default_factory=dict)
    """By the name of the layer's weight, of layers whose inputs are quantized to int8 by a fixed range."""
    has_dynamic_inputs: bool = False
    """Whether inputs of quantized layers become int8 by the range that each batch shows."""
    cache_bits: int | None = None
    """Of the keys and values that a decoder keeps; None keeps them as computed."""
    notes: tuple[str, ...] = ()
    """What a reader of the receipt should know, a sentence each: layers that were kept as they are, and why."""

    @property
    def activations(self) -> Activations:
        """How numbers that are no weights are held, as a folder keeps it."""
        return Activations(
            input_ranges={name: (seen.low, seen.high) for name, seen in self.input_ranges.items()},
            has_dynamic_inputs=self.has_dynamic_inputs,
            cache_bits=self.cache_bits,
        )

    def with_activations(self, held: Activations) -> Subject:
        """Return it with what a folder kept of numbers that are no weights."""
        return dataclasses.replace(
            self,
            input_ranges={name: InputRange(low, high) for name, (low, high) in held.input_ranges.items()},
            has_dynamic_inputs=held.has_dynamic_inputs,
            cache_bits=held.cache_bits,
        )
