"""How far activations move in the first steps, over widths and depths: flat where rates carry over.

Legend: B sequences, T tokens, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from kleiber.data import Batch, Data, open_data
from kleiber.errors import RecipeError
from kleiber.models import resolve_spec
from kleiber.models.gpt import GPTSpec
from kleiber.runs import Document, Recipe
from kleiber.study.tuning.proxy import resized
from kleiber.tasks import task_of
from kleiber.train.state import TrainState

__all__ = ["MAX_SLOPE", "CoordinateCheck", "Movement", "check_coordinates", "movements"]

MAX_SLOPE = 1 / 3
"""Largest power of width or depth that counts as flat: over an eightfold size less than a factor of two."""

Axis = Literal["width", "depth"]


class Movement(Document):
    """How far one activation has moved since the start, at each size."""

    axis: Axis
    what: str
    sizes: tuple[int, ...]
    moved: tuple[float, ...]
    """Root-mean-square of the change on one batch, at each size."""
    slope: float
    """Power of the size with which it grows, by least squares."""

    @property
    def is_flat(self) -> bool:
        """Whether it does not depend on the size."""
        return abs(self.slope) <= MAX_SLOPE


class CoordinateCheck(Document):
    """How activations move, by width at the base depth and by depth at the base width."""

    rule: str
    num_steps: int
    rows: tuple[Movement, ...]

    @property
    def is_flat(self) -> bool:
        """Whether nothing depends on width or depth."""
        return all(row.is_flat for row in self.rows)


def check_coordinates(
    recipe: Recipe, *, widths: Sequence[int], depths: Sequence[int], num_steps: int = 4
) -> CoordinateCheck:
    """Return how activations move in the first steps at full rates.

    Args:
        recipe: Its data is ready; its model's width and depth stand for those that are not varied.
        widths: Two or more, or none.
        depths: The same.
        num_steps: Of training; more leave the regime in which the sizes are alike.

    Raises:
        RecipeError: The model is no gpt, or one width or depth stands alone.

    Source:
        Yang et al. 2022, arXiv:2203.03466, appendix D.1, "coordinate checking".
    """
    spec = resolve_spec(recipe)
    if not isinstance(spec, GPTSpec):
        raise RecipeError(
            "how activations move over widths and depths is known of gpt alone.",
            got=spec.family,
            hint="--set base.model.family=gpt",
        )
    for axis, sizes in (("width", widths), ("depth", depths)):
        if len(sizes) == 1:
            raise RecipeError(
                f"nothing follows from one {axis} alone: two or more are compared.",
                got=sizes[0],
                hint="--widths 32,64,128" if axis == "width" else "--depths 2,4,8",
            )
    data = open_data(recipe.data, seed=recipe.train.seed, task=recipe.task)
    rows: list[Movement] = []
    varied: tuple[tuple[Axis, Sequence[int]], ...] = (("width", widths), ("depth", depths))
    for axis, sizes in varied:
        fixed = {"width": spec.width, "depth": spec.depth}
        recipes = [resized(recipe, spec, **{**fixed, axis: size}) for size in sizes]
        found = [movements(one, data, num_steps) for one in recipes]
        for what in found[0] if found else ():
            moved = tuple(one[what] for one in found)
            rows.append(
                Movement(axis=axis, what=what, sizes=tuple(sizes), moved=moved, slope=_slope(sizes, moved))
            )
    return CoordinateCheck(rule=recipe.train.parametrization.name, num_steps=num_steps, rows=tuple(rows))


def _slope(sizes: Sequence[int], moved: Sequence[float]) -> float:
    """Return the power of the sizes with which a change grows; NaN where one is 0 or not finite."""
    if not all(math.isfinite(one) and one > 0 for one in moved):
        return math.nan
    return float(np.polyfit(np.log(sizes), np.log(moved), 1)[0])


def movements(recipe: Recipe, data: Data, num_steps: int) -> dict[str, float]:
    """Return how far activations on the first batch move in some steps, root-mean-square, by what they are."""
    train = recipe.train
    state, task = TrainState.start(recipe, resolve_spec(recipe)), task_of(recipe.task, data.meta)
    batches = data.batches("train", 0, train.batch_size)
    first = next(batches)
    before = _activations(state.module, first)
    batch = first
    for _ in range(num_steps):
        loss = task.loss(state.module, batch)
        extra = state.module.auxiliary_loss()
        (loss if extra is None else loss + extra).backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        state.optimizer.clip_(train.clip_norm)
        state.optimizer.step(1.0)
        state.optimizer.zero_grad()
        batch = next(batches)
    after = _activations(state.module, first)
    return {what: float((after[what] - start).square().mean().sqrt()) for what, start in before.items()}


@torch.no_grad()
def _activations(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return what enters the first block, the stream after half of the blocks and after all, and the logits."""
    found: dict[str, Tensor] = {}
    tokens_BT = torch.from_numpy(batch.tokens[:, :-1])
    with _listening(module, found):
        found["logits"] = module(tokens_BT)
    return {what: found[what] for what in ("embeddings", "half of the blocks", "all blocks", "logits")}


@contextmanager
def _listening(module: nn.Module, found: dict[str, Tensor]) -> Iterator[None]:
    blocks: Any = module.get_submodule("blocks")

    def keep_input(_: nn.Module, args: tuple[Any, ...]) -> None:
        found["embeddings"] = args[0].clone()

    def keep_output(what: str) -> Any:
        def keep(_: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
            found[what] = output.clone()

        return keep

    handles = [
        blocks[0].register_forward_pre_hook(keep_input),
        blocks[(len(blocks) - 1) // 2].register_forward_hook(keep_output("half of the blocks")),
        blocks[-1].register_forward_hook(keep_output("all blocks")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
