"""The state of a part of training, as tensors by name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["copy_named_"]


@torch.no_grad()
def copy_named_(state: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str) -> None:
    """Set the tensors of a state to those of a checkpoint.

    Args:
        state: Changed in place.
        saved: Of the same names and shapes.
        what: Whose state it is, for the error.

    Raises:
        ValueError: Names or shapes differ.
    """
    if saved.keys() != state.keys():
        raise ValueError(f"{what} has other tensors than the checkpoint")
    for name, tensor in state.items():
        if tensor.shape != saved[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {tuple(saved[name].shape)}")
        tensor.copy_(saved[name])
