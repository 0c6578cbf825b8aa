"""What is compressed: a module, how its weights are stored, and what it was trained for."""

from __future__ import annotations

from dataclasses import dataclass, field

from kleiber.data import Data
from kleiber.models import Spec
from kleiber.models.family import FamilyModule
from kleiber.models.stored import AS_COMPUTED, Activations, Forms
from kleiber.runs import Recipe
from kleiber.tasks import Task

__all__ = ["Subject"]


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
    activations: Activations = AS_COMPUTED
    """How the inputs of layers are held, and a decoder's keys and values."""
    is_cut: bool = False
    """Whether units were cut out of it since it was last trained."""
    notes: tuple[str, ...] = ()
    """What a reader of the receipt should know, a sentence each: layers that were kept as they are, and why."""
