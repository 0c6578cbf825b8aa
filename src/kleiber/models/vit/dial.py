"""The size dial of the `vit` family."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kleiber.models.transformer_dial import transformer_dial
from kleiber.models.vit.spec import ViTSpec
from kleiber.runs import DataShape

__all__ = ["resolve_dial"]

_MIN_PATCHES_A_SIDE = 7


def resolve_dial(size: Mapping[str, Any], shape: DataShape) -> ViTSpec:
    """Return the spec that `size` asks for; `ViTSpec.of_size` says what it takes."""
    dial = transformer_dial(ViTSpec, size, {"patch_size": _usual_patch_size(shape)})
    return dial.resolve(size, shape)


def _usual_patch_size(shape: DataShape) -> int:
    """Return the largest power of two that leaves 7 patches or more a side, on the mean: 4 of 28 and 32 pixels."""
    side = math.sqrt((shape.height or 1) * (shape.width or 1)) / _MIN_PATCHES_A_SIDE
    return 1 << max(0, math.floor(math.log2(side)))
