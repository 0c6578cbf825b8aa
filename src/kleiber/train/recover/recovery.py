"""A run that goes on from a model: the module with its structure kept, and the task with its teacher."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from kleiber.data import Data
from kleiber.errors import RecipeError
from kleiber.models import Spec
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import seen_by
from kleiber.models.stored import Activations
from kleiber.runs import Recipe, RecoverRecipe
from kleiber.tasks import Task, task_of
from kleiber.tasks.distillation import Distillation
from kleiber.train.recover.donor import Donor
from kleiber.train.recover.kept_structure import KeptStructure

__all__ = ["Recovery", "open_recovery"]


@dataclass(frozen=True)
class Recovery:
    """What takes the place of a module with random weights and of its task."""

    module: KeptStructure
    task: Task
    activations: Activations
    """How numbers that are no weights are held; training leaves that as it is."""


def open_recovery(recipe: Recipe, recover: RecoverRecipe, spec: Spec, data: Data) -> Recovery:
    """Return the model of a recipe that recovers one, before the first step.

    Args:
        recipe: Settled.
        recover: Of the recipe.
        spec: Of the recipe's model.
        data: Of the run.

    Raises:
        RecipeError: Model, teacher and data do not go together; says what differs.
        RunFolderError: The model or its teacher does not load.
    """
    donor = Donor("recover.model", recover.model)
    module, found = donor.load(data.meta.shape)
    donor.require_fit(found, data.meta)
    if found != spec and not isinstance(found, HFSpec):
        raise RecipeError(
            f"{donor.key} '{donor.typed}' was made for sequences of another length than data.context asks for.",
            got=recipe.data.context,
            hint=f"--set data.context={seen_by(found).context}",
        )
    forms = donor.forms(module)
    task = task_of(recipe.task, data.meta)
    beside: nn.Module | None = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        if recover.teacher is not None:
            taught = _taught(task, module, recipe, recover, data)
            task, beside = taught, taught.maps
    kept = KeptStructure(module, forms, recover, seed=recipe.train.seed, beside=beside)
    return Recovery(kept.train(), task, donor.activations())


def _taught(
    task: Task, student: nn.Module, recipe: Recipe, recover: RecoverRecipe, data: Data
) -> Distillation:
    """Return the task with its teacher."""
    named = Donor("recover.teacher", recover.teacher or "")
    teacher, spec = named.load(data.meta.shape)
    named.require_fit(spec, data.meta)
    example = next(data.batches("train", 0, min(2, recipe.train.batch_size)))
    return Distillation(
        task, teacher, student, recipe=recover, task_recipe=recipe.task, meta=data.meta, example=example
    )
