"""What hangs together in a module: its units, and the entries of its tensors that go when a unit goes.

A unit is a head, a neuron, a channel, a feature of the residual stream. Legend: U units, R rows and C columns of a weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kleiber.models import Spec

__all__ = ["Axis", "Block", "Kind", "Norm", "Place", "Sizes", "Skeleton", "cut"]

Sizes = Mapping[str, int]
"""Number of units by the name of their kind, in the numbers that a spec has."""


@dataclass(frozen=True)
class Place:
    """One dimension of a tensor on which the units of an axis lie.

    Example:
        >>> fused = Place("qkv", 0, ((0, 2), (6, 1)))  # three units: of two rows each, then of one
        >>> fused.entries(torch.tensor([0, 2])).tolist()
        [0, 1, 4, 5, 6, 8]
    """

    name: str
    """As `state_dict` has it."""
    dim: int
    stretches: tuple[tuple[int, int], ...] = ((0, 1),)
    """Of each stretch of units: where it starts, and the entries of a unit."""

    def entries(self, units: Tensor) -> Tensor:
        """Return the entries of some units."""
        return torch.cat(
            [(start + units[:, None] * size + torch.arange(size)).flatten() for start, size in self.stretches]
        )

    def columns(self, units: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the columns of some units [units, columns of one] where a weight of a shape is seen as [R, C]."""
        ((start, size),) = self.stretches
        pixels = math.prod(shape[2:])
        return (start + units[:, None] * size) * pixels + torch.arange(size * pixels)


@dataclass(frozen=True)
class Axis:
    """Units that are kept or cut one by one, in all their places at once."""

    kind: str
    """By which sizes tell how many are kept; axes of a kind keep as many, each its own."""
    num_units: int
    places: tuple[Place, ...]
    readers: tuple[Place, ...]
    """Of `places`, the columns of weights that the units enter: what they are worth shows there."""
    is_inner: bool = True
    """Whether the one reader is all that the units reach, and can take over what those that are cut gave."""


@dataclass(frozen=True)
class Kind:
    """A number of the spec that can be made smaller."""

    name: str
    num: int
    """As it is."""
    step: int = 1
    """What it must be a multiple of."""
    least: int = 1
    """What a spec has at least."""
    is_free: bool = True
    """Whether it shrinks towards a target, not only with another or by choice."""
    has_round_sizes: bool = True
    """Whether multiples of a large number compute faster than others."""
    is_last: bool = False
    """Whether it shrinks towards a target only where the others alone would have to shrink too far."""


@dataclass(frozen=True)
class Norm:
    """A norm over the residual stream."""

    gain: str
    shift: str | None
    reader: Place
    """Columns of a weight that the normalized stream enters."""


@dataclass(frozen=True)
class Block:
    """A block of the residual stream."""

    name: str
    """Of the module; blocks that are side by side are numbered at its end."""
    is_droppable: bool = True
    """Whether what enters can go on in its place."""


@dataclass(frozen=True)
class Skeleton:
    """All that can be cut out of a module, and the spec of what is left.

    An axis keeps of its units the part that is kept of its kind's number.
    """

    kinds: tuple[Kind, ...]
    axes: tuple[Axis, ...]
    spec_of: Callable[[Sizes, Sequence[int]], Spec]
    """From all sizes, and which blocks are kept."""
    blocks: tuple[Block, ...] = ()
    norms: tuple[Norm, ...] = ()
    """Over the axis of kind `width`."""
    settled: Callable[[Sizes, Collection[str]], Sizes] = field(default=lambda sizes, _asked: sizes)
    """Sizes made to fit each other, those that were asked as they are; raises where these cannot."""


def cut(
    state: Mapping[str, Tensor], kept: Iterable[tuple[Axis, Tensor]], dropped_blocks: Collection[str] = ()
) -> dict[str, Tensor]:
    """Return the tensors of a module without the units and blocks that go; blocks are numbered anew.

    Args:
        state: Tensors by name; others than those of a module (masks of its weights) are cut alike.
        kept: Of axes, the units that stay, ascending.
        dropped_blocks: Names of modules.
    """
    stays: dict[tuple[str, int], Tensor] = {}
    for axis, units in kept:
        goes = torch.ones(axis.num_units, dtype=torch.bool)
        goes[units] = False
        for place in axis.places:
            if place.name not in state:
                continue
            length = state[place.name].shape[place.dim]
            mask = stays.setdefault((place.name, place.dim), torch.ones(length, dtype=torch.bool))
            mask[place.entries(goes.nonzero().flatten())] = False
    tensors = dict(state)
    for (name, dim), mask in stays.items():
        tensors[name] = tensors[name].index_select(dim, mask.nonzero().flatten())
    return _numbered_anew(tensors, dropped_blocks)


def _numbered_anew(tensors: Mapping[str, Tensor], dropped: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors without those of dropped blocks; the numbers of the blocks that follow close the gap."""
    moved: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if any(name.startswith(f"{block}.") for block in dropped):
            continue
        for parent in {block.rpartition(".")[0] for block in dropped}:
            if name.startswith(f"{parent}."):
                index, _, rest = name.removeprefix(f"{parent}.").partition(".")
                before = sum(f"{parent}.{number}" in dropped for number in range(int(index)))
                name = f"{parent}.{int(index) - before}.{rest}"  # noqa: PLW2901 - parents do not contain each other
        moved[name] = tensor
    return moved
