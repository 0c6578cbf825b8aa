"""Orders of steps that make no sense, told before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from kleiber.compress.recover import Recover
from kleiber.compress.steps import AnyStep, typed_step
from kleiber.errors import RecipeError
from kleiber.runs import RunFolder

__all__ = ["require_sound"]

_ALWAYS = {
    ("quantize", "quantize"): "codes of codes would lose twice",
    ("quantize", "shrink"): "codes and scales were chosen for the inputs of all units",
    ("factorize", "shrink"): "in two factors no unit has rows or columns of its own",
}
"""By the earlier and the later step, why not."""
_OF_THE_SAME_LAYERS = {
    ("quantize", "prune"): "scales are fitted to the weights that zeros would take out",
    ("quantize", "factorize"): "codes were chosen for the whole weight",
    ("factorize", "factorize"): "a layer is in two factors once",
    ("factorize", "prune"): "a product of two factors has no zeros to leave out",
    ("prune", "factorize"): "a product of two factors has no zeros",
}
"""Where both treat all layers; a step itself refuses the others when it meets such a layer."""


def require_sound(steps: Sequence[AnyStep]) -> None:
    """Refuse steps that will be refused for certain, however long those before them take.

    Raises:
        RecipeError: There are none, or one cannot follow another.
        RunFolderError: A teacher is no model.

    Example:
        >>> from kleiber.compress.steps import parse_step
        >>> require_sound([parse_step("quantize:bits=8"), parse_step("shrink:params=0.5")])
        Traceback (most recent call last):
        kleiber.errors.RecipeError: 'shrink:params=0.5' cannot follow 'quantize:bits=8': codes and scales were chosen for the inputs of all units.
          try: shrink, prune or factorize, recover, quantize   is the order that works
    """
    if not steps:
        raise RecipeError(
            "a compression takes one step or more.", got=[], hint="kleiber compress runs/NAME quantize:bits=8"
        )
    for earlier, later in combinations(steps, 2):
        names = earlier.name, later.name
        reason = _ALWAYS.get(names) or (
            None if _chooses(earlier) or _chooses(later) else _OF_THE_SAME_LAYERS.get(names)
        )
        if reason is not None:
            raise RecipeError(
                f"'{typed_step(later)}' cannot follow '{typed_step(earlier)}': {reason}.",
                hint="shrink, prune or factorize, recover, quantize   is the order that works",
            )
    for step in steps:
        if isinstance(step, Recover) and step.teacher is not None and not step.learns_from_original:
            RunFolder(Path(step.teacher)).find_model()


def _chooses(step: AnyStep) -> bool:
    """Return whether a step treats some layers only."""
    return bool(getattr(step, "layers", ()) or getattr(step, "keep", ()))
