"""Which sizes a study trains: evenly spaced in log N, along depth and width together, depth alone, width alone."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kleiber.errors import RecipeError
from kleiber.models import Spec, resolve_spec, size_of
from kleiber.runs import ModelRecipe, Recipe
from kleiber.study.growing.design import Line, sized
from kleiber.units import format_count

__all__ = ["MIN_DECADES", "lines_between", "sizes_along", "smallest_size"]

MIN_DECADES = 0.5
"""A line that spans less of N says nothing of growth and is left out."""
_MAX_DEPTH = 48
"""Of a line of depth: blocks run one after another, and deeper small models take long for little."""
_MAX_FLOPS_RATIO = 1.5
"""Of the deepest model of one width to the largest of depth and width together."""
_FIRST_DEPTH = 2
_DEPTH_EXPONENT = 0.25
"""Of N: where depth and width grow together, a model of ten times the parameters is 1.8 times as deep."""
_FAR = (1.6, 5)
"""How many times deeper than wanted a size may be; the second where the first holds none: some families' depths are few."""
_WIDTHS = sorted({*range(1, 17), *range(18, 65, 2), *range(16, 513, 16), *range(528, 4097, 48)})
_SMALLEST = 500.0
_LARGEST_START = 1e9

SpecOf = Callable[[Mapping[str, Any]], Spec | None]


def _resolver(base: Recipe) -> SpecOf:
    """Return what turns a size into its spec; None where the family refuses it."""

    @functools.cache
    def resolved(items: tuple[tuple[str, Any], ...]) -> Spec | None:
        model = ModelRecipe(family=base.model.family, **(base.model.size | dict(items)))
        try:
            return resolve_spec(sized(base, model))
        except RecipeError:
            return None

    return lambda size: resolved(tuple(sorted(size.items())))


def smallest_size(base: Recipe) -> float:
    """Return the smallest N that the family's dial reaches on this data, about [parameters].

    Raises:
        RecipeError: It reaches none: a key of the recipe's model does not suit the family.
    """
    spec_of = _resolver(base)
    target = _SMALLEST
    while target < _LARGEST_START:
        if spec := spec_of({"params": target}):
            return float(spec.count().total)
        target *= 1.2
    resolve_spec(
        sized(base, ModelRecipe(family=base.model.family, **(base.model.size | {"params": _LARGEST_START})))
    )
    raise RecipeError("the family's dial reaches no size on this data.", got=base.model.family)


def sizes_along(base: Recipe, targets: Iterable[float], depth: int) -> list[Spec]:
    """Return the different specs of a depth that come nearest to these numbers of parameters, smallest first."""
    spec_of = _resolver(base)
    found: dict[int, Spec] = {}
    for target in targets:
        if spec := spec_of({"depth": depth, "params": float(target)}):
            found.setdefault(spec.count().total, spec)
    return [found[count] for count in sorted(found)]


def _together(base: Recipe, targets: Sequence[float]) -> list[Spec]:
    """Return sizes of which neither depth nor width falls as N grows."""
    spec_of = _resolver(base)
    found: dict[int, Spec] = {}
    depth = width = 1
    for target in targets:
        wanted = _FIRST_DEPTH * (target / targets[0]) ** _DEPTH_EXPONENT
        specs: list[Spec] = []
        for far in _FAR:
            near = [d for d in range(depth, _MAX_DEPTH + 1) if d <= max(depth, far * wanted)]
            near = [base.model.size["depth"]] if "depth" in base.model.size else near
            widths = [base.model.size["width"]] if "width" in base.model.size else _WIDTHS
            widths = widths[bisect_left(widths, width) :]
            specs = specs or [spec for d in near for spec in _up_to(spec_of, d, widths, 2 * target)]
        best = min(specs, key=lambda spec: _distance(spec, target, wanted), default=None)
        if best is not None:
            found.setdefault(best.count().total, best)
            depth, width = best.depth, best.width
    return [found[count] for count in sorted(found)]


