"""Names of what a family leaves to choose: activations, normalization of images, initialization. No torch."""

from __future__ import annotations

from typing import Literal

__all__ = ["ActivationName", "InitName", "NormName"]

ActivationName = Literal["sigmoid", "tanh", "relu", "gelu", "silu", "relu2"]
"""`relu2` is relu(x)^2 (So et al. 2021, arXiv:2109.08668); `gelu` is exact, by the error function."""

NormName = Literal["batch", "group", "layer", "none"]
"""Normalization of images: over a batch, over groups of channels, over all channels of a sample, none."""

InitName = Literal["default", "kaiming", "xavier", "orthogonal", "zero_residual"]
"""Initialization: torch's own; He et al. 2015; Glorot and Bengio 2010; Saxe et al. 2014; He's, with every residual branch
ending in 0 (Goyal et al. 2017)."""
