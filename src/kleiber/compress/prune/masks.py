"""Which entries of a weight are kept, by how much each of them matters.

Legend: R rows of a weight, C columns, G groups of a row, M entries of a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

__all__ = ["Pattern", "Scope", "keep_by_pattern", "keep_globally", "keep_top"]

Scope: TypeAlias = Literal["global", "layer", "row"]
"""Among what the least important entries are sought: all layers together, each layer, each row."""

Pattern: TypeAlias = tuple[int, int]
"""N of M: at most N of every M neighbours in a row are kept."""


def keep_top(scores_RC: Tensor, ratio: float, *, is_by_row: bool = False) -> Tensor:
    """Return which entries are kept, bool [R, C], when the `ratio` with the lowest scores goes, rounded to whole entries.

    Args:
        scores_RC: How much each entry matters.
        ratio: Of the whole weight, or of each row.
        is_by_row: Compare within rows rather than within the weight.

    Example:
        >>> keep_top(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 0.5).tolist()
        [[False, False], [True, True]]
        >>> keep_top(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 0.5, is_by_row=True).tolist()
        [[False, True], [False, True]]
    """
    compared = scores_RC if is_by_row else scores_RC.reshape(1, -1)
    lowest = compared.topk(round(ratio * compared.shape[1]), largest=False).indices
    return torch.ones_like(compared, dtype=torch.bool).scatter_(1, lowest, False).view_as(scores_RC)


def keep_by_pattern(scores_RC: Tensor, pattern: Pattern) -> Tensor:
    """Return which entries are kept, bool [R, C]: the N that matter most of every M neighbours in a row.

    Where M does not divide the row its last group is shorter, and holds N all the same.

    Example:
        >>> keep_by_pattern(torch.tensor([[4.0, 1.0, 3.0, 2.0, 9.0, 5.0, 7.0]]), (2, 4)).int().tolist()
        [[1, 0, 1, 0, 1, 0, 1]]
    """
    num_kept, size = pattern
    R, C = scores_RC.shape
    groups_RGM = F.pad(scores_RC, (0, -C % size), value=-torch.inf).view(R, -1, size)
    kept = groups_RGM.topk(num_kept, dim=2).indices
    is_kept_RGM = torch.zeros_like(groups_RGM, dtype=torch.bool).scatter_(2, kept, True)
    return is_kept_RGM.view(R, -1)[:, :C]


def keep_globally(scores: Mapping[str, Tensor], ratio: float) -> dict[str, Tensor]:
    """Return which entries of each weight are kept, when the `ratio` of all of them with the lowest scores goes.

    Args:
        scores: Of each weight, [R, C], by name.
        ratio: Of the entries of all weights together; a weight may lose more than that, or nothing.

    Example:
        >>> kept = keep_globally({"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([[3.0, 4.0]])}, 0.5)
        >>> {name: mask.tolist() for name, mask in kept.items()}
        {'a': [[False, False]], 'b': [[True, True]]}
    """
    is_kept = keep_top(torch.cat([one.flatten() for one in scores.values()]).view(1, -1), ratio).flatten()
    parts = torch.split(is_kept, [one.numel() for one in scores.values()])
    return {name: part.view_as(one).clone() for (name, one), part in zip(scores.items(), parts, strict=True)}
