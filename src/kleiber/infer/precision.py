"""Weights in the precision that is asked for when a model is opened, without a file of its own."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch

from kleiber.errors import UsageError, nearest
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Forms, Quantized
from kleiber.models.stored.grid import Grid
from kleiber.models.stored.rounding import round_to_nearest

__all__ = ["PRECISIONS", "Precision", "in_precision"]

Precision: TypeAlias = Literal["fp32", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_INT8 = Grid(8)
_INT4 = Grid(4, group_size=128)
"""Of the matrices; tables, the head among them, have 8 bits: they are looked up, or decide between near answers."""


def in_precision(module: FamilyModule, stored: Forms, precision: Precision | None) -> Forms:
    """Return how weights are held; those of the module become what that stands for.

    int8 has a scale a row; int4 one for 128 columns and the tables in int8. Both are rounded to nearest: `kleiber compress`
    has gentler ways, and proves what they cost.

    Args:
        module: fp32; rounded in place.
        stored: How its folder stores weights.
        precision: None is as stored; fp32 computes with the numbers that stored codes stand for.

    Raises:
        UsageError: An unknown precision, or fewer bits of a model that is stored in few bits already.
    """
    if precision is None:
        return stored
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{precision}'. {nearest(precision, PRECISIONS)}")
    if precision == "fp32":
        return {}
    if any(isinstance(form, Quantized) for form in stored.values()):
        raise UsageError(
            f"precision {precision} would round weights that are stored in few bits already.",
            hint="--precision fp32, or none: as it is stored",
        )
    return {**stored, **_rounded(module, _INT8 if precision == "int8" else _INT4)}


@torch.no_grad()
def _rounded(module: FamilyModule, grid: Grid) -> Forms:
    groups, params = module.param_groups(), dict(module.named_parameters())
    grids = {matrix.name: grid for matrix in groups.hidden} | {
        name: _INT8 for name in (*groups.embedding, *groups.head) if params[name].ndim > 1
    }
    forms: Forms = {}
    for name, one in grids.items():
        form = round_to_nearest(params[name].flatten(1), one)
        params[name].copy_(form.dense().view_as(params[name]))
        forms[name] = form
    return forms
