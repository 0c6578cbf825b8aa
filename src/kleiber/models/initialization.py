"""Weights of linear layers and convolutions before training: the same seed gives the same, and nobody else's numbers change."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from kleiber.models.activation_functions import ACTIVATIONS
from kleiber.models.activations import ActivationName, InitName

__all__ = ["gain_of", "initialize_", "seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a generator of CPU numbers with this seed inside the block, and leave the global one as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@functools.cache
def gain_of(activation: ActivationName) -> float:
    """Return the gain of weights that keeps the scale of signals through an activation a.

    It is E[a(z)^2]^(-1/2) of a standard normal z: inputs whose mean square is that expectation come out of weights of
    variance gain^2 / fan-in as standard normal again. A scale that is off grows through many layers of `gelu`, `silu` and
    `relu2`: deep networks of these need a norm.

    Source:
        He et al. 2015, arXiv:1502.01852, equation 9, with the expectation of any activation in the place of ReLU's half.

    Example:
        >>> round(gain_of("relu") ** 2, 6)
        2.0
    """
    # Two half lines: Gauss-Legendre is exact to all digits where the activation is smooth, and ReLUs have their kink at 0.
    nodes, weights = np.polynomial.legendre.leggauss(80)
    z = torch.from_numpy(10 * (nodes + 1) / 2)
    density = torch.from_numpy(5 * weights) * torch.exp(-z.square() / 2) / (2 * np.pi) ** 0.5
    activate = ACTIVATIONS[activation]
    return float((density * (activate(z).square() + activate(-z).square())).sum() ** -0.5)


@torch.no_grad()
def initialize_(
    module: nn.Module,
    init: InitName,
    activation: ActivationName,
    *,
    head: nn.Module,
    branch_ends: Collection[nn.Module] = (),
) -> None:
    """Fill the weights of all linear layers and convolutions but the head from torch's global generator; biases become 0.

    The head keeps torch's own initialization: no activation follows it. So does everything under `default`.

    Args:
        module: Whose layers are filled.
        init: How.
        activation: Follows the layers: its gain scales what `kaiming`, `orthogonal` and `zero_residual` draw.
        head: Left alone.
        branch_ends: Norms that end residual branches: their gains become 0 under `zero_residual`.
    """
    if init == "default":
        return
    gain = gain_of(activation)
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer is not head:
            if init == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            elif init == "orthogonal":
                nn.init.orthogonal_(layer.weight, gain)
            else:
                fan_in = layer.weight[0].numel()
                nn.init.normal_(layer.weight, 0.0, gain * fan_in**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if init == "zero_residual":
        for norm in branch_ends:
            nn.init.zeros_(norm.get_parameter("weight"))
