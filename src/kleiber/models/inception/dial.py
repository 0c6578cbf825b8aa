"""The size dial of the `inception` family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kleiber.models.inception.spec import InceptionSpec
from kleiber.models.layered_dial import LayeredDial, Sizes
from kleiber.models.stages import asked_depth, spread_depth, usual_stem

__all__ = ["DIAL"]

_MULTIPLE = 16
_USUAL_DEPTH, _MAX_DEPTH = 9, 27
_MAX_STAGES = 3
"""As GoogLeNet, whose 9 blocks are 256 wide at first."""
_USUAL_WIDTH = {"imagenet": 256, "cifar": 64}


def _spread(depth: int, width: int, sizes: Sizes) -> Mapping[str, object]:
    stages = spread_depth(depth, min(depth, _MAX_STAGES))
    return {"stage_depths": stages, "width": width, "stem": usual_stem(sizes.shape)}


def _depths(sizes: Sizes) -> Sequence[int]:
    asked = asked_depth(sizes.fields)
    others = [depth for depth in range(1, _MAX_DEPTH + 1) if depth != _USUAL_DEPTH]
    return [_USUAL_DEPTH, *others] if asked is None else [asked]


def _usual_width(_depth: int, sizes: Sizes) -> int:
    return _USUAL_WIDTH[usual_stem(sizes.shape)]


def _balanced_width(depth: int, sizes: Sizes) -> float:
    return _usual_width(depth, sizes) * depth / _USUAL_DEPTH


DIAL = LayeredDial(
    spec_type=InceptionSpec,
    example="inception:depth=9,width=64   (or inception:depth=6, inception:params=1e6)",
    spread=_spread,
    depths=_depths,
    usual_width=_usual_width,
    balanced_width=_balanced_width,
    width_multiple=_MULTIPLE,
    depth_fields=("stage_depths",),
)
"""From `depth`, `width` or `params` to an `InceptionSpec`."""
