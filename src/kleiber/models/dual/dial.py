"""The size dial of the `dual` family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kleiber.models.dual.spec import DualSpec
from kleiber.models.layered_dial import Sizes
from kleiber.models.transformer_dial import default_num_heads, transformer_dial
from kleiber.runs import DataShape

__all__ = ["resolve_dial"]

_MIN_PATCHES_A_SIDE = 7


def resolve_dial(size: Mapping[str, Any], shape: DataShape) -> DualSpec:
    """Return the spec that `size` asks for; `DualSpec.of_size` says what it takes."""
    dial = transformer_dial(DualSpec, size, {"patch_size": _usual_patch_size(shape.height or 1)})

    def spread(depth: int, width: int, sizes: Sizes) -> dict[str, Any]:
        asked = sizes.fields.get("text_width")
        # What is no width at all is refused with the spec.
        text_width = asked if isinstance(asked, int) and asked > 0 else width
        return {
            **dial.spread(depth, width, sizes),
            "text_depth": depth,
            "text_width": text_width,
            "text_num_heads": default_num_heads(text_width),
            "text_mlp_width": 4 * text_width,
            "embedding_width": width,
        }

    return replace(dial, spread=spread).resolve(size, shape)


def _usual_patch_size(side: int) -> int:
    """Return the largest divisor of a side that leaves 7 patches or more: 4 of 28 and 32 pixels, 32 of 224."""
    return max(size for size in range(1, max(1, side // _MIN_PATCHES_A_SIDE) + 1) if side % size == 0)
