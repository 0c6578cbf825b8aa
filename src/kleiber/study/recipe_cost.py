"""What a step costs as `kleiber train` takes it: with its own optimizer, its running mean of weights, its validation."""

from __future__ import annotations

import functools
from dataclasses import replace

from kleiber.cost import VAL_SEQUENCES, StepMemory, optimizer_cost
from kleiber.cost.optimizers import optimizer_of
from kleiber.cost.step_cost import StepCost
from kleiber.cost.update import update_operations
from kleiber.cost.usage import OptimizerName, Precision, Usage
from kleiber.models import Spec
from kleiber.models.gpt import GPTSpec
from kleiber.models.gpt.memory import step_memory
from kleiber.runs import Recipe, TaskName
from kleiber.study.model_cost import costed_family

__all__ = ["recipe_cost"]

_FP32_BYTES = 4
_IN_LOOPS: frozenset[OptimizerName] = frozenset({"rmsprop", "rmsprop_momentum"})
"""Optimizers that torch steps parameter by parameter: they have no kernel for all at once on a CPU."""
_OPTIMIZER = "optimizer step"


def recipe_cost(
    recipe: Recipe,
    spec: Spec,
    precision: Precision,
    *,
    num_val_samples: int | None = None,
    is_validated: bool = True,
    is_here: bool = True,
) -> StepCost:
    """Return what a training step of a recipe costs.

    Args:
        recipe: What to do.
        spec: Its model.
        precision: Of activations.
        num_val_samples: Samples of the validation split; None where that is not known, and of text that is modelled.
        is_validated: Whether validation is among the moments of its memory.
        is_here: Whether it runs on this kind of CPU.

    Raises:
        RecipeError: The micro-batches do not divide the batch.
    """
    train = recipe.train
    usage = Usage(
        batch_size=train.batch_size,
        accumulation=train.accumulation,
        optimizer=optimizer_of(train.optimizer),
        precision=precision,
    )
    val_batch = _val_batch(recipe, num_val_samples) if is_validated else 0
    if isinstance(spec, GPTSpec) and spec.is_closed_form:
        cost = costed_family(spec.family, spec, batch_size=usage.batch_size).cost(usage)
        is_fused = usage.optimizer not in _IN_LOOPS
        memory = step_memory(spec, usage, spec.context, val_batch=val_batch, is_fused=is_fused)
        cost = replace(cost, memory=memory)
    else:
        cost = _traced(spec, usage, recipe.task.name, val_batch, is_here)
    # A running mean of the weights, and the best ones so far.
    num_copies = bool(train.ema_decay) + (train.stop.patience is not None)
    kept_bytes = cost.memory.optimizer + num_copies * _FP32_BYTES * cost.num_params.total
    return replace(cost, memory=replace(cost.memory, optimizer=kept_bytes))


def _val_batch(recipe: Recipe, num_val_samples: int | None) -> int:
    """Return the samples of a validation batch."""
    if recipe.task.name == "lm":
        return min(VAL_SEQUENCES, recipe.data.val_tokens // recipe.data.context)
    from kleiber.tasks.evaluation import VAL_SAMPLES  # noqa: PLC0415 - brings torch, as the trace does

    return VAL_SAMPLES if num_val_samples is None else min(VAL_SAMPLES, num_val_samples)


# A ladder plans the same size for each of its seeds and horizons, and a trace takes seconds.
@functools.lru_cache(maxsize=64)
def _traced(spec: Spec, usage: Usage, task: TaskName, val_batch: int, is_here: bool) -> StepCost:
    model = costed_family(spec.family, spec, batch_size=usage.batch_size, task=task, is_here=is_here)
    cost = model.cost(usage)
    memory = _with_own_optimizer(cost.memory, spec, usage)
    if val_batch:
        read = model.cost(Usage(mode="infer", batch_size=val_batch)).memory
        memory = replace(memory, moments={**memory.moments, "validation": max(read.moments.values())})
    operations = cost.operations
    if usage.optimizer not in _IN_LOOPS:
        step = [operation for operation in operations if operation.phase != "optimizer"]
        operations = (*step, *update_operations(cost.num_params.total, spec.hidden_shapes(), usage))
    return replace(cost, memory=memory, operations=operations)


def _with_own_optimizer(memory: StepMemory, spec: Spec, usage: Usage) -> StepMemory:
    """Return the memory with an optimizer that is one kernel in the place of torch's loop."""
    if usage.optimizer in _IN_LOOPS:
        return memory
    cost = optimizer_cost(usage.optimizer, spec.count().total, spec.hidden_shapes())
    moments = {name: held for name, held in memory.moments.items() if not name.startswith(_OPTIMIZER)}
    moments[_OPTIMIZER] = memory.gradients + cost.temporary_bytes
    return replace(memory, optimizer=cost.state_bytes, moments=moments)
