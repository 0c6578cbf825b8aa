"""Pipelines worth trying: smaller models, zeros, factors and few bits, put together in the orders that make sense."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kleiber.compress.factorize import Factorize
from kleiber.compress.prune import Prune
from kleiber.compress.quantize import Quantize
from kleiber.compress.recover import Recover
from kleiber.compress.search.sensitivity import GROUP_SIZE, STRENGTHS, Sensitivity
from kleiber.compress.steps import AnyStep
from kleiber.compress.structure import Shrink

__all__ = ["Pipeline", "candidates"]

_SHRINKS = (0.75, 0.5, 0.35)
_RATIOS = (0.5, 0.7)
_WIDTHS = (
    (8.0, None),
    *((bits, group_size) for bits in (6.0, 4.0, 3.5, 3.0) for group_size in (GROUP_SIZE, 2 * GROUP_SIZE)),
)
"""Bits, and the columns that share a scale; bits that are not whole are means: each layer has its own."""
_SCALE_BITS = 16 + 4
"""A scale's and a zero point's."""
_RECOVERS_BEHIND = 4
"""Fewer bits than these are trained with: what comes before would be lost in the rounding."""
_OF_TABLES = 8 / 32
"""Part that embedding and head keep when they are quantized."""
_BY_MACS = ("convnet", "resnet", "inception")
"""Families whose few early numbers do most of the work."""


@dataclass(frozen=True)
class Pipeline:
    """Steps with a place for recovery among them."""

    before: tuple[AnyStep, ...]
    after: tuple[AnyStep, ...] = ()
    can_recover: bool = True
    size_frac: float = 1.0
    """Of the original's bytes, by arithmetic."""
    damage: float | None = None
    """By how much the loss would rise without recovery if layers added up; None where sensitivity does not say."""

    def steps(self, num_steps: int) -> tuple[AnyStep, ...]:
        """Return the steps with a recovery of so many steps of training; without one where there is nothing to recover."""
        if not self.can_recover or not num_steps:
            return (*self.before, *self.after)
        return (*self.before, Recover(steps=num_steps), *self.after)


@dataclass(frozen=True)
class _Part:
    """Something that makes a model smaller, before bits."""

    steps: tuple[AnyStep, ...]
    hidden_frac: float
    """Of the numbers between embedding and head that are left."""
    tables_frac: float
    damage: float | None
    takes_bits: bool = True
    """Whether fewer bits make it smaller still: zeros are not left out of codes."""


def candidates(
    sensitivity: Sensitivity,
    *,
    family: str,
    num_params: int,
    has_int8_inputs: bool,
    max_frac: float | None,
    max_tries: int,
) -> tuple[Pipeline, ...]:
    """Return pipelines from the largest result to the smallest.

    Args:
        sensitivity: What each layer bears.
        family: Of the model.
        num_params: Of the model.
        has_int8_inputs: Whether int8 products are asked for too: where speed counts.
        max_frac: Part of the original's bytes that is allowed; what would be larger is not tried.
        max_tries: How many, at most.
    """
    hidden = sum({one.layer: one.num_numbers for one in sensitivity.changes}.values()) / num_params
    found = [
        pipeline
        for part in _parts(sensitivity, family)
        for pipeline in _with_bits(part, sensitivity, hidden, has_int8_inputs=has_int8_inputs)
    ]
    found.sort(key=lambda one: -one.size_frac)
    fitting = [one for one in found if max_frac is None or one.size_frac <= max_frac]
    return _spread(_undominated(fitting or found[-max_tries:]), max_tries)


def _parts(sensitivity: Sensitivity, family: str) -> Iterator[_Part]:
    yield _Part((), 1.0, 1.0, 0.0)
    for part in _SHRINKS:
        step = Shrink(macs=part) if family in _BY_MACS else Shrink(params=part)
        yield _Part((step,), part, part, None)
    for ratio in _RATIOS:
        ratios = sensitivity.layer_ratios(ratio)
        prune = Prune(ratio=ratio, method="wanda", layer_ratios=ratios)
        damage = sum(
            sensitivity.by_layer("prune", one)[name]
            for name, one in ratios.items()
            if one in STRENGTHS["prune"]
        )
        yield _Part((prune,), 1 - ratio + 1 / 32, 1.0, damage, takes_bits=False)
    for ratio in STRENGTHS["factorize"]:
        if changes := sensitivity.by_layer("factorize", ratio):
            # What bears it worst stays as it is, up to a quarter of the layers.
            keep = tuple(sorted(changes, key=lambda name: -changes[name])[: len(changes) // 4])
            damage = sum(change for name, change in changes.items() if name not in keep)
            yield _Part((Factorize(ratio=ratio, keep=keep),), 0.25 + 0.75 * ratio, 1.0, damage)


def _with_bits(
    part: _Part, sensitivity: Sensitivity, hidden: float, *, has_int8_inputs: bool
) -> Iterator[Pipeline]:
    tables = 1 - hidden
    if part.steps:
        size = part.hidden_frac * hidden + part.tables_frac * tables
        yield Pipeline(part.steps, size_frac=size, damage=part.damage)
    for bits, group_size in _WIDTHS if part.takes_bits else ():
        scales = 0.0 if group_size is None else _SCALE_BITS / group_size
        size = part.hidden_frac * hidden * (bits + scales) / 32 + part.tables_frac * tables * _OF_TABLES
        is_known = part.damage is not None and group_size in {None, GROUP_SIZE}
        damage = (part.damage or 0.0) + sensitivity.damage("quantize", bits) if is_known else None
        for step in _quantizers(bits, group_size, has_int8_inputs=has_int8_inputs):
            if bits < _RECOVERS_BEHIND:
                yield Pipeline((*part.steps, step), size_frac=size, damage=damage)
            else:
                yield Pipeline(
                    part.steps, (step,), can_recover=bool(part.steps), size_frac=size, damage=damage
                )


def _quantizers(bits: float, group_size: int | None, *, has_int8_inputs: bool) -> Iterator[Quantize]:
    if bits == 8:
        yield Quantize(bits=8)
        if has_int8_inputs:
            yield Quantize(bits=8, inputs="dynamic")
            yield Quantize(bits=8, inputs="static", input_clipping="mse")
    elif bits == int(bits):
        yield Quantize(bits=int(bits), group_size=group_size, method="gptq")
    else:
        yield Quantize(mean_bits=bits, group_size=group_size, method="gptq")


def _undominated(found: Sequence[Pipeline]) -> list[Pipeline]:
    """Return pipelines without those that another is both smaller and gentler than, as far as sensitivity says."""

    def is_worse(one: Pipeline, other: Pipeline) -> bool:
        if one.damage is None or other.damage is None or one.can_recover != other.can_recover:
            return False
        pair = (other.size_frac, other.damage), (one.size_frac, one.damage)
        return pair[0] != pair[1] and pair[0][0] <= pair[1][0] and pair[0][1] <= pair[1][1]

    return [one for one in found if not any(is_worse(one, other) for other in found)]


def _spread(found: Sequence[Pipeline], most: int) -> tuple[Pipeline, ...]:
    """Return at most so many, evenly over the sizes.

    Example:
        >>> [one.size_frac for one in _spread([Pipeline((), size_frac=size) for size in (0.5, 0.4, 0.3, 0.2, 0.1)], 3)]
        [0.5, 0.3, 0.1]
    """
    if len(found) <= most:
        return tuple(found)
    places = [round(place * (len(found) - 1) / max(1, most - 1)) for place in range(most)]
    return tuple(found[place] for place in dict.fromkeys(places))
