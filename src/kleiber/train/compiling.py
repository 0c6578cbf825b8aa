"""Whether `torch.compile` pays here: measured on the run's own module before it starts."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import nn

from kleiber.data import Batch, Data
from kleiber.errors import RecipeError
from kleiber.models import build, resolve_spec
from kleiber.runs import Recipe
from kleiber.tasks import Task
from kleiber.units import format_seconds

__all__ = ["compiled", "compiler_errors", "settle_compile"]

_NUM_STEPS = 5
_WARM_STEPS = 2


def compiled(module: nn.Module) -> nn.Module:
    """Return the module behind `torch.compile`; the two share their parameters."""
    return cast("nn.Module", torch.compile(module))


@contextlib.contextmanager
def compiler_errors() -> Iterator[None]:
    """Say what the compiler cannot do, which it finds out at the first step.

    Raises:
        RecipeError: `torch.compile` does not take the model, or does not work on this machine.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        raise RecipeError(
            f"torch.compile does not work on this model here: {_first_line(error)}",
            hint="--set train.compile=never",
        ) from None


def settle_compile(recipe: Recipe, data: Data, task: Task, notice: Callable[[str], None]) -> Recipe:
    """Return the recipe with `compile: auto` decided: a few passes of a copy with and without.

    Compiling pays when the seconds that the run's steps save are more than it takes itself.

    Args:
        recipe: Settled but for this.
        data: Of the run.
        task: Of the run.
        notice: Is told what was found, and what torch said where it cannot compile.
    """
    if recipe.train.compile != "auto":
        return recipe
    train = recipe.train
    batch = next(data.batches("train", 0, train.batch_size // train.accumulation))
    with torch.random.fork_rng(devices=[]):
        pays, says = _probe(recipe, task, batch)
    notice(says)
    chosen = train.model_copy(update={"compile": "always" if pays else "never"})
    return recipe.model_copy(update={"train": chosen})


def _probe(recipe: Recipe, task: Task, batch: Batch) -> tuple[bool, str]:
    module = build(resolve_spec(recipe), seed=recipe.train.seed)
    eager_s = _pass_s(module, task, batch)
    start = time.perf_counter()
    try:
        fast_s = _pass_s(compiled(module), task, batch)
    except Exception as error:  # noqa: BLE001 - whatever a compiler may raise, the run goes on without it
        return False, f"torch.compile does not work here: {_first_line(error)}"
    compile_s = time.perf_counter() - start
    num_passes = recipe.train.num_steps * recipe.train.accumulation
    pays = (eager_s - fast_s) * num_passes > compile_s
    return pays, (
        f"torch.compile {'pays' if pays else 'does not pay'}: a pass takes {format_seconds(fast_s)} with it and "
        f"{format_seconds(eager_s)} without, and {num_passes:,} passes are to come; compiling took {format_seconds(compile_s)}."
    )


def _pass_s(module: nn.Module, task: Task, batch: Batch) -> float:
    """Return the median time of a loss and its gradients [s], after a few that warm up."""
    times_s = []
    for _ in range(_WARM_STEPS + _NUM_STEPS):
        start = time.perf_counter()
        task.loss(module, batch).backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        times_s.append(time.perf_counter() - start)
        module.zero_grad()
    return statistics.median(times_s[_WARM_STEPS:])


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
