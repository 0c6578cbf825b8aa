"""A built-in family with its size, as a subject: what has no closed form is traced, what has one is checked by it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError
from kleiber.models import Spec, build, parse_size, resolve_spec
from kleiber.models.family import FamilyModule
from kleiber.models.foreign.grouped_experts import let_experts_be_traced
from kleiber.models.foreign.inputs import numbers, whole_numbers
from kleiber.models.foreign.losses import find_loss
from kleiber.models.foreign.task_losses import find_task_loss
from kleiber.models.gpt.module import GPT
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import blocks_of, is_modelled, keeps_cache, seen_by
from kleiber.models.subject import Inputs, Subject
from kleiber.runs import DataRecipe, DataShape, Recipe, TaskName
from kleiber.runs.data_shape import InputKind

__all__ = ["example_of", "open_family", "subject_of"]

_BATCH_SIZE = 8


def open_family(
    text: str,
    *,
    batch_size: int | None = None,
    context: int | None = None,
    vocab_size: int | None = None,
    loss: str | None = None,
) -> Subject:
    """Return the model that a size such as `gpt:depth=12` names; what is not given is as in a recipe.

    Raises:
        RecipeError: An unknown family, key or loss, or an absurd number.
    """
    given = {
        key: value for key, value in (("context", context), ("vocab_size", vocab_size)) if value is not None
    }
    data = DataRecipe.of(given, "the data", RecipeError)
    spec = resolve_spec(Recipe(model=parse_size(text), data=data))
    return subject_of(spec, text, batch_size=batch_size, loss=loss)


def subject_of(
    spec: Spec,
    name: str,
    *,
    batch_size: int | None = None,
    task: TaskName | None = None,
    loss: str | None = None,
) -> Subject:
    """Return a family's spec as a subject on what it was made for.

    Args:
        spec: The model, with the shape of its data.
        name: What the user typed.
        batch_size: Samples; None is 8.
        task: What is learnt; None is what the shape is usually for.
        loss: A name of `LOSSES`; None is that of the task.
    """
    shape = seen_by(spec)
    minimized, loss_name = find_loss(loss) if loss else find_task_loss(shape, task)
    if isinstance(spec, GPTSpec) and spec.is_mixture:
        let_experts_be_traced()
    return Subject(
        name=name,
        build=partial(_build, spec),
        inputs=partial(example_of, shape),
        loss=minimized,
        loss_name=loss_name,
        batch_size=batch_size or _BATCH_SIZE,
        tokens_per_sample=shape.context if is_modelled(shape) else None,
        has_cache=keeps_cache(spec),
        blocks=blocks_of(spec),
        num_experts=fitted(spec).architecture.num_experts() if isinstance(spec, HFSpec) else None,
        notes=spec.notes() if isinstance(spec, HFSpec) else (),
    )


def _build(spec: Spec) -> nn.Module:
    """Return the module, on the current default device; weights that would be drawn on meta are left alone there."""
    device = torch.get_default_device()
    if isinstance(spec, GPTSpec):
        return GPT(spec, device=device).init_weights_(0)
    return module_type(spec)(spec) if device.type == "meta" else build(spec)


def module_type(spec: Spec) -> Callable[[Spec], FamilyModule]:
    """Return the class of a family's modules: the one in its `module.py`."""
    file = importlib.import_module(f"kleiber.models.{spec.family}.module")
    classes = (value for value in vars(file).values() if isinstance(value, type))
    return next(
        found for found in classes if issubclass(found, FamilyModule) and found.__module__ == file.__name__
    )


def example_of(shape: DataShape, batch_size: int) -> Inputs:
    """Return what a module is called with in training, on the current default device.

    Args:
        shape: Of the data.
        batch_size: Samples.
    """
    makers: dict[InputKind, Callable[[], tuple[Tensor, ...]]] = {
        "tokens": lambda: ((_view if is_modelled(shape) else _tokens)(shape, batch_size),),
        "images": lambda: (_images(shape, batch_size),),
        "features": lambda: (_numbers(batch_size, shape.num_features),),
        "series": lambda: (_numbers(batch_size, shape.context, shape.num_features),),
        "pairs": lambda: (_tokens(shape, batch_size), _view(shape, batch_size)),
        "captions": lambda: (_images(shape, batch_size), _tokens(shape, batch_size)),
    }
    return Inputs(args=makers[shape.inputs]())


def _images(shape: DataShape, batch_size: int) -> Tensor:
    return _numbers(batch_size, shape.channels, shape.height, shape.width)


def _numbers(*sizes: int | None) -> Tensor:
    return numbers([size or 1 for size in sizes])


def _tokens(shape: DataShape, batch_size: int, num_more: int = 0) -> Tensor:
    return whole_numbers((batch_size, (shape.context or 1) + num_more), shape.vocab_size or 2)


def _view(shape: DataShape, batch_size: int) -> Tensor:
    # As in training: a view of sequences that are one token longer, for the last target.
    return _tokens(shape, batch_size, 1)[:, :-1]
