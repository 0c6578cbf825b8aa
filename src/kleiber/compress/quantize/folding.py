"""Scales of AWQ put into a module: columns times them, what makes their inputs divided, the function as it was.

Legend: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from kleiber.compress.inputs import hessians
from kleiber.compress.quantize.awq import channel_scales
from kleiber.compress.quantize.channels import Fold, find_folds
from kleiber.compress.uses import inputs_of
from kleiber.data import Batch
from kleiber.models.stored.grid import Grid
from kleiber.tasks.evaluation import evaluating

__all__ = ["fold_scales_"]

Outputs: TypeAlias = Tensor | tuple[Tensor, ...]

_MAX_DRIFT = 1e-3
"""Of the outputs, relative to their size: fp32 rounds otherwise when factors move."""
_NUM_PROOFS = 2
"""Samples on which each fold is proved: a scale that is not taken back shows in all of them."""


@torch.no_grad()
def fold_scales_(
    module: nn.Module,
    batches: Sequence[Batch],
    grids: Mapping[str, Grid],
    fixed: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """Scale the columns of layers by what AWQ finds, where the parameters before them can take it back.

    Args:
        module: Changed in place; its outputs are as before.
        batches: Calibration.
        grids: By the name of each layer's weight, how it will be rounded.
        fixed: Names of weights that may not be scaled, for how they are stored says otherwise.

    Returns:
        The names of the layers that were scaled.
    """
    params = dict(module.named_parameters())
    few = Batch({role: array[:_NUM_PROOFS] for role, array in batches[0].arrays.items()}, 0)
    before = _outputs(module, few)
    folds = [
        fold
        for fold in find_folds(module, few)
        if any(name in grids for name in fold.layers) and fixed.isdisjoint((*fold.layers, *fold.sources))
    ]
    # The function stays as it is, and with it what enters all layers but the scaled ones: one pass serves all folds that
    # do not share channels. A fold's own inputs are those before any scale.
    moments = hessians(module, batches, {fold.layers[0] for fold in folds})
    scaled: list[str] = []
    for fold in folds:
        H_CC = moments.get(fold.layers[0])
        treated = [(params[name].flatten(1), grids[name]) for name in fold.layers if name in grids]
        scale_C = None if H_CC is None else channel_scales(treated, H_CC)
        if scale_C is None:
            continue
        undo = _fold_(params, fold, scale_C)
        if _is_same(before, _outputs(module, few)):
            scaled += fold.layers
        else:
            undo()
    return tuple(scaled)


def _fold_(params: Mapping[str, nn.Parameter], fold: Fold, scale_C: Tensor) -> Callable[[], None]:
    """Move scales; return what moves them back."""
    saved = {name: params[name].clone() for name in (*fold.sources, *fold.layers)}

    def undo() -> None:
        for name, tensor in saved.items():
            params[name].copy_(tensor)

    for name in fold.sources:
        rows = params[name][fold.rows]
        rows.div_(scale_C.view(-1, *[1] * (rows.ndim - 1)))
    for name in fold.layers:
        params[name].mul_(scale_C)
    return undo


def _outputs(module: nn.Module, batch: Batch) -> Outputs:
    with evaluating(module):
        outputs: Outputs = module(*inputs_of(batch))
    return outputs


def _is_same(before: Outputs, after: Outputs) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return bool((after - before).abs().max() <= _MAX_DRIFT * before.abs().max())
    return all(_is_same(one, other) for one, other in zip(before, after, strict=True))
