"""Modules whose weights are fakes: shapes and dtypes of real ones, and no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

__all__ = ["fake_module", "plain_tensors"]


def fake_module(build: Callable[[], nn.Module], mode: FakeTensorMode) -> nn.Module:
    """Return what `build` makes, with fake weights on the CPU.

    The module is built on the meta device first: initializations that look at values would fail on fakes. Tensors that
    it keeps as plain attributes become fakes as its weights do.

    Args:
        build: Makes the module on the default device.
        mode: The one in which the module will run.
    """
    with torch.device("meta"):
        module = build()
    fakes: dict[int, torch.Tensor] = {}
    with mode:
        for owner in module.modules():
            # No public way replaces shared weights as one.
            for tensors in (owner._parameters, owner._buffers, vars(owner)):  # noqa: SLF001
                for name, tensor in tensors.items():
                    if isinstance(tensor, torch.Tensor):
                        tensors[name] = fakes.setdefault(id(tensor), _fake(tensor))  # type: ignore[assignment] # a parameter for a parameter
    return module


def plain_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors that `module` and those inside it keep as attributes, neither parameters nor buffers."""
    for owner in module.modules():
        yield from (value for value in vars(owner).values() if isinstance(value, torch.Tensor))


def _fake(tensor: torch.Tensor) -> torch.Tensor:
    fake = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu")
    return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
