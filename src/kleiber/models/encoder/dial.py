"""The size dial of the `encoder` family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kleiber.models.encoder.spec import EncoderSpec
from kleiber.models.transformer_dial import transformer_dial
from kleiber.runs import DataShape

__all__ = ["resolve_dial"]


def resolve_dial(size: Mapping[str, Any], shape: DataShape) -> EncoderSpec:
    """Return the spec that `size` asks for; `EncoderSpec.of_size` says what it takes."""
    return transformer_dial(EncoderSpec, size).resolve(size, shape)
