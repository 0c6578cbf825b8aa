"""The optimizer of a recipe: AdamW for embedding, head and norms, AdamW or Muon for the hidden matrices."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from kleiber.models.groups import ParamGroups
from kleiber.runs import OptimizerRecipe
from kleiber.train.muon import Muon

__all__ = ["Optimizer"]


class Optimizer:
    """Steps a module's parameters; its state goes to and from a checkpoint as named tensors.

    Args:
        module: Its parameters are moved in place.
        groups: Which of them are hidden matrices, and which the rest.
        recipe: Rates and decays.
    """

    def __init__(self, module: nn.Module, groups: ParamGroups, recipe: OptimizerRecipe) -> None:
        params = dict(module.named_parameters())
        hidden = [params[matrix.name] for matrix in groups.hidden]
        rest = [params[name] for name in (*groups.embedding, *groups.head, *groups.norms)]
        self._params = [*hidden, *rest]
        self._muon = None
        adam_groups: list[dict[str, Any]] = [{"params": rest, "lr": recipe.lr, "weight_decay": 0.0}]
        if recipe.name == "muon":
            self._muon = Muon(
                hidden,
                [matrix.row_splits for matrix in groups.hidden],
                lr=recipe.matrix_lr,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
            )
        else:
            adam_groups.append(
                {"params": hidden, "lr": recipe.matrix_lr, "weight_decay": recipe.weight_decay}
            )
        # fused: one kernel a step; a loop of small operations would cost as much as a small model's forward pass.
        self._adamw = torch.optim.AdamW(
            adam_groups, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps, fused=True
        )
        self._peak_rates = [float(group["lr"]) for group in self._adamw.param_groups]
        for param in self._adam_params():
            self._adamw.state[param] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(param),
                "exp_avg_sq": torch.zeros_like(param),
            }

    def step(self, scale: float) -> None:
        """Move every parameter; `scale` is the schedule's fraction of the peak rates."""
        for group, peak in zip(self._adamw.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * scale
        if self._muon is not None:
            self._muon.step(scale)
        self._adamw.step()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for param in self._params:
            param.grad = None

    def clip_(self, max_norm: float) -> float:
        """Scale the gradients to a global norm of at most `max_norm`; return the norm before."""
        gradients = [param.grad for param in self._params if param.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        nn.utils.clip_grads_with_norm_(self._params, max_norm, norm, foreach=True)
        return float(norm)

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state by name; the tensors are the state itself."""
        state = {} if self._muon is None else {f"muon.{k}": v for k, v in self._muon.tensors().items()}
        for index, param in enumerate(self._adam_params()):
            values = cast("dict[str, Tensor]", self._adamw.state[param])
            state |= {f"adamw.{index}.{name}": value for name, value in values.items()}
        return state

    @torch.no_grad()
    def load_tensors_(self, saved: dict[str, Tensor]) -> None:
        """Set the state to what `tensors` returned.

        Raises:
            ValueError: Names or shapes differ.
        """
        state = self.tensors()
        if saved.keys() != state.keys():
            raise ValueError("the optimizer's state has other tensors than the checkpoint")
        for name, tensor in state.items():
            if tensor.shape != saved[name].shape:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {tuple(saved[name].shape)}")
            tensor.copy_(saved[name])

    def _adam_params(self) -> list[Tensor]:
        return [param for group in self._adamw.param_groups for param in group["params"]]
