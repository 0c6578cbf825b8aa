"""Whole blocks left out, those that change least what passes through them."""

from __future__ import annotations

import dataclasses

from kleiber.compress.calibration import Calibration
from kleiber.compress.structure.axes import Skeleton
from kleiber.compress.structure.influence import block_influence
from kleiber.compress.structure.rebuilt import rebuilt
from kleiber.compress.subject import Subject
from kleiber.errors import RecipeError

__all__ = ["shallower"]


def shallower(
    subject: Subject, skeleton: Skeleton, depth: int | None, calibration: Calibration
) -> tuple[Subject, tuple[str, ...]]:
    """Return the model with `depth` blocks, and the names of those that went.

    Args:
        subject: Left as it was.
        skeleton: Of its module.
        depth: Blocks that stay; None drops none.
        calibration: What influence is measured on.

    Raises:
        RecipeError: There are not so many blocks, or none that can go.
    """
    if depth is None or depth == len(skeleton.blocks):
        return subject, ()
    droppable = [block.name for block in skeleton.blocks if block.is_droppable]
    num = len(skeleton.blocks) - depth
    if not skeleton.blocks:
        raise RecipeError(
            f"shrink: {subject.spec.family} has no blocks that the others could do without.",
            got=f"depth={depth}",
        )
    if not 0 < num <= len(droppable):
        least = max(1, len(skeleton.blocks) - len(droppable))
        raise RecipeError(
            f"shrink: depth must be between {least} and {len(skeleton.blocks)}, the blocks of this"
            f" {subject.spec.family}.",
            got=depth,
            hint=f"depth={least}",
        )
    influence = block_influence(subject.module, calibration.batches, droppable)
    going = set(sorted(droppable, key=influence.__getitem__)[:num])
    dropped = tuple(name for name in droppable if name in going)
    blocks = [index for index, block in enumerate(skeleton.blocks) if block.name not in going]
    spec = skeleton.spec_of({kind.name: kind.num for kind in skeleton.kinds}, blocks)
    lost = ", ".join(f"{name} (influence {influence[name]:.3g})" for name in dropped)
    small = rebuilt(subject, spec, dropped=dropped)
    return dataclasses.replace(small, notes=(*subject.notes, f"Dropped blocks: {lost}.")), dropped
