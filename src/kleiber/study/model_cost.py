"""Models as a plan sees them: a family in closed form, or anyone's module, traced."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kleiber.cost.flops import FLOP_CONVENTIONS, FlopConvention
from kleiber.cost.layouts import BlockShape
from kleiber.cost.module_cost import fold_modules
from kleiber.cost.step_cost import Moment, StepCost
from kleiber.cost.usage import Usage
from kleiber.errors import RecipeError
from kleiber.models import Spec
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.blocks import block_shape
from kleiber.models.gpt.memory import step_memory
from kleiber.models.gpt.operations import module_params, step_operations
from kleiber.models.seen_data import blocks_of, is_modelled, keeps_cache, seen_by
from kleiber.runs import TaskName

if TYPE_CHECKING:
    from kleiber.cost.trace.step import StepTrace
    from kleiber.models.subject import Subject

__all__ = ["CostedModel", "costed_family", "costed_subject"]

_NUM_MOMENTS = 400
"""Of a picture; the fullest one is always among them."""


@dataclass(frozen=True)
class CostedModel:
    """A model that can say what a step of it costs."""

    name: str
    """As typed."""
    cost: Callable[[Usage], StepCost]
    """Of one device's share of the batch; remembered, since a trace takes seconds."""
    spec: Spec | None
    """Of a built-in family."""
    batch_size: int
    """When none is asked for."""
    tokens_per_sample: int | None
    blocks: BlockShape | None
    has_cache: bool
    """Whether it keeps keys and values when it serves."""


def costed_family(
    name: str,
    spec: Spec,
    *,
    batch_size: int,
    convention: FlopConvention = "causal",
    val_batch: int = 0,
    task: TaskName | None = None,
    is_here: bool = True,
) -> CostedModel:
    """Return a model of a built-in family, which counts itself.

    What a step of a dense gpt holds and does follows from its spec as well, and torch is not needed; a step of any other
    is traced.

    Args:
        name: As typed.
        spec: The model, with what its data looks like.
        batch_size: Samples when none are asked for.
        convention: Which part of causal attention is counted.
        val_batch: Sequences of a validation batch of a dense gpt; 0 leaves validation out.
        task: What is learnt; None is what the data is usually for.
        is_here: As for `costed_subject`.
    """
    if isinstance(spec, GPTSpec) and spec.is_closed_form:
        return _dense_gpt(name, spec, batch_size=batch_size, convention=convention, val_batch=val_batch)

    @functools.cache
    def cost(usage: Usage) -> StepCost:
        from kleiber.models.foreign.family import subject_of  # noqa: PLC0415 - torch takes a second to import

        subject = subject_of(spec, name, batch_size=batch_size, task=task)
        traced = _traced_cost(subject, usage, convention, has_workspaces=is_here)
        num_active = spec.num_active_params if isinstance(spec, GPTSpec) else traced.num_active
        return replace(traced, num_params=spec.count(), num_active=num_active)

    shape = seen_by(spec)
    tokens = shape.context if is_modelled(shape) else None
    return CostedModel(name, cost, spec, batch_size, tokens, blocks_of(spec), has_cache=keeps_cache(spec))


def _dense_gpt(
    name: str, spec: GPTSpec, *, batch_size: int, convention: FlopConvention, val_batch: int
) -> CostedModel:
    @functools.cache
    def cost(usage: Usage) -> StepCost:
        check_micro_batches(usage)
        count = spec.count()
        operations = step_operations(spec, usage, spec.context, convention=convention)
        return StepCost(
            num_params=count,
            num_trainable=count.total,
            num_active=count.total,
            operations=operations,
            memory=step_memory(spec, usage, spec.context, val_batch=val_batch),
            modules=fold_modules(module_params(spec), operations),
            blocks=block_shape(spec),
            tokens_per_sample=spec.context,
            says=(f"FLOPs, in closed form: {FLOP_CONVENTIONS[convention]}.",),
        )

    return CostedModel(name, cost, spec, batch_size, spec.context, block_shape(spec), has_cache=True)


def costed_subject(
    subject: Subject, *, convention: FlopConvention = "causal", is_here: bool = True
) -> CostedModel:
    """Return anyone's model: a step of it is traced on fake tensors.

    Args:
        subject: The model.
        convention: Which part of causal attention is counted.
        is_here: Whether it will run on this kind of CPU, whose libraries hold memory beside the tensors.
    """

    @functools.cache
    def cost(usage: Usage) -> StepCost:
        return _traced_cost(subject, usage, convention, has_workspaces=is_here)

    return CostedModel(
        subject.name,
        cost,
        None,
        subject.batch_size,
        subject.tokens_per_sample,
        subject.blocks,
        has_cache=subject.has_cache,
    )


def _traced_cost(
    subject: Subject, usage: Usage, convention: FlopConvention, *, has_workspaces: bool
) -> StepCost:
    from kleiber.cost.trace.parameters import count_parameters  # noqa: PLC0415 - torch takes a second to import
    from kleiber.study.traced import trace  # noqa: PLC0415 - the same

    check_micro_batches(usage)
    traced = trace(subject, usage, convention=convention, has_workspaces=has_workspaces)
    counts = count_parameters(traced.module, num_experts=subject.num_experts)
    return StepCost(
        num_params=counts.groups,
        num_trainable=counts.trainable,
        num_active=counts.active,
        operations=traced.operations,
        memory=traced.memory,
        modules=fold_modules(counts.modules, traced.operations, traced.activations),
        blocks=subject.blocks,
        tokens_per_sample=subject.tokens_per_sample,
        gradients_at=traced.gradients_at,
        moments=_moments(traced),
        says=_says(subject, usage, convention),
    )


def check_micro_batches(usage: Usage) -> None:
    """Raise if the micro-batches do not divide the batch.

    Raises:
        RecipeError: With both numbers and a batch that works.
    """
    if usage.batch_size % usage.accumulation:
        whole = usage.accumulation * (usage.batch_size // usage.accumulation + 1)
        raise RecipeError(
            f"--accumulation {usage.accumulation} must divide the batch of {usage.batch_size} samples.",
            hint=f"--batch {whole} --accumulation {usage.accumulation}",
        )


def _says(subject: Subject, usage: Usage, convention: FlopConvention) -> tuple[str, ...]:
    says = [
        f"FLOPs, of a step traced on fake tensors: {FLOP_CONVENTIONS[convention]}; fused recurrent layers, which torch's counter misses, among them.",
        *subject.notes,
    ]
    if usage.mode == "train":
        says.append(f"Trained on {subject.loss_name}.")
    return tuple(says)


def _moments(traced: StepTrace) -> tuple[Moment, ...]:
    """Return the timeline, thinned: of each stretch its fullest moment."""
    timeline, calls = traced.timeline, traced.calls
    stretch = max(1, len(calls) // _NUM_MOMENTS)
    return tuple(
        Moment(
            name=f"{calls[index].phase} of {calls[index].module or 'the model'}",
            held_bytes={role: held[index] for role, held in timeline.by_role.items()},
        )
        for index in (_fullest(timeline.total, start, stretch) for start in range(0, len(calls), stretch))
    )


def _fullest(total: Sequence[int], start: int, stretch: int) -> int:
    return max(range(start, min(start + stretch, len(total))), key=total.__getitem__)
