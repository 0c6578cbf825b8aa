"""The step that is predicted and the step that is measured: one and the same code.

It runs on real tensors and on fake ones, reads no value of a tensor, and keeps nothing from one step to the next but
weights and optimizer state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kleiber.cost.operations import Phase
from kleiber.cost.trace.checkpointing import enable_checkpointing_
from kleiber.cost.usage import OptimizerName, Precision, Usage

__all__ = [
    "CallInputs",
    "MuonFactory",
    "MuonStepper",
    "Stepper",
    "build_optimizer",
    "prepare_",
    "run_step",
]

_LR = 1e-4
"""Of every optimizer: what a step needs is wanted, not its effect."""

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class CallInputs(Protocol):
    """Arguments of one forward call."""

    @property
    def args(self) -> tuple[Tensor, ...]:
        """By position."""

    @property
    def kwargs(self) -> Mapping[str, Tensor]:
        """By name."""


class Stepper(Protocol):
    """An optimizer, as far as a step uses it."""

    def step(self) -> object:
        """Move the parameters by their gradients."""

    def zero_grad(self) -> None:
        """Drop the gradients, not only their values."""


class MuonStepper(Protocol):
    """Muon as `kleiber.train.muon` writes it."""

    def step(self, scale: float) -> None:
        """Move the matrices; `scale` is a fraction of the rate."""


class MuonFactory(Protocol):
    """Makes Muon of weights and of the rows of the matrices fused into each."""

    def __call__(
        self, params: Sequence[Tensor], row_splits: Sequence[Sequence[int]], *, lr: float
    ) -> MuonStepper:
        """Return Muon over `params`."""


_OF_TORCH: dict[OptimizerName, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=_LR),
    "momentum": lambda params: torch.optim.SGD(params, lr=_LR, momentum=0.9),
    "adagrad": lambda params: torch.optim.Adagrad(params, lr=_LR),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=_LR),
    "rmsprop_momentum": lambda params: torch.optim.RMSprop(params, lr=_LR, momentum=0.9),
    "adam": lambda params: torch.optim.Adam(params, lr=_LR),
    "adamw": lambda params: torch.optim.AdamW(params, lr=_LR),
}


def build_optimizer(name: OptimizerName, module: nn.Module, *, muon: MuonFactory | None = None) -> Stepper:
    """Return the optimizer called `name` over the trainable parameters of `module`, as torch sets it up.

    Muon takes the hidden matrices and leaves the rest to AdamW.

    Args:
        name: As in `Usage`.
        module: On the device where its state shall be.
        muon: Makes Muon; `kleiber.train.muon.Muon`, which stands above this room.

    Raises:
        ValueError: `name` is "muon" and `muon` is missing.
    """
    params = [param for param in module.parameters() if param.requires_grad]
    if name != "muon":
        return _OF_TORCH[name](params)
    if muon is None:
        raise ValueError("the optimizer muon needs its factory: build_optimizer(..., muon=Muon)")
    rows = _hidden_rows(module)
    hidden = [param for param in params if param in rows]
    rest = [param for param in params if param not in rows]
    return _MuonAndAdamW(
        muon(hidden, [rows[param] for param in hidden], lr=_LR) if hidden else None,
        _OF_TORCH["adamw"](rest) if rest else None,
        params,
    )


def prepare_(module: nn.Module, usage: Usage) -> None:
    """Set `module` up for `usage`: training or serving, its precision when it is served, checkpointing of its blocks.

    Raises:
        RecipeError: Checkpointing is asked of a module without repeated blocks.
    """
    if usage.mode == "infer":
        module.eval()
        _cast_weights_(module, _DTYPES[usage.precision])
        return
    module.train()
    if usage.is_checkpointed:
        enable_checkpointing_(module)


def run_step(
    module: nn.Module,
    inputs: CallInputs,
    loss: Callable[[Any], Tensor],
    optimizer: Stepper | None,
    usage: Usage,
    *,
    entering: Callable[[Phase], object] = lambda _: None,
) -> None:
    """Run one step of a module that was prepared: a training step, or in mode "infer" a forward call.

    Args:
        module: After `prepare_`.
        inputs: Of one micro-batch; each micro-batch of the step runs on these.
        loss: Of what the module returns, the scalar to minimize.
        optimizer: Over the module's parameters; None in mode "infer".
        usage: How the step is done.
        entering: Called when a phase begins.
    """
    if usage.mode == "infer" or optimizer is None:
        entering("forward")
        # Not `inference_mode`, which takes the same memory but hides the parts of composite operations from a tracer.
        with torch.no_grad():
            module(*_cast(inputs.args, usage), **_cast_by_name(inputs.kwargs, usage))
        return
    for _ in range(usage.accumulation):
        entering("forward")
        with _autocast(module, usage.precision):
            # What the module returns is held by nobody: the loss keeps of it what its backward pass needs.
            value = loss(module(*inputs.args, **inputs.kwargs))
            if (extra := _auxiliary_loss(module)) is not None:
                value = value + extra
            value = value / usage.accumulation
            del extra
        entering("backward")
        value.backward()  # type: ignore[no-untyped-call] # torch leaves it unannotated
        del value
    entering("optimizer")
    optimizer.step()
    optimizer.zero_grad()


def _auxiliary_loss(module: nn.Module) -> Tensor | None:
    """Return what a family's module adds to the loss of its task."""
    ask: Any = getattr(module, "auxiliary_loss", None)
    added: Tensor | None = ask() if callable(ask) else None
    return added


