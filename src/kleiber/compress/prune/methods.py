"""From settings and a module to the module with zeros: what matters is scored, masks are chosen, weights written.

Legend: R rows of a weight, C columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import Tensor

from kleiber.compress.calibration import Calibration
from kleiber.compress.in_order import solve_in_order, with_form_
from kleiber.compress.inputs import input_norms
from kleiber.compress.layers import Layer
from kleiber.compress.prune.masks import Pattern, Scope, keep_by_pattern, keep_globally, keep_top
from kleiber.compress.prune.sparsegpt import sparsegpt
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Masked

__all__ = ["Method", "Plan", "Pruned", "prune_at_once", "prune_in_order"]

Method: TypeAlias = Literal["magnitude", "wanda", "sparsegpt"]


@dataclass(frozen=True)
class Plan:
    """How much goes from where."""

    method: Method
    scope: Scope
    ratios: Mapping[str, float]
    """By the name of the weight; empty where there is a pattern."""
    pattern: Pattern | None
    was_kept: Mapping[str, Tensor] = field(default_factory=dict)
    """Of weights that were pruned before, which entries were kept, bool [R, C]: the others stay zero and count as gone."""

    def scored(self, name: str, scores_RC: Tensor) -> Tensor:
        """Return scores in which what is gone already is the least."""
        was_kept_RC = self.was_kept.get(name)
        return scores_RC if was_kept_RC is None else scores_RC.masked_fill(~was_kept_RC, -1.0)

    def masked(self, name: str, is_kept_RC: Tensor) -> Masked:
        """Return the form of a weight of which these entries are kept, and none that was gone."""
        was_kept_RC = self.was_kept.get(name)
        return Masked(is_kept_RC if was_kept_RC is None else is_kept_RC & was_kept_RC, self.pattern)

    def mask_of(self, name: str, scores_RC: Tensor) -> Masked:
        """Return the form of a weight by its own scores alone."""
        scores_RC = self.scored(name, scores_RC)
        if self.pattern is not None:
            return self.masked(name, keep_by_pattern(scores_RC, self.pattern))
        kept = keep_top(scores_RC, self.ratios[name], is_by_row=self.scope == "row")
        return self.masked(name, kept)


@dataclass(frozen=True)
class Pruned:
    """What became of a module."""

    module: FamilyModule
    masks: dict[str, Masked]
    unseen: tuple[str, ...] = ()
    """Layers that were kept because calibration gave them no inputs."""


def prune_at_once(
    module: FamilyModule, calibration: Calibration, layers: Sequence[Layer], plan: Plan
) -> Pruned:
    """Return the module with the lowest scores taken out, all of them of the module as it is."""
    module = copy.deepcopy(module)
    params = dict(module.named_parameters())
    scores = {layer.name: params[layer.name].detach().flatten(1).abs() for layer in layers}
    unseen: tuple[str, ...] = ()
    if plan.method == "wanda":
        norms = input_norms(module, calibration.batches, scores.keys())
        unseen = tuple(name for name in scores if name not in norms)
        scores = {name: scores[name] * norms[name] for name in norms}
    if plan.scope == "global" and plan.pattern is None and scores:
        (ratio,) = set(plan.ratios.values())
        kept = keep_globally({name: plan.scored(name, one) for name, one in scores.items()}, ratio)
        masks = {name: plan.masked(name, one) for name, one in kept.items()}
    else:
        masks = {name: plan.mask_of(name, one) for name, one in scores.items()}
    for name, mask in masks.items():
        with_form_(params[name], mask)
    return Pruned(module, masks, unseen)


def prune_in_order(
    module: FamilyModule, calibration: Calibration, layers: Sequence[Layer], plan: Plan
) -> Pruned:
    """Return the module pruned layer by layer, each on the inputs that the pruned ones before it give."""
    masks: dict[str, Masked] = {}
    solve = _SOLVERS[plan.method]

    def solve_layer(layer: Layer, W_RC: Tensor, H_CC: Tensor) -> Tensor:
        new_RC, masks[layer.name] = solve(plan, layer.name, W_RC, H_CC)
        return new_RC

    solved = solve_in_order(module, calibration, layers, solve_layer)
    return Pruned(solved.module, masks, solved.unseen)


def _wanda(plan: Plan, name: str, W_RC: Tensor, H_CC: Tensor) -> tuple[Tensor, Masked]:
    """Return a weight pruned by |weight| times the norm of what it is multiplied by.

    Source:
        Sun et al. 2023, arXiv:2306.11695, equation 1.
    """
    mask = plan.mask_of(name, W_RC.abs() * H_CC.diagonal().sqrt())
    return W_RC * mask.is_kept_RC, mask


def _sparsegpt(plan: Plan, name: str, W_RC: Tensor, H_CC: Tensor) -> tuple[Tensor, Masked]:
    new_RC, is_kept_RC = sparsegpt(
        W_RC,
        H_CC,
        ratio=plan.ratios.get(name),
        pattern=plan.pattern,
        was_kept_RC=plan.was_kept.get(name),
    )
    return new_RC, plan.masked(name, is_kept_RC)


_SOLVERS: dict[Method, Callable[[Plan, str, Tensor, Tensor], tuple[Tensor, Masked]]] = {
    "wanda": _wanda,
    "sparsegpt": _sparsegpt,
}
