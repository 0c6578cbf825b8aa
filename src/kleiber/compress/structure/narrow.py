"""Narrower layers: which units stay, and what the layers behind them make of that.

Legend: R rows of a weight, C its columns, U units.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kleiber.compress.calibration import Calibration
from kleiber.compress.in_order import solve_in_order
from kleiber.compress.layers import Layer, find_layers
from kleiber.compress.structure.axes import Axis, Sizes, Skeleton
from kleiber.compress.structure.importance import (
    Importance,
    gain_factor,
    moments_of,
    stream_scores,
    unit_scores,
)
from kleiber.compress.structure.rebuilt import rebuilt
from kleiber.compress.structure.refit import refitted
from kleiber.compress.subject import Subject
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Masked

__all__ = ["Narrowing", "narrowed"]


@dataclass(frozen=True)
class Narrowing:
    """How units are chosen, and whether the layer behind them is refitted."""

    importance: Importance
    is_refitted: bool


def narrowed(
    subject: Subject, skeleton: Skeleton, sizes: Sizes, calibration: Calibration, how: Narrowing
) -> Subject:
    """Return the model with layers of other sizes.

    First what lies inside of blocks, in the order of the forward pass: each choice is made on what the layers before it still
    give. Then the residual stream, on what is left.

    Args:
        subject: Left as it was.
        skeleton: Of its module.
        sizes: Of all kinds.
        calibration: What importance is measured on.
        how: See there.

    Raises:
        DataError: What enters a layer is not finite.
    """
    whole = {kind.name: kind.num for kind in skeleton.kinds}
    # A whole number by `Kind.step`: heads of a group, sixteenths of an inception block.
    num_kept = {axis: axis.num_units * sizes[axis.kind] // whole[axis.kind] for axis in skeleton.axes}
    smaller = [axis for axis in skeleton.axes if num_kept[axis] < axis.num_units]
    inner = {axis.readers[0].name: axis for axis in smaller if axis.is_inner}
    kept: dict[Axis, Tensor] = {}

    def choose(layer: Layer, weight_RC: Tensor, second_CC: Tensor) -> Tensor:
        axis = inner[layer.name]
        columns_UK = axis.readers[0].columns(torch.arange(axis.num_units), layer.shape)
        scores_U = unit_scores(weight_RC, second_CC, columns_UK, how.importance)
        kept[axis] = _largest(scores_U, num_kept[axis])
        is_kept_C = torch.ones(weight_RC.shape[1], dtype=torch.bool)
        is_kept_C[columns_UK.flatten()] = False
        is_kept_C[columns_UK[kept[axis]].flatten()] = True
        if not how.is_refitted:
            return weight_RC * is_kept_C
        return _masked(subject, layer.name, refitted(weight_RC, second_CC, is_kept_C))

    layers = [layer for layer in find_layers(subject.module, calibration.batches[0]) if layer.name in inner]
    module = solve_in_order(subject.module, calibration, layers, choose).module
    wide = [axis for axis in smaller if not axis.is_inner]
    kept |= _cut_stream_(module, skeleton, wide, num_kept, calibration)
    spec = skeleton.spec_of(sizes, range(len(skeleton.blocks)))
    return rebuilt(dataclasses.replace(subject, module=module), spec, kept.items())


def _cut_stream_(
    module: FamilyModule,
    skeleton: Skeleton,
    axes: list[Axis],
    num_kept: Mapping[Axis, int],
    calibration: Calibration,
) -> dict[Axis, Tensor]:
    """Return the units that stay of axes that many layers read, and set the gains of norms over them to what is left."""
    readers = {reader.name for axis in axes for reader in axis.readers}
    if not readers:
        return {}
    seen = moments_of(module, calibration.batches, readers)
    state = module.state_dict()
    kept = {axis: _largest(stream_scores(axis, state, seen), num_kept[axis]) for axis in axes}
    gains = {
        norm.gain: gain_factor(norm, state, seen, units)
        for norm in skeleton.norms
        for axis, units in kept.items()
        if norm.reader in axis.readers
    }
    params = dict(module.named_parameters())
    with torch.no_grad():
        for name, factor in gains.items():
            params[name].mul_(factor)
    return kept


def _largest(scores_U: Tensor, num: int) -> Tensor:
    """Return the units of the largest scores, ascending; of equal ones the first."""
    order = scores_U.argsort(descending=True, stable=True)
    return order[:num].sort().values


def _masked(subject: Subject, name: str, weight_RC: Tensor) -> Tensor:
    form = subject.forms.get(name)
    return weight_RC * form.is_kept_RC if isinstance(form, Masked) else weight_RC