class _MuonAndAdamW:
    """Steps hidden matrices by Muon and the other parameters by AdamW."""

    def __init__(
        self, muon: MuonStepper | None, adamw: torch.optim.Optimizer | None, params: Sequence[Tensor]
    ) -> None:
        self._muon, self._adamw, self._params = muon, adamw, params

    def step(self) -> None:
        if self._muon is not None:
            self._muon.step(1.0)
        if self._adamw is not None:
            self._adamw.step()

    def zero_grad(self) -> None:
        for param in self._params:
            param.grad = None


def _hidden_rows(module: nn.Module) -> dict[Tensor, Sequence[int]]:
    """Return the weights that Muon takes and the rows of the matrices fused into each.

    A module that groups its parameters itself is asked. Of others: every weight of two or more dimensions but for
    tables of embeddings and the last linear layer, which is taken for the head.
    """
    if callable(ask := getattr(module, "param_groups", None)):
        params = dict(module.named_parameters())
        return {params[matrix.name]: matrix.row_splits for matrix in ask().hidden}
    tables = [part.weight for part in module.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)]
    heads = [part.weight for part in module.modules() if isinstance(part, nn.Linear)][-1:]
    left_out = {*tables, *heads}
    return {
        param: (param.shape[0],)
        for param in module.parameters()
        if param.requires_grad and param.ndim >= 2 and param not in left_out
    }


def _cast_weights_(module: nn.Module, dtype: torch.dtype) -> None:
    """Give the weights and buffers that are real numbers another dtype; shared ones stay shared.

    `Module.to` cannot do it on fake tensors: it swaps tensors that the fake mode still refers to.
    """
    cast: dict[Tensor, Tensor] = {}
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            if weight.is_floating_point() and weight.dtype != dtype:
                fresh = cast.setdefault(weight, nn.Parameter(weight.detach().to(dtype), weight.requires_grad))
                setattr(part, name, fresh)
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_floating_point() and buffer.dtype != dtype:
                setattr(part, name, cast.setdefault(buffer, buffer.to(dtype)))


def _autocast(module: nn.Module, precision: Precision) -> AbstractContextManager[object]:
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(next(module.parameters()).device.type, dtype=_DTYPES[precision])


def _cast(values: Sequence[Tensor], usage: Usage) -> list[Tensor]:
    """Return the tensors with real numbers in the precision that the model is served in."""
    return [value.to(_DTYPES[usage.precision]) if value.is_floating_point() else value for value in values]


def _cast_by_name(values: Mapping[str, Tensor], usage: Usage) -> dict[str, Tensor]:
    return dict(zip(values, _cast(list(values.values()), usage), strict=True))
