"""The size dial of the `rnn` family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kleiber.models.layered_dial import LayeredDial, Sizes
from kleiber.models.rnn.spec import RNNSpec
from kleiber.runs import DataShape

__all__ = ["resolve_dial"]

_USUAL_WIDTHS = (64, 256, 1024, 4096)
"""Of 1, 2, 3 and more layers: deep stacks of cells learn badly, so a model grows wide before it grows deep."""


def resolve_dial(size: Mapping[str, Any], shape: DataShape) -> RNNSpec:
    """Return the spec that `size` asks for; `RNNSpec.of_size` says what it takes."""
    return _DIAL.resolve(size, shape)


def _usual_width(depth: int, _sizes: Sizes) -> int:
    return _USUAL_WIDTHS[min(depth, len(_USUAL_WIDTHS)) - 1]


_DIAL = LayeredDial(
    spec_type=RNNSpec,
    example="rnn:depth=2,width=256   (or rnn:cell=gru,depth=1, rnn:params=1e6)",
    spread=lambda depth, width, _sizes: {"depth": depth, "width": width},
    depths=lambda _sizes: range(1, len(_USUAL_WIDTHS) + 1),
    usual_width=_usual_width,
    balanced_width=_usual_width,
    width_multiple=8,
)
