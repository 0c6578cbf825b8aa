"""Every time a forward pass multiplies by a weight, or looks a row of it up.

Legend: B samples, N rows that enter a weight, R its rows, C its columns, P positions of a convolution.
Weights are told by identity, not by the class of the module that holds them: families keep fused matrices as bare parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kleiber.data import Batch
from kleiber.tasks.evaluation import evaluating, model_inputs, tensor

__all__ = ["Kind", "Use", "Watch", "inputs_of", "run_batch", "watched"]

Kind: TypeAlias = Literal["linear", "conv", "embedding"]

_ARGUMENTS: dict[Any, tuple[Kind, tuple[str, ...]]] = {
    F.linear: ("linear", ("input", "weight", "bias")),
    F.embedding: ("embedding", ("input", "weight")),
    F.conv1d: ("conv", ("input", "weight", "bias", "stride", "padding", "dilation", "groups")),
    F.conv2d: ("conv", ("input", "weight", "bias", "stride", "padding", "dilation", "groups")),
}
"""By the function, what its arguments are called where they come without their names."""


@dataclass(frozen=True)
class Use:
    """One call that reads a weight."""

    name: str
    """Of the weight, as `named_parameters` has it."""
    kind: Kind
    input: Tensor
    weight: Tensor
    options: dict[str, Any]
    """Of a convolution: stride, padding, dilation, groups, where they were given."""

    @property
    def has_rows(self) -> bool:
        """Whether it multiplies rows: look-ups do not, grouped convolutions have others for each output, inputs may be empty."""
        return self.kind != "embedding" and not self.is_grouped and self.input.numel() > 0

    @property
    def is_grouped(self) -> bool:
        """Whether it is a convolution whose outputs see some of the channels each."""
        return int(self.options.get("groups", 1)) != 1

    def rows(self) -> Tensor:
        """Return what the weight is multiplied by, [N, C]: of a convolution the pixels under its kernel at each position."""
        if self.kind == "conv":
            return _patches(self)
        return self.input.reshape(-1, self.input.shape[-1])


class Watch(TorchFunctionMode):
    """Shows `see` every use of a parameter of a module, before it happens, while it is entered."""

    def __init__(self, module: nn.Module, see: Callable[[Use], None]) -> None:
        super().__init__()
        self._names = {id(parameter): name for name, parameter in module.named_parameters()}
        self._see = see

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ARGUMENTS:
            kind, names = _ARGUMENTS[func]
            given = dict(zip(names, args, strict=False)) | kwargs
            if (name := self._names.get(id(given["weight"]))) is not None:
                options = {key: given[key] for key in names[3:] if key in given}
                self._see(Use(name, kind, given["input"].detach(), given["weight"], options))
        return func(*args, **kwargs)


def watched(module: nn.Module, batch: Batch, see: Callable[[Use], None]) -> None:
    """Run a module on a batch in evaluation mode and show `see` every use of a parameter, in order, before it happens."""
    with Watch(module, see):
        run_batch(module, batch)


def run_batch(module: nn.Module, batch: Batch) -> Any:
    """Return what a module says of a batch, in evaluation mode and without gradients."""
    with evaluating(module):
        return module(*inputs_of(batch))


def inputs_of(batch: Batch) -> list[Tensor]:
    """Return what goes into a module, in the order of its arguments, as its task would give it.

    Of running text and of targets the last token is only predicted, never read.
    """
    if "source" in batch.arrays:
        return [tensor(batch, "source"), tensor(batch, "target")[:, :-1]]
    if set(batch.arrays) == {"tokens"}:
        return [tensor(batch, "tokens")[:, :-1]]
    return model_inputs(batch)


def _patches(use: Use) -> Tensor:
    """Return the channels and pixels that a convolution's kernel covers, for every sample and position, [B x P, C]."""
    num_axes = use.weight.ndim - 2
    kernel = tuple(use.weight.shape[2:])
    stride, dilation = (_each(use.options.get(key, 1), num_axes) for key in ("stride", "dilation"))
    x = use.input if use.input.ndim == use.weight.ndim else use.input.unsqueeze(0)
    x = F.pad(x, _padding(use.options.get("padding", 0), kernel, dilation))
    if num_axes == 1:  # unfold knows images only: a row of pixels is one of height 1
        x, kernel, stride, dilation = x.unsqueeze(2), (1, *kernel), (1, *stride), (1, *dilation)
    x_BCP = F.unfold(x, kernel, dilation=dilation, stride=stride)
    return x_BCP.transpose(1, 2).reshape(-1, x_BCP.shape[1])


def _padding(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    """Return what `F.pad` takes: before and after, last axis first."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        totals = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(one, one) for one in _each(padding, len(kernel))]
    return [one for pair in reversed(pairs) for one in pair]


def _each(size: Any, num_axes: int) -> tuple[int, ...]:
    if isinstance(size, int):
        return (size,) * num_axes
    sizes = tuple(int(one) for one in size)
    return sizes * num_axes if len(sizes) == 1 else sizes
