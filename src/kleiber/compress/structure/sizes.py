"""How many units of each kind are kept, so that a model has the parameters and operations that were asked for."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kleiber.compress.structure.axes import Kind, Sizes, Skeleton
from kleiber.compress.structure.operations import operations_of
from kleiber.errors import RecipeError
from kleiber.models import Spec

__all__ = ["Target", "asked_sizes", "solved_sizes"]

_NAMED = ("heads", "mlp_width", "width", "channels")
"""Kinds that a setting asks for."""
_GRID = 256
"""Steps between nothing and all, of the part of each size that is kept."""
_ROUND_FROM = 4
"""Multiples in a size from which on it is rounded to one: of fewer the steps would be too coarse."""
_LEAST_PART = _GRID // 4
"""Steps that are kept at least of the sizes that go first: below, those that go last shrink with them."""
_NEAR_FRAC = 0.97
"""Of what is allowed, as near as makes no difference."""
_FEW = 32
"""Steps that a size has at most of which a single one is much."""


@dataclass(frozen=True)
class Target:
    """Parts of an original that a smaller model may have at most; None is as many as there are."""

    original: Spec
    params: float | None = None
    macs: float | None = None

    def is_met(self, spec: Spec) -> bool:
        """Return whether a spec is small enough."""
        return self.used(spec) <= 1

    def used(self, spec: Spec) -> float:
        """Return how much of what is allowed a spec takes, of parameters or operations, whichever is nearer to its bound."""
        allowed = {self.params_of: self.params, self.macs_of: self.macs}
        return max(
            (part_of(spec) / part for part_of, part in allowed.items() if part is not None), default=0.0
        )

    def params_of(self, spec: Spec) -> float:
        """Return the part of the parameters that a spec has."""
        return spec.count().total / self.original.count().total

    def macs_of(self, spec: Spec) -> float:
        """Return the part of a forward pass's operations that a spec has."""
        return operations_of(spec) / operations_of(self.original)

    def __str__(self) -> str:
        """Return what was asked, as it is typed."""
        asked = {"params": self.params, "macs": self.macs}
        return ", ".join(f"{name}={part:g}" for name, part in asked.items() if part is not None)


def asked_sizes(
    skeleton: Skeleton, family: str, numbers: Mapping[str, int | None], channels: float | None, multiple: int
) -> dict[str, int]:
    """Return the sizes that were asked by name.

    Args:
        skeleton: Of the model.
        family: Of the model, for messages.
        numbers: By the name of a kind; None was not asked.
        channels: The part that is kept of the channels of every convolution.
        multiple: Of sizes, where these are large.

    Raises:
        RecipeError: The family has no such size, or it is larger than it was, or cuts through what hangs together.
    """
    kinds = {kind.name: kind for kind in skeleton.kinds}
    asked: dict[str, int] = {}
    for name, number in numbers.items():
        if number is None:
            continue
        if name not in kinds:
            raise RecipeError(
                f"shrink: {family} has no {name} to make smaller.",
                got=f"{name}={number}",
                hint=_hint(kinds),
            )
        kind = kinds[name]
        if number > kind.num or number % kind.step:
            rule = f"at most {kind.num}" + (f" and a multiple of {kind.step}" if kind.step > 1 else "")
            raise RecipeError(
                f"shrink: {name} must be {rule}.", got=number, hint=f"{name}={kind.num - kind.step}"
            )
        asked[name] = number
    if channels is not None:
        of_channels = [kind for kind in skeleton.kinds if kind.name.startswith("channels")]
        if not of_channels:
            raise RecipeError(
                f"shrink: {family} has no channels to make fewer.",
                got=f"channels={channels}",
                hint=_hint(kinds),
            )
        asked |= {kind.name: _part(kind, channels, multiple) for kind in of_channels}
    return asked


