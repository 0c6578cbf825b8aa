"""The size dial of families that are layer upon layer: from a depth, a width or a number of parameters to a spec."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Protocol, Self, TypeVar

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from kleiber.errors import KleiberError, RecipeError, UsageError, nearest
from kleiber.runs import DataShape, Document, ParamCount
from kleiber.runs.document import explain
from kleiber.units import parse_count

__all__ = ["LayeredDial", "Sizes"]

_MAX_MISS_FRAC = 0.2
_NEAR_FRAC = 0.1
"""A shape of so small a miss is taken before any of a larger one, however balanced."""
_WIDTH_STEP_FRAC = 1 / 32
"""Between two widths that are tried."""
_MAX_WIDTH = 2**16


class _Turned(Document):
    depth: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    width: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    params: Annotated[float, Field(strict=True, ge=1, le=1e14, allow_inf_nan=False)] | None = None


@dataclass(frozen=True)
class Sizes:
    """What a dial's rules read: the data, and what the user said beside depth, width and params."""

    shape: DataShape
    fields: Mapping[str, Any]


class DialledSpec(Protocol):
    """A document that is a spec."""

    @classmethod
    def of(cls, raw: object, where: str, error_type: type[KleiberError]) -> Self:
        """Return the spec that `raw` describes."""
        ...

    @property
    def depth(self) -> int:
        """Layers or blocks."""
        ...

    @property
    def width(self) -> int:
        """Features between them."""
        ...

    def count(self) -> ParamCount:
        """Return the parameters by group."""
        ...


S = TypeVar("S", bound=DialledSpec)


