"""Rates, eps, decay and weights at the start by width and depth: CompleteP, folded into the weights.

Legend: wide, width over base width; deep, depth over base depth.
CompleteP multiplies what a branch adds to the residual stream by 1 / deep and the logits by 1 / wide. Here the matrices that
end a branch, and the gain before a tied head or the head itself, hold these factors: their weights are W' = f W. Their gradients
are then 1 / f of what they would be, and the same steps need other rates and eps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from kleiber.errors import RecipeError
from kleiber.models.groups import ParamGroups, TransferMarks
from kleiber.runs import OptimizerRecipe, ParametrizationRecipe, Recipe

__all__ = ["Scale", "hidden_rate_factor", "optimizer_at_horizon", "scale_weights_", "scales_of"]

_Role = Literal["table", "hidden", "fixed_output", "gain", "small_gain", "on_stream", "output"]
_Powers = Mapping[_Role, tuple[float, float]]
"""Of `wide` and of `deep`, whose product is the factor."""

# Of Adam, before folding: table 1 of the paper. A gradient falls with the number of features and blocks that share what comes
# out, and eps with it. What that table does not name: vectors whose size is not the width have gradients from all of it; factors on
# the stream itself come together as a product over all blocks.
_ADAM_RATES: _Powers = {
    "table": (0, 0),
    "hidden": (-1, 0),
    "fixed_output": (-1, 0),
    "gain": (0, 0),
    "small_gain": (0, 0),
    "on_stream": (0, -1),
    "output": (0, 0),
}
_ADAM_EPS: _Powers = {
    "table": (-1, 0),
    "hidden": (-1, -1),
    "fixed_output": (0, -1),
    "gain": (-1, -1),
    "small_gain": (0, -1),
    "on_stream": (0, 0),
    "output": (-1, 0),
}
_RATES: Mapping[str, _Powers] = {
    "adam": _ADAM_RATES,
    "adamw": _ADAM_RATES,
    # The root-mean-square of a step whose spectral norm is as sqrt(outputs / inputs).
    "muon": {**_ADAM_RATES, "hidden": (-0.5, 0), "fixed_output": (-1, 0)},
    # Steps as Adam's from plain gradients, which fall as Adam's eps does.
    "sgd": {
        role: (wide - _ADAM_EPS[role][0], deep - _ADAM_EPS[role][1])
        for role, (wide, deep) in _ADAM_RATES.items()
    },
}


@dataclass(frozen=True)
class Scale:
    """What one parameter has over that of the base model, in the weights as they are stored.

    Weight decay is divided by `rate`: the part that a step takes off the weights does not depend on the size.
    """

    init: float = 1.0
    """Deviation at the start over that which the family gives it."""
    rate: float = 1.0
    eps: float = 1.0
    """Of Adam."""
    fold: float = 1.0
    """f: the weights over those of a model with multipliers in its forward pass."""


def hidden_rate_factor(optimizer: str, wide: float) -> float:
    """Return the factor on the rate of hidden matrices at `wide` times the width at which it was tuned; 1 where no rule is known.

    Source:
        Yang et al. 2022, arXiv:2203.03466, table 3; Yang et al. 2023, arXiv:2310.17813, condition 1, for muon.

    Example:
        >>> hidden_rate_factor("adamw", 4), hidden_rate_factor("muon", 4), hidden_rate_factor("rmsprop", 4)
        (0.25, 0.5, 1.0)
    """
    return _factor(_RATES[optimizer]["hidden"], (wide, 1.0)) if optimizer in _RATES else 1.0


def scales_of(
    module: nn.Module, groups: ParamGroups, recipe: ParametrizationRecipe, optimizer: OptimizerRecipe
) -> dict[str, Scale]:
    """Return the scales of a module's parameters by name; of those that are left out they are 1.

    Args:
        module: Its parameters.
        groups: How an optimizer treats them, and what is known of them over widths and depths.
        recipe: The rule.
        optimizer: Whose steps it is for.

    Raises:
        RecipeError: No rule is known for the family.

    Source:
        Dey et al. 2025, arXiv:2505.01618, table 1 with alpha = 1; Yang et al. 2023, arXiv:2310.17813, condition 1, for muon.
    """
    if recipe.name == "standard":
        return {}
    marks = groups.transfer
    if marks is None:
        raise RecipeError(
            f"train.parametrization.name {recipe.name} is worked out for gpt alone: it needs to know which matrices end a branch.",
            got=type(module).__name__,
            hint="--set train.parametrization.name=standard",
        )
    ratios = (
        marks.width / (recipe.base_width or marks.width),
        marks.depth / (recipe.base_depth or marks.depth),
    )
    rates = _RATES[optimizer.name]
    if recipe.name == "mup_simple":
        return {matrix.name: Scale(rate=_factor(rates["hidden"], ratios)) for matrix in groups.hidden}
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    found = {}
    for name in groups.names:
        role = _role(name, groups, marks, sizes[name])
        fold = _factor(_fold(name, groups, marks), ratios)
        found[name] = Scale(
            init=fold * _own_init(name, role, marks, ratios),
            # A step of plain gradients is proportional to them, one of Adam or Muon is not.
            rate=_factor(rates[role], ratios) * (fold**2 if optimizer.name == "sgd" else fold),
            eps=_factor(_ADAM_EPS[role], ratios) / fold,
            fold=fold,
        )
    return found


def _fold(name: str, groups: ParamGroups, marks: TransferMarks) -> tuple[float, float]:
    """Return the powers of the multiplier that is folded into a parameter."""
    if name in marks.to_stream:
        return 0, -1
    holds_output = name in groups.head or (name == marks.output_gain and not groups.head)
    return (-1, 0) if holds_output else (0, 0)


def _factor(powers: tuple[float, float], ratios: tuple[float, float]) -> float:
    return float(ratios[0] ** powers[0] * ratios[1] ** powers[1])


def _role(name: str, groups: ParamGroups, marks: TransferMarks, size: int) -> _Role:
    if name in groups.head or name == marks.output_gain:
        return "output"
    if name in groups.embedding:
        return "table"
    if name in marks.on_stream:
        return "on_stream"
    if name in groups.norms:
        return "gain" if size == marks.width else "small_gain"
    return "fixed_output" if name in marks.fixed_outputs else "hidden"


def _own_init(name: str, role: _Role, marks: TransferMarks, ratios: tuple[float, float]) -> float:
    """Return what the deviation at the start is to be, before folding, over what the family makes it at this size."""
    if role not in {"hidden", "fixed_output"}:
        return 1.0
    is_depth_scaled = marks.is_depth_scaled and name in marks.to_stream
    return _factor((0 if marks.is_fan_in_scaled else -0.5, 0.5 if is_depth_scaled else 0), ratios)


@torch.no_grad()
def scale_weights_(module: nn.Module, scales: Mapping[str, Scale]) -> None:
    """Make fresh weights those that a parametrization starts with."""
    for name, parameter in module.named_parameters():
        if name in scales and scales[name].init != 1:
            parameter.mul_(scales[name].init)


def optimizer_at_horizon(recipe: Recipe) -> OptimizerRecipe:
    """Return the optimizer with the rates of the run's horizon; decay times rate falls with the rate.

    Args:
        recipe: Its steps are settled.

    Source:
        Bjorck et al. 2024, arXiv:2409.19913, equation 1, with the exponent that they find at all their sizes.
    """
    optimizer = recipe.train.optimizer
    scale = recipe.train.parametrization.rate_scale(recipe.num_tokens)
    if scale == 1:
        return optimizer
    return optimizer.model_copy(update={"lr": optimizer.lr * scale, "matrix_lr": optimizer.matrix_lr * scale})
