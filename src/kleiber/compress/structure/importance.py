"""What units are worth, as a calibration shows at the weights that they enter.

Legend: N rows that enter a weight, R its rows, C its columns, U units, K columns of a unit.

Source:
    Muralidharan et al. 2024, "Compact language models via pruning and knowledge distillation" (Minitron), arXiv:2407.14679,
    section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from kleiber.compress.inputs import visit_inputs
from kleiber.compress.structure.axes import Axis, Norm
from kleiber.data import Batch

__all__ = ["Importance", "Moments", "gain_factor", "moments_of", "stream_scores", "unit_scores"]

Importance: TypeAlias = Literal["contribution", "activation"]


def unit_scores(weight_RC: Tensor, second_CC: Tensor, columns_UK: Tensor, importance: Importance) -> Tensor:
    """Return what the units that enter a weight are worth, [U] float64.

    Args:
        weight_RC: Of the layer that reads the units.
        second_CC: Mean of x x^T over what enters it.
        columns_UK: The columns of each unit.
        importance: `activation` is the root mean square of a unit's values over all samples and places; `contribution` that
            of what the layer makes of them, |W_u x_u|: of units with equal values it prefers those that are listened to.

    Example:
        >>> weight, second = torch.tensor([[3.0, 1.0]]), torch.tensor([[4.0, 0.0], [0.0, 9.0]])
        >>> unit_scores(weight, second, torch.tensor([[0], [1]]), "activation").tolist()
        [2.0, 3.0]
        >>> unit_scores(weight, second, torch.tensor([[0], [1]]), "contribution").tolist()
        [6.0, 3.0]
    """
    second_CC = second_CC.double()
    if importance == "activation":
        return second_CC.diagonal()[columns_UK].sum(1).sqrt()
    second_UKK = second_CC[columns_UK[:, :, None], columns_UK[:, None, :]]
    weight_RUK = weight_RC.double()[:, columns_UK]
    heard_UKK = torch.einsum("ruk,rul->ukl", weight_RUK, weight_RUK)
    return (heard_UKK * second_UKK).sum((1, 2)).clamp(min=0).sqrt()


@dataclass(frozen=True)
class Moments:
    """Of each column of what enters a weight, [C] float64."""

    mean: Tensor
    square: Tensor


def moments_of(module: nn.Module, batches: Iterable[Batch], names: Collection[str]) -> dict[str, Moments]:
    """Return the moments of what enters each weight; one that saw nothing is left out."""
    sums: dict[str, tuple[int, Tensor, Tensor]] = {}

    def visit(name: str, x_NC: Tensor) -> None:
        x_NC = x_NC.to(torch.float64)
        num, first_C, square_C = sums.get(name, (0, 0.0, 0.0))
        sums[name] = (num + len(x_NC), first_C + x_NC.sum(0), square_C + x_NC.square().sum(0))

    visit_inputs(module, batches, names, visit)
    return {name: Moments(first / num, square / num) for name, (num, first, square) in sums.items()}


def stream_scores(axis: Axis, state: Mapping[str, Tensor], seen: Mapping[str, Moments]) -> Tensor:
    """Return what units are worth that many layers read: their root mean squares there, added up, [U] float64.

    What different layers make of them has no common measure.
    """
    units_U = torch.arange(axis.num_units)
    scores_U = torch.zeros(axis.num_units, dtype=torch.float64)
    for reader in axis.readers:
        if reader.name in seen:
            columns_UK = reader.columns(units_U, state[reader.name].shape)
            scores_U += seen[reader.name].square[columns_UK].sum(1).sqrt()
    return scores_U


def gain_factor(
    norm: Norm, state: Mapping[str, Tensor], seen: Mapping[str, Moments], kept_U: Tensor
) -> float:
    """Return what a norm's gain is multiplied by once the norm no longer sees the features that are cut.

    A norm over W features makes their mean square 1. It would raise the W' that are kept to a mean square of 1 by themselves:
    they had p W / W', p their part of the whole. The root of that gives them back the size they had, exactly so where p is the
    same for every token.
    """
    if norm.reader.name not in seen:
        return 1.0
    gain_W = state[norm.gain].double()
    shift_W = state[norm.shift].double() if norm.shift else torch.zeros_like(gain_W)
    moments = seen[norm.reader.name]
    centred_W = moments.square - 2 * shift_W * moments.mean + shift_W.square()
    # Behind a gain of 0 nothing is to be seen of a feature: it counts as a usual one.
    unit_W = torch.where(gain_W == 0, 1.0, centred_W.clamp(min=0) / gain_W.square())
    kept_part = float(unit_W[kept_U].sum() / unit_W.sum())
    return math.sqrt(kept_part * len(gain_W) / len(kept_U))
