"""Layers over images [B, C, H, W] that several families are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kleiber.models.activation_functions import ACTIVATIONS
from kleiber.models.activations import ActivationName, NormName

__all__ = ["ConvLayer", "channels_last", "image_norm"]

_MAX_GROUPS = 32
"""Wu and He 2018, arXiv:1803.08494, section 3.1."""


class ConvLayer(nn.Module):
    """A convolution, its norm, and an activation; with a bias where there is no norm to shift.

    Args:
        num_inputs: Channels that come in.
        num_outputs: Channels that come out.
        kernel: Side of the kernel [pixels].
        norm: After the convolution.
        activation: After the norm; None leaves the sum as it is.
        stride: Between two positions [pixels].
        is_padded: Zeros around the image keep its size; else it loses `kernel - 1` pixels.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        kernel: int,
        norm: NormName,
        activation: ActivationName | None,
        *,
        stride: int = 1,
        is_padded: bool = True,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if is_padded else 0
        self.conv = nn.Conv2d(num_inputs, num_outputs, kernel, stride, padding, bias=norm == "none")
        self.norm = image_norm(norm, num_outputs)
        self.activate = ACTIVATIONS[activation] if activation else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the layer's channels, [B, C, H, W]."""
        channels_BCHW: Tensor = self.activate(self.norm(self.conv(x_BCHW)))
        return channels_BCHW


def channels_last(images_BCHW: Tensor) -> Tensor:
    """Return the images with a pixel's channels side by side in memory; their shape, and what is computed, stay the same.

    Convolutions on a CPU are a sixth to a half faster so, and every layer hands the order on to the next.
    """
    return images_BCHW.contiguous(memory_format=torch.channels_last)


def image_norm(name: NormName, num_channels: int) -> nn.Module:
    """Return a norm of images, with a gain and a shift a channel but for `none`.

    Args:
        name: `batch` (Ioffe and Szegedy 2015), `group` (the most groups that 32 and the channels share), `layer` (one group:
            channels and pixels of a sample, Ba et al. 2016) or `none`.
        num_channels: C.

    Example:
        >>> image_norm("group", 48).num_groups
        16
    """
    if name == "none":
        return nn.Identity()
    if name == "batch":
        return nn.BatchNorm2d(num_channels)
    groups = 1 if name == "layer" else math.gcd(_MAX_GROUPS, num_channels)
    return nn.GroupNorm(groups, num_channels)
