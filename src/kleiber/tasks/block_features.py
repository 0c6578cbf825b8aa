"""What the blocks of a student return, held to what those of its teacher do.

Legend: S blocks of a student, T of a teacher, W width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError

__all__ = ["BlockFeatures", "blocks_in", "matched", "recorded_blocks"]


def blocks_in(module: nn.Module) -> tuple[nn.Module, ...]:
    """Return the repeated parts of a module: the members of its largest list of modules, stages of a network of stages.

    Raises:
        RecipeError: It has no list of parts.

    Example:
        >>> module = nn.Sequential(nn.Linear(2, 2), nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]))
        >>> len(blocks_in(module))
        2
    """
    # A list holds the blocks where there is one; else they are a sequence, as the layers of a perceptron are.
    own: list[nn.ModuleList | nn.Sequential] = [
        part for part in module.modules() if isinstance(part, nn.ModuleList)
    ]
    own = own or [part for part in module.modules() if isinstance(part, nn.Sequential)]
    if not own:
        raise RecipeError(
            "recover.feature_weight: the model has no repeated blocks whose outputs could be compared.",
            got=type(module).__name__,
            hint="--set recover.feature_weight=0",
        )
    largest = max(own, key=lambda part: sum(tensor.numel() for tensor in part.state_dict().values()))
    return tuple(largest)


def matched(num_student: int, num_teacher: int) -> tuple[int, ...]:
    """Return the block of the teacher that each of a student's is held to: as far through the model, the last to the last.

    Source:
        Jiao et al. 2020, arXiv:1909.10351, section 4.1, "uniform strategy".

    Example:
        >>> matched(2, 6), matched(3, 3), matched(4, 2)
        ((2, 5), (0, 1, 2), (0, 0, 1, 1))
    """
    return tuple(-(-(index + 1) * num_teacher // num_student) - 1 for index in range(num_student))


@contextlib.contextmanager
def recorded_blocks(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that takes what the blocks return as they are called, features last."""
    taken: list[Tensor] = []

    def take(_block: nn.Module, _inputs: Any, outputs: Any) -> None:
        first: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        taken.append(first.movedim(1, -1) if first.ndim == 4 else first)

    handles = [block.register_forward_hook(take) for block in blocks]
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()


class BlockFeatures:
    """The mean square between what matching blocks return, over the mean square of the teacher's.

    Args:
        student: What its blocks returned for some batch.
        teacher: The same of the teacher.

    Raises:
        RecipeError: They return other numbers of places, so that none belongs to none.
    """

    def __init__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        self._match = matched(len(student), len(teacher))
        pairs = [(own, teacher[index]) for own, index in zip(student, self._match, strict=True)]
        for own, theirs in pairs:
            if own.shape[:-1] != theirs.shape[:-1]:
                raise RecipeError(
                    "recover.feature_weight: the blocks of model and teacher return other numbers of places.",
                    got=(tuple(own.shape[1:-1]), tuple(theirs.shape[1:-1])),
                    hint="--set recover.feature_weight=0",
                )
        self.maps = nn.ModuleList(
            nn.Identity()
            if own.shape[-1] == theirs.shape[-1]
            else nn.Linear(own.shape[-1], theirs.shape[-1], bias=False)
            for own, theirs in pairs
        )
        """From the student's width to the teacher's; learnt with the student."""

    def loss(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the mean over blocks, a scalar."""
        parts = []
        for own, change, index in zip(student, self.maps, self._match, strict=True):
            theirs = teacher[index]
            parts.append((change(own) - theirs).square().mean() / theirs.square().mean())
        return torch.stack(parts).mean()
