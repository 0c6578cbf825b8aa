"""The optimizer of a recipe: torch's, or Muon for the hidden matrices and AdamW for embedding, head and norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from kleiber.models.groups import ParamGroups
from kleiber.runs import OptimizerRecipe
from kleiber.train.muon import Muon
from kleiber.train.named_tensors import copy_named_
from kleiber.train.parametrization import Scale
from kleiber.train.torch_optimizers import TorchName, torch_optimizer

__all__ = ["Optimizer"]


class Optimizer:
    """Steps a module's parameters; its state goes to and from a checkpoint as named tensors.

    Args:
        module: Its parameters are moved in place.
        groups: Which of them are hidden matrices, which weight decay may reach, and which the rest.
        recipe: Rates and decays.
        scales: What parameters have over the recipe's rates, decay and eps, by name; those that are left out have the recipe's.
    """

    def __init__(
        self,
        module: nn.Module,
        groups: ParamGroups,
        recipe: OptimizerRecipe,
        scales: Mapping[str, Scale] | None = None,
    ) -> None:
        params = dict(module.named_parameters())
        scales = scales or {}
        rest = [*groups.embedding, *groups.head, *groups.norms]
        self._params = [params[name] for name in (*(matrix.name for matrix in groups.hidden), *rest)]
        self._folds = [scales.get(name, Scale()).fold for name in (*(m.name for m in groups.hidden), *rest)]
        self.lr = recipe.lr
        """Peak rate of embedding, head, norms and biases, before scales."""
        self._muon = None
        self._name: TorchName = "adamw" if recipe.name == "muon" else recipe.name
        settings = [(name, recipe.lr, 0.0) for name in rest]
        if recipe.name == "muon" and groups.hidden:
            self._muon = Muon(
                [params[matrix.name] for matrix in groups.hidden],
                [matrix.row_splits for matrix in groups.hidden],
                lr=recipe.matrix_lr,
                momentum=recipe.momentum,
                momentum_warmup_steps=recipe.momentum_warmup_steps,
                weight_decay=recipe.weight_decay,
                is_cautious=recipe.is_cautious_decay,
                rate_scales=[scales.get(matrix.name, Scale()).rate for matrix in groups.hidden],
            )
        else:
            settings += [(matrix.name, recipe.matrix_lr, recipe.weight_decay) for matrix in groups.hidden]
        torch_groups: dict[tuple[float, float, float], dict[str, Any]] = {}
        for name, rate, decay in settings:
            scale = scales.get(name, Scale())
            key = (rate * scale.rate, decay / scale.rate, recipe.eps * scale.eps)
            group = dict(zip(("lr", "weight_decay", "eps"), key, strict=True))
            torch_groups.setdefault(key, {"params": [], **group})["params"].append(params[name])
        self._torch = torch_optimizer(self._name, list(torch_groups.values()), recipe)
        self._peak_rates = [float(group["lr"]) for group in self._torch.param_groups]

    def step(self, scale: float) -> None:
        """Move every parameter; `scale` is the schedule's fraction of the peak rates."""
        for group, peak in zip(self._torch.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * scale
        if self._muon is not None:
            self._muon.step(scale)
        self._torch.step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for param in self._params:
            param.grad = None

    def clip_(self, max_norm: float | None) -> float:
        """Scale the gradients to a global norm of at most `max_norm`; return the norm before.

        The norm is that of a model with its multipliers in the forward pass: factors folded into weights leave it alone.

        Args:
            max_norm: Largest global norm; None leaves the gradients as they are.
        """
        by_fold: dict[float, list[Tensor]] = {}
        for param, fold in zip(self._params, self._folds, strict=True):
            if param.grad is not None:
                by_fold.setdefault(fold, []).append(param.grad)
        norms = [fold * nn.utils.get_total_norm(grads, foreach=True) for fold, grads in by_fold.items()]
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        if max_norm is not None:
            nn.utils.clip_grads_with_norm_(self._params, max_norm, norm, foreach=True)
        return float(norm)

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state by name; the tensors are the state itself."""
        state = {} if self._muon is None else {f"muon.{k}": v for k, v in self._muon.tensors().items()}
        params = (param for group in self._torch.param_groups for param in group["params"])
        for index, param in enumerate(params):
            values = cast("dict[str, Tensor]", self._torch.state.get(param, {}))
            state |= {f"{self._name}.{index}.{name}": value for name, value in values.items()}
        return state

    def load_tensors_(self, saved: dict[str, Tensor]) -> None:
        """Set the state to what `tensors` returned.

        Raises:
            ValueError: Names or shapes differ.
        """
        copy_named_(self.tensors(), saved, "the optimizer's state")