def _up_to(spec_of: SpecOf, depth: int, widths: Sequence[int], most: float) -> Iterator[Spec]:
    """Yield the specs of a depth, width by width, until N passes `most`."""
    for width in widths:
        if spec := spec_of({"depth": depth, "width": width}):
            if spec.count().total > most:
                return
            yield spec


def _distance(spec: Spec, target: float, depth: float) -> float:
    return abs(math.log(spec.count().total / target)) + 0.5 * abs(math.log(spec.depth / depth))


def lines_between(
    base: Recipe, low: float, high: float, num_sizes: int
) -> tuple[dict[Line, tuple[ModelRecipe, ...]], list[str]]:
    """Return the sizes of each line from N = `low` to `high`, and what a reader should know of them.

    Args:
        base: Family, whatever else of its size is fixed, and data with its shape.
        low: Smallest N, about.
        high: Largest N, about.
        num_sizes: Of each line, at most.

    Raises:
        RecipeError: Depth and width together give fewer than three sizes.
    """
    together = _together(base, np.geomspace(low, high, num_sizes).tolist())
    if len(together) < 3:
        raise RecipeError(
            f"a study needs three sizes or more, and the dial of {base.model.family} has {len(together)} between "
            f"{format_count(low)} and {format_count(high)} parameters on this data.",
            hint="--decades 2   or --params 1e4..1e6",
        )
    found: dict[Line, list[Spec]] = {"both": together}
    top = together[-1].count().total
    few = max(4, num_sizes - 2)
    if not {"depth", "width"} & set(base.model.size):
        found["depth"] = _by_depth(base, together, top, few)
        found["width"] = _by_width(base, together, low, top, few)
    notes, kept = [], {}
    for line, specs in found.items():
        decades = math.log10(specs[-1].count().total / specs[0].count().total) if specs else 0.0
        if line != "both" and (len(specs) < 3 or decades < MIN_DECADES):
            notes.append(
                f"{line.title()} alone hardly changes N here ({decades:.1f} decades): no line of it."
            )
            continue
        kept[line] = tuple(ModelRecipe(**size_of(spec)) for spec in specs)
    return kept, notes


def _by_depth(base: Recipe, together: list[Spec], top: int, num_sizes: int) -> list[Spec]:
    """Return the line of one width that spans the most of N."""
    spec_of = _resolver(base)
    # Convolutions on whole images: few parameters, and most of the time of a study.
    most = _MAX_FLOPS_RATIO * _flops_of(together[-1])
    lines = []
    for width in dict.fromkeys(spec.width for spec in together):
        depths = [
            d
            for d in _growing(spec_of, width, top)
            if _flops_of(spec_of({"depth": d, "width": width})) <= most
        ]
        if len(depths) < 3:
            continue
        chosen = dict.fromkeys(
            min(depths, key=lambda d: abs(math.log(d / want)))
            for want in np.geomspace(depths[0], depths[-1], num_sizes)
        )
        specs = {spec.count().total: spec for d in chosen if (spec := spec_of({"depth": d, "width": width}))}
        lines.append([specs[count] for count in sorted(specs)])
    return max(lines, key=_span, default=[])


def _by_width(base: Recipe, together: list[Spec], low: float, top: int, num_sizes: int) -> list[Spec]:
    """Return the line of the smallest depth of two or more blocks that spans about what depth and width together do."""
    depths = sorted({max(2, spec.depth) for spec in together})
    lines = [sizes_along(base, np.geomspace(low, top, num_sizes), depth) for depth in depths[:3]]
    return max((line for line in lines if line), key=_span, default=[])


def _growing(spec_of: SpecOf, width: int, top: int) -> list[int]:
    """Return the depths of a width with N at most `top` along which N grows; others are of another kind of block."""
    kept: list[int] = []
    last = top * 1.05
    for depth in range(_MAX_DEPTH, 0, -1):
        spec = spec_of({"depth": depth, "width": width})
        if spec is not None and spec.count().total < last:
            kept.append(depth)
            last = spec.count().total
    return kept[::-1]


def _flops_of(spec: Spec | None) -> float:
    return math.inf if spec is None else float(spec.flops(1).total)


def _span(specs: list[Spec]) -> float:
    return specs[-1].count().total / specs[0].count().total
