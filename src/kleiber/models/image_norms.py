"""Normalization of images, by name."""

from __future__ import annotations

import math

from torch import nn

from kleiber.models.activations import NormName

__all__ = ["image_norm"]

_MAX_GROUPS = 32
"""Wu and He 2018, arXiv:1803.08494, section 3.1."""


def image_norm(name: NormName, num_channels: int) -> nn.Module:
    """Return a layer over images [B, C, H, W], with a gain and a shift a channel but for `none`.

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
