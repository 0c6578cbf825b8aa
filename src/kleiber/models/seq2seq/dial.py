"""The size dial of the `seq2seq` family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kleiber.models.layered_dial import Sizes
from kleiber.models.seq2seq.spec import Seq2SeqSpec
from kleiber.models.transformer_dial import transformer_dial
from kleiber.runs import DataShape

__all__ = ["resolve_dial"]


def resolve_dial(size: Mapping[str, Any], shape: DataShape) -> Seq2SeqSpec:
    """Return the spec that `size` asks for; `Seq2SeqSpec.of_size` says what it takes."""
    dial = transformer_dial(Seq2SeqSpec, size)

    def spread(depth: int, width: int, sizes: Sizes) -> dict[str, Any]:
        return {**dial.spread(depth, width, sizes), "decoder_depth": depth}

    return replace(dial, spread=spread).resolve(size, shape)
