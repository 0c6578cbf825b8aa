"""All augmentations, and a batch changed by those of a recipe.

Shapes: B samples of a batch, N that are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.data.augment.colour import colour
from kleiber.data.augment.cutout import cutout
from kleiber.data.augment.draws import Draws
from kleiber.data.augment.flip import flip
from kleiber.data.augment.mixup import mixup
from kleiber.data.augment.noise import noise
from kleiber.data.augment.rotate import rotate
from kleiber.data.augment.scale_crop import scale_crop
from kleiber.data.augment.shift import shift
from kleiber.data.augment.spec_augment import spec_augment
from kleiber.data.augment.time_shift import time_shift
from kleiber.data.augment.token_delete import token_delete
from kleiber.data.augment.token_mask import token_mask
from kleiber.errors import RecipeError
from kleiber.runs import AugmentRecipe, DataShape, TaskName

__all__ = ["AUGMENTATIONS", "Augmentation", "augment", "check_augment"]

_IMAGES = ("images",)
_TEXT = ("tokens", "source")
_NUMBERS = ("images", "features", "series")


@dataclass(frozen=True)
class Augmentation:
    """One kind of random change."""

    roles: tuple[str, ...]
    """What it changes: the first of these that a batch has."""
    max_strength: float
    """Beyond it there is nothing left to change more; 0 where strength means nothing."""
    change: Callable[[npt.NDArray[Any], float, Draws], npt.NDArray[Any]] | None
    """Returns changed samples [N, ...] of that role, by strength and random numbers; None where more than one role changes."""
    min_side: int = 1
    """Pixels that each side of an image must have."""


AUGMENTATIONS: dict[str, Augmentation] = {
    "flip": Augmentation(_IMAGES, 0, flip),
    "rotate": Augmentation(_IMAGES, 12, rotate, min_side=2),
    "scale_crop": Augmentation(_IMAGES, 4, scale_crop, min_side=2),
    "shift": Augmentation(_IMAGES, 8, shift),
    "colour": Augmentation(_IMAGES, 2.5, colour),
    "cutout": Augmentation(_IMAGES, 2, cutout),
    "mixup": Augmentation(_NUMBERS, 100, None),
    "token_mask": Augmentation(_TEXT, 6, token_mask),
    "token_delete": Augmentation(_TEXT, 9, token_delete),
    "time_shift": Augmentation(_IMAGES, 10, time_shift),
    "noise": Augmentation(_NUMBERS, 100, noise),
    "spec_augment": Augmentation(_IMAGES, 5, spec_augment),
}


def augment(
    arrays: Mapping[str, npt.NDArray[Any]],
    recipes: Sequence[AugmentRecipe],
    *,
    seed: int,
    cursor: int,
    num_outputs: int | None,
) -> dict[str, npt.NDArray[Any]]:
    """Return a batch, changed by one augmentation after another; the arrays themselves stay as they are.

    Args:
        arrays: By role, normalized.
        recipes: What is done; `check_augment` said that it suits.
        seed: Of the run.
        cursor: Samples seen before this batch.
        num_outputs: Classes, or values to predict; for mixup.

    Raises:
        RecipeError: mixup is asked of a single sample.
        MissingExtraError: kornia is not installed and an image is to be turned or scaled.

    Example:
        >>> batch = {"images": np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4), "labels": np.array([0])}
        >>> flip = [AugmentRecipe(name="flip")]
        >>> [augment(batch, flip, seed=0, cursor=c, num_outputs=2)["images"].ravel().tolist() for c in (2, 3)]
        [[0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.0]]
    """
    changed = dict(arrays)
    num = len(next(iter(changed.values())))
    for stream, recipe in enumerate(recipes):
        kind = AUGMENTATIONS[recipe.name]
        chosen_B = Draws(seed, 2 * stream, cursor=cursor, num=num).uniform() < recipe.prob
        draws = Draws(seed, 2 * stream + 1, cursor=cursor, num=num, chosen_B=chosen_B)
        if kind.change is None:
            changed = mixup(changed, chosen_B, recipe.strength, draws, num_outputs=num_outputs or 1)
        elif len(draws):
            role = next(role for role in kind.roles if role in changed)
            changed[role] = _replaced(changed[role], chosen_B, kind.change, recipe.strength, draws)
    return changed


def _replaced(
    array_B: npt.NDArray[Any],
    chosen_B: npt.NDArray[np.bool_],
    change: Callable[[npt.NDArray[Any], float, Draws], npt.NDArray[Any]],
    strength: float,
    draws: Draws,
) -> npt.NDArray[Any]:
    if chosen_B.all():
        return np.ascontiguousarray(change(array_B, strength, draws))
    copy_B = array_B.copy()
    copy_B[chosen_B] = change(array_B[chosen_B], strength, draws)
    return copy_B


def check_augment(recipes: Collection[AugmentRecipe], shape: DataShape, task: TaskName) -> None:
    """Say before a run begins whether its augmentations suit its data.

    Raises:
        RecipeError: One has nothing to change, or is stronger than there is to change.
    """
    roles = _roles_of(shape, task)
    for recipe in recipes:
        kind, name = AUGMENTATIONS[recipe.name], recipe.name
        if not set(kind.roles) & roles or (name == "mixup" and not roles & {"labels", "values"}):
            suited = [other for other, its in AUGMENTATIONS.items() if set(its.roles) & roles and its.change]
            raise RecipeError(
                f"data.augment {name} has nothing to change in {shape.inputs} of the task {task}.",
                hint=f"augmentations that have: {', '.join(suited)}" if suited else "--set data.augment=[]",
            )
        _check_strength(recipe, kind)
        if "images" in kind.roles and min(shape.height or 2, shape.width or 2) < kind.min_side:
            raise RecipeError(
                f"data.augment {name} needs images of {kind.min_side} pixels a side or more.",
                got=f"{shape.height}x{shape.width}",
            )


def _check_strength(recipe: AugmentRecipe, kind: Augmentation) -> None:
    if not kind.max_strength and recipe.strength != 1:
        raise RecipeError(
            f"strength has no effect on data.augment {recipe.name}.",
            got=recipe.strength,
            hint=f"{{name: {recipe.name}}}   and prob, how often it is applied",
        )
    if kind.max_strength and recipe.strength > kind.max_strength:
        raise RecipeError(
            f"the strength of data.augment {recipe.name} must be at most {kind.max_strength:g}.",
            got=recipe.strength,
            hint="1 is the usual amount",
        )


def _roles_of(shape: DataShape, task: TaskName) -> set[str]:
    """Return the roles that an augmentation may change; targets of language modelling are its inputs."""
    if task == "lm":
        return set()
    inputs = {"pairs": {"source"}, "captions": {"images", "tokens"}}.get(shape.inputs, {shape.inputs})
    return inputs | {"classification": {"labels"}, "regression": {"values"}}.get(task, set())
