"""What a module of foreign code holds: looked at where it was built without memory."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import dataclass

import torch

from kleiber.cost.trace.parameters import count_parameters
from kleiber.models import Spec
from kleiber.models.foreign.family import module_type
from kleiber.runs import ParamCount

__all__ = ["Facts", "facts_on_meta"]


@dataclass(frozen=True)
class Facts:
    """What a module holds."""

    num_params: ParamCount
    hidden_shapes: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=32)
def facts_on_meta(spec: Spec, _stamp: Hashable) -> Facts:
    """Return what the module of a spec holds.

    Args:
        spec: Its weights are not read.
        _stamp: Of the files that the spec names: as long as it is the same, what was found is known.

    Raises:
        RecipeError: It cannot be built.
    """
    with torch.device("meta"):
        module = module_type(spec)(spec)
    params = dict(module.named_parameters())
    shapes = [
        (rows, params[matrix.name][0].numel())
        for matrix in module.param_groups().hidden
        for rows in matrix.row_splits
    ]
    return Facts(count_parameters(module).groups, tuple(shapes))
