"""The optimizer of a recipe: torch's, or Muon for the hidden matrices and AdamW for embedding, head and norms."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from kleiber.models.groups import ParamGroups
from kleiber.runs import OptimizerRecipe
from kleiber.train.muon import Muon
from kleiber.train.named_tensors import copy_named_
from kleiber.train.torch_optimizers import TorchName, torch_optimizer

__all__ = ["Optimizer"]


class Optimizer:
    """Steps a module's parameters; its state goes to and from a checkpoint as named tensors.

    Args:
        module: Its parameters are moved in place.
        groups: Which of them are hidden matrices, which weight decay may reach, and which the rest.
        recipe: Rates and decays.
    """

    def __init__(self, module: nn.Module, groups: ParamGroups, recipe: OptimizerRecipe) -> None:
        params = dict(module.named_parameters())
        hidden = [params[matrix.name] for matrix in groups.hidden]
        rest = [params[name] for name in (*groups.embedding, *groups.head, *groups.norms)]
        self._params = [*hidden, *rest]
        self._muon = None
        self._name: TorchName = "adamw" if recipe.name == "muon" else recipe.name
        torch_groups: list[dict[str, Any]] = [{"params": rest, "lr": recipe.lr, "weight_decay": 0.0}]
        if recipe.name == "muon" and hidden:
            self._muon = Muon(
                hidden,
                [matrix.row_splits for matrix in groups.hidden],
                lr=recipe.matrix_lr,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
            )
        else:
            torch_groups.append(
                {"params": hidden, "lr": recipe.matrix_lr, "weight_decay": recipe.weight_decay}
            )
        self._torch = torch_optimizer(self._name, torch_groups, recipe)
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

        Args:
            max_norm: Largest global norm; None leaves the gradients as they are.
        """
        gradients = [param.grad for param in self._params if param.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
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
