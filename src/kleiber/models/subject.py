"""A model that somebody brings: how to build it, what goes in, what is minimized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kleiber.cost.layouts import BlockShape

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["BlockShape", "Inputs", "Subject"]


@dataclass(frozen=True)
class Inputs:
    """Arguments of one forward call on the device that is current when they are made."""

    args: tuple[torch.Tensor, ...] = ()
    kwargs: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A model with an example of its use; nothing is built until asked.

    `build` and `inputs` make tensors on the current default device: under `torch.device("meta")` they take no memory,
    under none they are real.
    """

    name: str
    """As typed."""
    build: Callable[[], nn.Module]
    """Return the module with random weights, in training mode."""
    inputs: Callable[[int], Inputs]
    """Return what a micro-batch of so many samples looks like; token ids and classes stay in their range."""
    loss: Callable[[Any], torch.Tensor]
    """Return the scalar to minimize, of what the module returned."""
    loss_name: str
    """Said to the user: which loss that is."""
    batch_size: int
    """Samples that `--input` or the default gives."""
    tokens_per_sample: int | None = None
    """Context of a text model; None where samples are counted."""
    blocks: BlockShape | None = None
    has_cache: bool = False
    """Whether it generates token by token and keeps keys and values."""
    num_experts: tuple[int, int] | None = None
    """Of a mixture: experts that a token visits, and all experts of a layer."""
    notes: tuple[str, ...] = ()
    """What was chosen for the user, a sentence each."""