@dataclass(frozen=True)
class LayeredDial(Generic[S]):
    """How a family turns a size into a spec.

    A size is `depth`, `width` or `params` (a target), and any field of the spec to override what follows from them.
    """

    spec_type: type[S]
    example: str
    """A line that works, for hints."""
    spread: Callable[[int, int, Sizes], Mapping[str, Any]]
    """Fields of the spec that follow from a depth and a width."""
    depths: Callable[[Sizes], Sequence[int]]
    """Depths to choose from where none is given; the first is the usual one."""
    usual_width: Callable[[int, Sizes], int]
    """Width of a depth where none is given."""
    balanced_width: Callable[[int, Sizes], float]
    """Width at which a depth is neither thin nor fat: what a number of parameters is spread by."""
    width_multiple: int = 1
    depth_fields: Collection[str] = field(default=())
    """Fields that say the depth themselves."""
    width_fields: Collection[str] = field(default=())
    """Fields that say the width themselves."""

    @property
    def family(self) -> str:
        """Name of the family."""
        return str(_fields_of(self.spec_type)["family"].default)

    def resolve(self, size: Mapping[str, Any], shape: DataShape) -> S:
        """Return the spec of a size on data of a shape.

        Raises:
            RecipeError: An unknown key, an absurd number, sizes that contradict each other, a target out of reach.
        """
        turned = self._read(size)
        sizes = Sizes(shape, {key: size[key] for key in size.keys() - _Turned.model_fields.keys()})
        says_sizes = self._says("depth", self.depth_fields, turned.depth, sizes)
        says_sizes |= self._says("width", self.width_fields, turned.width, sizes)
        if turned.params is not None:
            return self._solve(turned, turned.params, sizes)
        if turned.depth is None and turned.width is None and not says_sizes:
            raise RecipeError(
                f"The size of a {self.family} needs depth, width or params.",
                got=dict(size),
                hint=self.example,
            )
        depth = turned.depth or self._depth_of(turned.width, sizes)
        return self._spec(depth, turned.width or self.usual_width(depth, sizes), sizes)

    def _says(self, what: str, fields: Collection[str], turned: int | None, sizes: Sizes) -> bool:
        """Return whether a field says a size, and raise if the dial says it too."""
        said = [key for key in fields if key in sizes.fields]
        if said and turned is not None:
            raise RecipeError(
                f"{self.family} size: {what} and {said[0]} both say the {what}.", hint=self.example
            )
        return bool(said)

    def _read(self, size: Mapping[str, Any]) -> _Turned:
        fields = _fields_of(self.spec_type).keys() - {"family", "shape"}
        for key in size.keys() - fields - _Turned.model_fields.keys():
            if key in DataShape.model_fields:
                raise RecipeError(
                    f"{self.family} size: {key} belongs to the data, not to the size of the model.",
                    got=f"{key}={size[key]}",
                    hint=self.example,
                )
            known = sorted({*fields, *_Turned.model_fields})
            raise RecipeError(
                f"{self.family} size: unknown key '{key}'. {nearest(key, known)}", hint=self.example
            )
        raw = {key: size[key] for key in _Turned.model_fields if key in size}
        try:
            if isinstance(raw.get("params"), str):
                raw["params"] = parse_count(raw["params"], "params")
            return _Turned.model_validate(raw)
        except UsageError as error:
            raise RecipeError(
                f"{self.family} size: {error.message}", got=error.got, hint=self.example
            ) from None
        except ValidationError as error:
            raise RecipeError(f"{self.family} size: {explain(error, _Turned)}", hint=self.example) from None

    def _spec(self, depth: int, width: int, sizes: Sizes) -> S:
        raw = {**self.spread(depth, width, sizes), **sizes.fields, "shape": sizes.shape}
        return self.spec_type.of(raw, f"{self.family} size", RecipeError)

    def _depth_of(self, width: int | None, sizes: Sizes) -> int:
        """Return the depth whose usual width is closest to a width."""
        depths = self.depths(sizes)
        if width is None:
            return depths[0]
        return min(depths, key=lambda depth: abs(math.log(self.usual_width(depth, sizes) / width)))

    def _solve(self, turned: _Turned, target: float, sizes: Sizes) -> S:
        """Return the most balanced of the specs whose counts are near the target; where none is, the best of both."""
        if turned.depth and turned.width:
            raise RecipeError(
                f"{self.family} size: depth, width and params cannot all be set: params solves for what is not given.",
                hint=self.example,
            )
        depths = [turned.depth] if turned.depth else self.depths(sizes)
        candidates = [
            self._spec(depth, width, sizes)
            for depth in depths
            for width in ([turned.width] if turned.width else self._widths_near(target, depth, sizes))
        ]
        near = [spec for spec in candidates if _miss_frac(spec, target) < _NEAR_FRAC]
        best = min(near or candidates, key=lambda spec: self._distance(spec, target, sizes))
        if _miss_frac(best, target) > _MAX_MISS_FRAC:
            raise RecipeError(
                f"{self.family} size: params cannot be reached with the other sizes and the data;"
                f" the nearest has {best.count().total:,}.",
                got=target,
                hint=self.example,
            )
        return best

    def _widths_near(self, target: float, depth: int, sizes: Sizes) -> list[int]:
        """Return the two widths between whose counts the target lies: counts grow with the width."""
        widths = _widths(self.width_multiple)
        above = bisect_left(widths, target, key=lambda width: self._spec(depth, width, sizes).count().total)
        return widths[max(0, above - 1) : above + 1]

    def _distance(self, spec: S, target: float, sizes: Sizes) -> float:
        # A miss of 10% weighs as much as a width e times off: the rungs of a ladder grow evenly.
        miss = abs(math.log(spec.count().total / target))
        return miss + 0.1 * abs(math.log(spec.width / self.balanced_width(spec.depth, sizes)))


def _miss_frac(spec: DialledSpec, target: float) -> float:
    return abs(spec.count().total / target - 1)


def _widths(multiple: int) -> list[int]:
    widths, width = [], multiple
    while width <= _MAX_WIDTH:
        widths.append(width)
        octave = max(0, math.floor(math.log2(width * _WIDTH_STEP_FRAC)))
        width += math.ceil(2**octave / multiple) * multiple
    return widths


def _fields_of(spec_type: type[Any]) -> dict[str, FieldInfo]:
    fields: dict[str, FieldInfo] = spec_type.model_fields
    return fields
