"""The operations of a whole training run, whose first steps may be on shorter sequences."""

from __future__ import annotations

from kleiber.models import Spec
from kleiber.runs import Recipe

__all__ = ["run_flops"]


def run_flops(recipe: Recipe, spec: Spec) -> float:
    """Return what the steps of a run take, forward and backward [FLOP].

    Args:
        recipe: Of the run.
        spec: Of its model.

    Example:
        >>> recipe = Recipe().with_values(["model.depth=2", "train.num_steps=10"])
        >>> from kleiber.models import resolve_spec
        >>> spec = resolve_spec(recipe)
        >>> run_flops(recipe, spec) == 10 * spec.flops(4).total
        True
        >>> short = recipe.with_values(["train.sequence_warmup={context: 64, steps: 4}"])
        >>> run_flops(short, spec) == 4 * spec.flops(8, 64).total + 6 * spec.flops(4, 128).total
        True
    """
    train, context = recipe.train, recipe.data.context
    if train.sequence_warmup is None:
        return float(spec.flops(train.batch_size).total * train.num_steps)
    stages = train.sequence_warmup.steps_by_context(train.num_steps, context)
    return float(
        sum(
            num_steps * spec.flops(train.batch_size * context // length, length).total
            for length, num_steps in stages.items()
        )
    )