def solved_sizes(skeleton: Skeleton, asked: Sizes, target: Target, multiple: int) -> Sizes:
    """Return sizes that meet a target: those that were not asked shrink by one factor.

    All layers write what they give into the residual stream, and a narrower one costs them all: it shrinks only where a
    quarter of heads and neurons would still be too much (docs/log.md has half a model both ways).

    Heads are few, so that one factor for all may leave much of the target unused: one more of them and narrower layers
    otherwise is tried too. Then sizes grow where there is room left, and of what comes near to the target that is taken
    which cuts no size much more than the others.

    Args:
        skeleton: Of the model, with the blocks that stay.
        asked: Sizes that are fixed.
        target: Of a model that already meets it nothing shrinks.
        multiple: Of sizes, where these are large.

    Raises:
        RecipeError: The target cannot be met.
    """
    sizing = _Sizing(skeleton, asked, target, multiple)
    whole = sizing.parts_at(_GRID)
    if target.is_met(sizing.spec_of(whole)):
        return sizing.sizes_of(whole)
    least = sizing.spec_of(sizing.parts_at(0))
    if not target.is_met(least):
        raise _unmet(target, least, has_blocks=len(skeleton.blocks) > 1)
    first = replace(sizing, keeps_last=True)
    if target.is_met(first.spec_of(first.parts_at(_LEAST_PART))):
        sizing = first
    parts = sizing.solved()
    tries = [parts]
    for kind in sizing.free:
        more = parts[kind.name] + kind.step
        if kind.num // kind.step <= _FEW and more <= kind.num:
            fixed = replace(sizing, held={kind.name: more})
            if target.is_met(fixed.spec_of(fixed.parts_at(0))):
                tries.append(fixed.solved())
    grown = [sizing.grown(one) for one in tries]
    most = max(map(sizing.used, grown))
    near = [one for one in grown if sizing.used(one) >= _NEAR_FRAC * most]
    return sizing.sizes_of(max(near, key=sizing.least_part))


@dataclass(frozen=True)
class _Sizing:
    """The sizes that are open, by the part of each that is kept."""

    skeleton: Skeleton
    asked: Sizes
    target: Target
    multiple: int
    keeps_last: bool = False
    """Whether sizes that go last stay as they are."""
    held: Sizes = field(default_factory=dict)
    """Open sizes that do not shrink with the others; unlike those that were asked they give way where sizes must fit."""

    @property
    def free(self) -> list[Kind]:
        """What shrinks towards the target."""
        return [
            kind
            for kind in self.skeleton.kinds
            if kind.is_free and kind.name not in self.asked and not (self.keeps_last and kind.is_last)
        ]

    def parts_at(self, step: int) -> Sizes:
        """Return the open sizes at a step of the grid."""
        return {**{kind.name: _part(kind, step / _GRID, self.multiple) for kind in self.free}, **self.held}

    def sizes_of(self, parts: Sizes) -> Sizes:
        """Return all sizes, from those that are open."""
        whole = {kind.name: kind.num for kind in self.skeleton.kinds}
        return self.skeleton.settled({**whole, **parts, **self.asked}, self.asked.keys())

    def spec_of(self, parts: Sizes) -> Spec:
        """Return the spec that open sizes lead to."""
        return self.skeleton.spec_of(self.sizes_of(parts), range(len(self.skeleton.blocks)))

    def used(self, parts: Sizes) -> float:
        """Return how near sizes come to the target."""
        return self.target.used(self.spec_of(parts))

    def least_part(self, parts: Sizes) -> float:
        """Return the part that is kept of the size that is cut most."""
        return min((parts[kind.name] / kind.num for kind in self.free), default=1.0)

    def solved(self) -> Sizes:
        """Return the open sizes at the largest factor that meets the target."""
        steps = range(1, _GRID + 1)
        return self.parts_at(bisect_left(steps, True, key=lambda at: self.used(self.parts_at(at)) > 1))

    def grown(self, parts: Sizes) -> Sizes:
        """Return sizes that leave no room for a step more of any of them."""
        room = True
        while room:
            room = False
            for kind in self.free:
                more = parts[kind.name] + _step(kind, self.multiple)
                if more <= kind.num and self.used({**parts, kind.name: more}) <= 1:
                    parts, room = {**parts, kind.name: more}, True
        return parts


def _unmet(target: Target, least: Spec, *, has_blocks: bool) -> RecipeError:
    params, macs = target.params_of(least), target.macs_of(least)
    return RecipeError(
        f"shrink: narrower layers alone do not meet {target}: the narrowest leave {params:.2g} of the parameters and"
        f" {macs:.2g} of the operations.",
        hint="depth=1, and the rest by narrower layers" if has_blocks else f"params={params:.2g}",
    )


def _hint(kinds: Iterable[str]) -> str:
    """Return the settings that a model has sizes for; what is numbered by the layer shrinks towards a target alone."""
    known = {name.partition(".")[0] for name in kinds}
    return f"one of {', '.join(['params', 'macs', *(name for name in _NAMED if name in known)])}"


def _part(kind: Kind, part: float, multiple: int) -> int:
    """Return the number that is nearest to a part of a kind's, among those that it may have."""
    if part == 1:
        return kind.num
    step = _step(kind, multiple)
    return min(kind.num, max(step, kind.least, round(part * kind.num / step) * step))


def _step(kind: Kind, multiple: int) -> int:
    is_round = kind.has_round_sizes and kind.num >= _ROUND_FROM * multiple
    return math.lcm(kind.step, multiple) if is_round else kind.step
