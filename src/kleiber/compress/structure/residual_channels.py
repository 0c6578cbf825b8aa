"""The channels that the blocks of a residual network add to, and what hangs on each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from kleiber.compress.structure.axes import Axis, Place
from kleiber.models.family import FamilyModule
from kleiber.models.resnet.spec import ResNetSpec

__all__ = ["residual_axes"]


@dataclass
class _Segment:
    """Channels that lie side by side from where they begin to the end of the network, or to the next projection."""

    num_channels: int
    places: list[Place] = field(default_factory=list)
    readers: list[Place] = field(default_factory=list)


def residual_axes(module: FamilyModule, spec: ResNetSpec, kind: str) -> tuple[Axis, ...]:
    """Return the axes of the residual stream, all of one kind.

    Where a shortcut pads with zeros, what comes in keeps its places and the block adds channels behind it: the channels of the
    stem are an axis that goes through the whole network, and so are those that each stage adds. A projection begins anew.

    Args:
        module: Of the spec.
        spec: With batch norms or none, which treat each channel by itself.
        kind: Of the axes, by which all keep the same part.
    """
    names = {*dict(module.named_parameters()), *dict(module.named_buffers())}
    segments = [_Segment(spec.width)]
    found = list(segments)
    _write(segments, "stem", names)
    for stage, blocks in enumerate(spec.blocks()):
        for index, block in enumerate(blocks):
            name = f"stages.{stage}.{index}"
            _read(segments, f"{name}.layer.0.conv.weight")
            if block.changes_size and spec.shortcut == "projection":
                _read(segments, f"{name}.shortcut.conv.weight")
                segments = [_Segment(block.num_outputs)]
                found += segments
                _write(segments, f"{name}.shortcut", names)
            elif added := block.num_outputs - block.num_inputs:
                segments = [*segments, _Segment(added)]
                found.append(segments[-1])
            _write(segments, f"{name}.layer.{len(block.convolutions(spec.block)) - 1}", names)
    _read(segments, "head.weight")
    return tuple(
        Axis(kind, one.num_channels, (*one.places, *one.readers), readers=tuple(one.readers), is_inner=False)
        for one in found
    )


def _write(segments: list[_Segment], layer: str, names: Collection[str]) -> None:
    """Note that a convolution and its norm give all channels of the stream."""
    own = sorted(name for name in names if name.startswith((f"{layer}.conv.", f"{layer}.norm.")))
    for segment, start in _laid_out(segments):
        segment.places += [
            Place(name, 0, ((start, 1),)) for name in own if not name.endswith("num_batches_tracked")
        ]


def _read(segments: list[_Segment], weight: str) -> None:
    """Note that a weight's columns are the channels of the stream."""
    for segment, start in _laid_out(segments):
        segment.readers.append(Place(weight, 1, ((start, 1),)))


def _laid_out(segments: list[_Segment]) -> Iterator[tuple[_Segment, int]]:
    """Return each segment with its first channel."""
    start = 0
    for segment in segments:
        yield segment, start
        start += segment.num_channels
