"""The size dial of the `resnet` family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kleiber.errors import RecipeError
from kleiber.models.layered_dial import LayeredDial, Sizes
from kleiber.models.resnet.spec import BlockKind, ResNetSpec
from kleiber.models.stages import asked_depth, split_sizes, usual_stem

__all__ = ["DIAL"]

PUBLISHED: dict[int, tuple[BlockKind, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""He et al. 2016, table 1."""

_USUAL_WIDTH = {3: 16, 4: 64}
"""By the number of stages: He et al. 2016, sections 4.2 and 3.4."""
_DEPTHS = {
    "cifar": (20, 8, 11, 14, 26, 29, 32, 38, 44, 47, 56, 74, 110, 164),
    "imagenet": (50, 18, 34, 101, 152),
}
"""To choose from where a number of parameters is asked, so that a ladder has one number of stages; the usual one first."""
_EXAMPLE = "resnet:depth=20   (or resnet:depth=50, resnet:depth=32,width=32, resnet:params=1e6)"


def _spread(depth: int, width: int, sizes: Sizes) -> Mapping[str, object]:
    stem = sizes.fields.get("stem", usual_stem(sizes.shape))
    asked = sizes.fields.get("block")
    block, stages = (asked or "basic", ()) if "stage_depths" in sizes.fields else _stages(depth, asked)
    return {
        "stage_depths": stages,
        "width": width,
        "block": block,
        "stem": stem,
        # Option A is what He et al. 2016 take on CIFAR-10, option B on ImageNet.
        "shortcut": "padding" if stem == "cifar" else "projection",
    }


def _stages(depth: int, block: object) -> tuple[str, tuple[int, ...]]:
    """Return the blocks that make a depth: published ones, else three stages of as many."""
    if depth in PUBLISHED and block in {None, PUBLISHED[depth][0]}:
        return PUBLISHED[depth]
    layers = 3 if block == "bottleneck" else 2
    each, rest = divmod(depth - 2, 3 * layers)
    if rest or each < 1:
        below = 2 + 3 * layers * max(1, each)
        raise RecipeError(
            f"resnet size: depth must be one of {', '.join(map(str, PUBLISHED))}, or {3 * layers}n + 2"
            f" for three stages of n blocks of {layers} layers.",
            got=depth,
            hint=f"resnet:depth={below}   (or resnet:depth={below + 3 * layers})",
        )
    return str(block or "basic"), (each,) * 3


def _depths(sizes: Sizes) -> Sequence[int]:
    asked, block = asked_depth(sizes.fields), sizes.fields.get("block")
    if asked is not None:
        return [2 + asked * (3 if block == "bottleneck" else 2)]
    depths = _DEPTHS[usual_stem(sizes.shape)]
    # Where no usual depth is made of the blocks asked, the next steps tell that the block is unknown.
    return [depth for depth in depths if _is_made(depth, block)] or depths


def _is_made(depth: int, block: object) -> bool:
    try:
        _stages(depth, block)
    except RecipeError:
        return False
    return True


def _usual_width(depth: int, sizes: Sizes) -> int:
    asked = split_sizes(sizes.fields.get("stage_depths"))
    stages = asked if isinstance(asked, list | tuple) else _stages(depth, sizes.fields.get("block"))[1]
    return _USUAL_WIDTH.get(len(stages), 64)


def _balanced_width(depth: int, sizes: Sizes) -> float:
    return _usual_width(depth, sizes) * depth / _DEPTHS[usual_stem(sizes.shape)][0]


DIAL = LayeredDial(
    spec_type=ResNetSpec,
    example=_EXAMPLE,
    spread=_spread,
    depths=_depths,
    usual_width=_usual_width,
    balanced_width=_balanced_width,
    depth_fields=("stage_depths",),
)
"""From `depth`, `width` or `params` to a `ResNetSpec`."""
