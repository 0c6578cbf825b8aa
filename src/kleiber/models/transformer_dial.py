"""The size dial of families whose blocks are Transformers with biases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from kleiber.models.layered_dial import DialledSpec, LayeredDial, Sizes

__all__ = ["default_num_heads", "transformer_dial"]

_WIDTH_PER_DEPTH = 64
"""Aspect ratio of the dial: depth 12 is 768 wide, as BERT base and ViT base."""
_MLP_EXPANSION = 4
_MAX_DEPTH = 128
"""Deepest that is chosen where no depth is given."""

S = TypeVar("S", bound=DialledSpec)


def transformer_dial(
    spec_type: type[S], size: Mapping[str, Any], also: Mapping[str, Any] | None = None
) -> LayeredDial[S]:
    """Return the dial of a family.

    Args:
        spec_type: Of the family, with the fields `num_heads` and `mlp_width`.
        size: What the dial is turned by: heads that were asked must divide the widths that are tried.
        also: What else is usual, by field.
    """

    def spread(depth: int, width: int, _sizes: Sizes) -> dict[str, Any]:
        return {
            "depth": depth,
            "width": width,
            "num_heads": default_num_heads(width),
            "mlp_width": _MLP_EXPANSION * width,
            **(also or {}),
        }

    def usual_width(depth: int, _sizes: Sizes) -> int:
        return _WIDTH_PER_DEPTH * depth

    name = spec_type.__name__.removesuffix("Spec").lower()
    return LayeredDial(
        spec_type=spec_type,
        example=f"{name}:depth=4   (or {name}:width=256, {name}:params=1e6)",
        spread=spread,
        depths=lambda _sizes: range(2, _MAX_DEPTH + 1),
        usual_width=usual_width,
        balanced_width=usual_width,
        width_multiple=_width_multiple(size.get("num_heads", 1)),
    )


def default_num_heads(width: int) -> int:
    """Return the heads that a width is cut into: of 64 features from 256 on, of 32 from 128 on, else of 16.

    The next smaller size is taken where one does not divide the width, and one head where none does.

    Example:
        >>> default_num_heads(768), default_num_heads(192), default_num_heads(64), default_num_heads(40)
        (12, 6, 4, 1)
    """
    largest = 64 if width >= 256 else 32 if width >= 128 else 16
    head_dim = next((size for size in (64, 32, 16) if size <= largest and width % size == 0), width)
    return width // head_dim


def _width_multiple(num_heads: object) -> int:
    # What is no number of heads at all is refused with the spec.
    return math.lcm(16, num_heads) if isinstance(num_heads, int) and 0 < num_heads <= 10_000 else 16
