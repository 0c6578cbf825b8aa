"""torch's own optimizers as a recipe sets them up, each with the fastest kernel it has on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from kleiber.runs import OptimizerRecipe
from kleiber.train.cautious import CautiousAdamW

__all__ = ["TorchName", "torch_optimizer"]

TorchName = Literal["sgd", "adagrad", "rmsprop", "adam", "adamw"]

_Groups = Sequence[dict[str, Any]]

# fused: one kernel a step; a loop of small operations would cost as much as a small model's forward pass. RMSprop has no such
# kernel, and its foreach variant holds two more copies of all weights and takes twice as long where they are large.
_BUILDERS: dict[TorchName, Callable[[_Groups, OptimizerRecipe], torch.optim.Optimizer]] = {
    "sgd": lambda groups, recipe: torch.optim.SGD(
        groups, momentum=recipe.momentum, nesterov=recipe.is_nesterov, fused=True
    ),
    "adagrad": lambda groups, recipe: torch.optim.Adagrad(groups, eps=recipe.eps, fused=True),
    "rmsprop": lambda groups, recipe: torch.optim.RMSprop(
        groups, alpha=recipe.beta2, momentum=recipe.momentum, eps=recipe.eps, foreach=False
    ),
    "adam": lambda groups, recipe: torch.optim.Adam(groups, **_adam_options(recipe)),
    "adamw": lambda groups, recipe: (CautiousAdamW if recipe.is_cautious_decay else torch.optim.AdamW)(
        groups, **_adam_options(recipe)
    ),
}

_STATE: dict[TorchName, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adagrad": ("step", "sum"),
    "rmsprop": ("step", "square_avg", "momentum_buffer"),
    "adam": ("step", "exp_avg", "exp_avg_sq"),
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
}


def torch_optimizer(name: TorchName, groups: _Groups, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """Return torch's optimizer with its whole state there before the first step, as a checkpoint needs it.

    torch takes `weight_decay` of each group as it always does: decoupled in AdamW, added to the gradient in the others.

    Args:
        name: Of torch's optimizers; Muon leaves embedding, head and norms to `adamw`.
        groups: `params`, `lr` and `weight_decay` of each.
        recipe: Decays, momentum and epsilon.

    Example:
        >>> groups = [{"params": [torch.zeros(3)], "lr": 0.1, "weight_decay": 0.0}]
        >>> sgd = torch_optimizer("sgd", groups, OptimizerRecipe(name="sgd", momentum=0.9))
        >>> [sorted(state) for state in sgd.state.values()]
        [['momentum_buffer']]
    """
    optimizer = _BUILDERS[name](groups, recipe)
    kept = [value for value in _STATE[name] if value != "momentum_buffer" or recipe.momentum]
    for group in optimizer.param_groups:
        for param in group["params"]:
            if kept:
                optimizer.state[param] = {value: _zeros(value, param) for value in kept}
    return optimizer


def _zeros(value: str, param: Tensor) -> Tensor:
    """Return what torch starts a value at; a momentum of zeros becomes the first gradient, as torch begins with."""
    return torch.zeros(()) if value == "step" else torch.zeros_like(param)


def _adam_options(recipe: OptimizerRecipe) -> dict[str, Any]:
    return {"betas": (recipe.beta1, recipe.beta2), "eps": recipe.eps, "fused": True}
