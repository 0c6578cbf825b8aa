"""The size dial of the `convnet` family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kleiber.models.convnet.spec import ConvNetSpec
from kleiber.models.layered_dial import LayeredDial, Sizes
from kleiber.models.stages import asked_depth, image_size, split_sizes, spread_depth

__all__ = ["DIAL"]

_WIDTH_PER_DEPTH = 8
"""Aspect ratio of the dial: 8 convolutions start with 64 channels, as VGG-11."""
_DENSE_PER_WIDTH = 4
_MAX_STAGES, _SMALLEST_SIDE = 5, 3
"""As VGG, and what at least is left of an image's shorter side [pixels]."""
_MAX_GROWTH = 8
"""Channels of the last stages over those of the first, as VGG."""
_MAX_DEPTH = 32


def _spread(depth: int, width: int, sizes: Sizes) -> Mapping[str, object]:
    asked = split_sizes(sizes.fields.get("stage_depths", sizes.fields.get("stage_widths")))
    num_stages = len(asked) if isinstance(asked, list | tuple) else _num_stages(sizes)
    num_stages = max(1, min(depth, num_stages))
    return {
        "stage_depths": spread_depth(depth, num_stages),
        "stage_widths": [width * min(2**stage, _MAX_GROWTH) for stage in range(num_stages)],
        "dense_widths": [_DENSE_PER_WIDTH * width],
    }


def _num_stages(sizes: Sizes) -> int:
    """Return the stages that leave enough of the image."""
    return min(_MAX_STAGES, max(1, math.floor(math.log2(min(image_size(sizes.shape)) / _SMALLEST_SIDE))))


def _depths(sizes: Sizes) -> Sequence[int]:
    asked = asked_depth(sizes.fields)
    widths = split_sizes(sizes.fields.get("stage_widths"))
    fewest = max(1, len(widths)) if isinstance(widths, list | tuple) else 1  # a convolution a stage
    return range(fewest, max(fewest, _MAX_DEPTH) + 1) if asked is None else [asked]


def _usual_width(depth: int, _sizes: Sizes) -> int:
    return _WIDTH_PER_DEPTH * depth


DIAL = LayeredDial(
    spec_type=ConvNetSpec,
    example="convnet:depth=6,width=32   (or convnet:depth=8, convnet:params=1e6)",
    spread=_spread,
    depths=_depths,
    usual_width=_usual_width,
    balanced_width=_usual_width,
    depth_fields=("stage_depths",),
    width_fields=("stage_widths",),
)
"""From `depth`, `width` or `params` to a `ConvNetSpec`."""
