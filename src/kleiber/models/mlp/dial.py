"""The size dial of the `mlp` family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kleiber.models.layered_dial import LayeredDial, Sizes
from kleiber.models.mlp.spec import MLPSpec

__all__ = ["DIAL"]

_WIDTH_PER_DEPTH = 128
"""Aspect ratio of the dial: 2 layers are 256 wide."""


def _spread(depth: int, width: int, _sizes: Sizes) -> Mapping[str, object]:
    return {"depth": depth, "width": width}


def _depths(_sizes: Sizes) -> Sequence[int]:
    return range(1, 65)


def _usual_width(depth: int, _sizes: Sizes) -> int:
    return _WIDTH_PER_DEPTH * depth


DIAL = LayeredDial(
    spec_type=MLPSpec,
    example="mlp:depth=2,width=256   (or mlp:depth=3, mlp:params=1e6)",
    spread=_spread,
    depths=_depths,
    usual_width=_usual_width,
    balanced_width=_usual_width,
)
"""From `depth`, `width` or `params` to an `MLPSpec`."""
