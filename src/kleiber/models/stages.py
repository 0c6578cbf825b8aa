"""Stages of a network over images: between two of them the image gets smaller and the channels more. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kleiber.models.activations import NormName
from kleiber.models.weight_layers import WeightLayer
from kleiber.runs import DataShape

__all__ = [
    "ImageSize",
    "StageSizes",
    "Stem",
    "asked_depth",
    "convolution",
    "halved",
    "image_size",
    "split_sizes",
    "spread_depth",
    "usual_stem",
]

ImageSize = tuple[int, int]
"""Height and width [pixels]."""
Stem = Literal["cifar", "imagenet"]
"""First layers: a 3x3 convolution at full size, or a 7x7 one and a pool that leave a quarter of each side."""

_SMALLEST_OF_IMAGENET = 64
"""Shorter side from which an image gets the stem that shrinks it [pixels]."""


def split_sizes(value: Any) -> Any:
    """Return the sizes in `6x16`, the command line's way to write several; anything else is returned as it is.

    Example:
        >>> split_sizes("6x16"), split_sizes(64), split_sizes("many")
        ([6, 16], [64], 'many')
    """
    if isinstance(value, str) and all(part.isdecimal() for part in value.split("x")):
        return [int(part) for part in value.split("x")]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


_Size = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
StageSizes = Annotated[tuple[_Size, ...], Field(max_length=16), BeforeValidator(split_sizes)]
"""A size a stage: `[6, 16]` in YAML, `6x16` on the command line."""


def asked_depth(fields: Mapping[str, Any]) -> int | None:
    """Return the depth that `stage_depths` among a size's fields adds up to; None without it, or where it is no sizes.

    Example:
        >>> asked_depth({"stage_depths": "2x5x2"}), asked_depth({"width": 64})
        (9, None)
    """
    depths = split_sizes(fields.get("stage_depths"))
    is_sizes = isinstance(depths, list | tuple) and all(type(depth) is int for depth in depths)
    return max(1, sum(depths)) if is_sizes else None


def image_size(shape: DataShape) -> ImageSize:
    """Return height and width of the images of a shape."""
    return shape.height or 1, shape.width or 1


def usual_stem(shape: DataShape) -> Stem:
    """Return the stem that suits images of a shape."""
    return "imagenet" if min(image_size(shape)) >= _SMALLEST_OF_IMAGENET else "cifar"


def halved(size: ImageSize) -> ImageSize:
    """Return the size after a padded layer of stride 2.

    Example:
        >>> halved((28, 7))
        (14, 4)
    """
    return -(-size[0] // 2), -(-size[1] // 2)


def spread_depth(depth: int, num_stages: int) -> tuple[int, ...]:
    """Return the layers of each stage: as many in each, what is left in the last ones.

    Example:
        >>> spread_depth(13, 5)  # VGG-16's
        (2, 2, 3, 3, 3)
    """
    each, rest = divmod(depth, num_stages)
    return (each,) * (num_stages - rest) + (each + 1,) * rest


def convolution(
    num_inputs: int, num_outputs: int, kernel: int, size: ImageSize, norm: NormName
) -> WeightLayer:
    """Return what the `ConvLayer` of `image_layers` counts; `size` is that of its output."""
    num_vectors = 1 if norm == "none" else 2
    return WeightLayer(num_outputs, num_inputs * kernel**2, size[0] * size[1], num_vectors * num_outputs)
