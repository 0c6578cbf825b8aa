"""The sizes of a family in growing order, so that what is known of a spec is known of every number of parameters."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kleiber.errors import RecipeError
from kleiber.models.gpt import GPTSpec
from kleiber.runs import Convention

__all__ = ["SizeLine", "size_line"]

_DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256,
           320, 384)  # fmt: skip
"""Steps of at most 1.5 in depth; along them counts and costs are nearly powers, which interpolation follows."""


@dataclass(frozen=True)
class SizeLine:
    """Specs in growing order, with N of each by a convention."""

    specs: tuple[GPTSpec, ...]
    sizes: tuple[float, ...]
    """N, strictly growing [parameters]."""

    @property
    def low(self) -> float:
        """The smallest N."""
        return self.sizes[0]

    @property
    def high(self) -> float:
        """The largest N."""
        return self.sizes[-1]

    def along(self, value: Callable[[GPTSpec], float]) -> Callable[[float], float]:
        """Return a positive value of specs as a function of N, by powers between neighbours of the line.

        A spec's value is computed when it is first needed, and once.
        """
        log_value = functools.cache(lambda k: math.log(value(self.specs[k])))

        def at(num_params: float) -> float:
            k = min(max(bisect_left(self.sizes, num_params), 1), len(self.sizes) - 1)
            low, high = self.sizes[k - 1], self.sizes[k]
            share = math.log(num_params / low) / math.log(high / low)
            if share in {0.0, 1.0}:
                return math.exp(log_value(k - 1 + int(share)))
            return math.exp((1 - share) * log_value(k - 1) + share * log_value(k))

        return at


def size_line(size: Mapping[str, Any], vocab_size: int, context: int, convention: Convention) -> SizeLine:
    """Return sizes from the smallest gpt to the largest that the dial gives.

    Args:
        size: Keys of the dial that every spec keeps, such as `head_dim`; of `depth` and `width` one at most.
        vocab_size: Entries of the tokenizer.
        context: Longest sequence [tokens].
        convention: How N is counted.

    Raises:
        RecipeError: A key that leaves no size open, or that suits no size.
    """
    for key, why in (
        ("params", "the budget says how many"),
        ("mlp_width", "it would not grow with the model"),
        ("num_experts", "what a mixture holds is traced, which takes seconds a size"),
    ):
        if key in size:
            raise RecipeError(
                f"{key} cannot be set where the size is sought: {why}.", hint="kleiber plan gpt"
            )
    if "depth" in size and "width" in size:
        raise RecipeError("depth and width cannot both be set where the size is sought.", hint="gpt:depth=12")
    found: dict[float, GPTSpec] = {}
    refused: RecipeError | None = None
    for step in _steps(size):
        try:
            spec = GPTSpec.from_dial({**size, **step}, vocab_size, context)
        except RecipeError as error:
            refused = error
            continue
        count = float(spec.count().by(convention))
        if not found or count > max(found):
            found[count] = spec
    if len(found) < 2:
        raise refused or RecipeError(
            "These keys leave no size open.", got=dict(size), hint="kleiber plan gpt"
        )
    return SizeLine(specs=tuple(found.values()), sizes=tuple(found))


def _steps(size: Mapping[str, Any]) -> list[dict[str, int]]:
    """Return what the dial is turned to: widths of small models first, then one step of depth after another."""
    if "depth" in size:
        return [{"width": 16}, {"width": 32}, *({"width": 64 * k} for k in _DEPTHS)]
    if "width" in size:
        return [{"depth": k} for k in _DEPTHS]
    return [{"depth": 1, "width": 16}, {"depth": 1, "width": 32}, *({"depth": k} for k in _DEPTHS)]
