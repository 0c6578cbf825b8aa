"""The weights that can be made smaller: found by what a forward pass does with them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator
from torch import nn

from kleiber.compress.uses import Kind, Use, watched
from kleiber.data import Batch
from kleiber.errors import RecipeError, nearest
from kleiber.models.family import FamilyModule

__all__ = [
    "Layer",
    "NamePatterns",
    "find_layers",
    "kept_notes",
    "require_finite",
    "require_matches",
    "select",
]

NamePatterns: TypeAlias = Annotated[
    tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]
"""In a step's settings: patterns of names of layers such as `blocks.*.qkv`; a single one is typed without a list."""

_NAMED = 3
"""Weights of one reason that a note names; the others are counted."""


@dataclass(frozen=True)
class Layer:
    """A parameter that inputs are multiplied by, or whose rows are looked up."""

    name: str
    """As `named_parameters` has it."""
    kind: Kind
    """Of its first use."""
    shape: tuple[int, ...]
    is_head: bool
    """Whether it gives the module's outputs and nothing else."""
    is_tied: bool
    """Whether it is both looked up and multiplied by: an embedding that is the head as well."""

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns as a matrix: the first dimension, and all others."""
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def is_hidden(self) -> bool:
        """Whether it stands between embedding and head."""
        return self.kind != "embedding" and not self.is_head


def find_layers(module: nn.Module, batch: Batch) -> tuple[Layer, ...]:
    """Return the layers of a module in the order of their first use on `batch`.

    Grouped convolutions are no layers here, nor are weights that are read in another way; `kept_notes` says which.
    """
    kinds, grouped = _uses(module, batch)
    params = dict(module.named_parameters())
    heads = set(module.param_groups().head) if isinstance(module, FamilyModule) else set()
    return tuple(
        Layer(
            name,
            used[0],
            tuple(params[name].shape),
            is_head=name in heads,
            is_tied="embedding" in used and len(used) > 1,
        )
        for name, used in kinds.items()
        if name not in grouped
    )


def kept_notes(module: nn.Module, batch: Batch) -> tuple[str, ...]:
    """Return a sentence for each reason why weights of two or more dimensions are no layers."""
    kinds, grouped = _uses(module, batch)
    others = [
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim > 1 and (name not in kinds or name in grouped)
    ]
    reasons = {
        "their convolution is grouped": [name for name in others if name in grouped],
        "no linear layer, convolution or embedding reads them whole": [
            name for name in others if name not in grouped
        ],
    }
    return tuple(
        f"Kept as they are, because {reason}: {_listed(names)}." for reason, names in reasons.items() if names
    )


def select(
    layers: Sequence[Layer],
    *,
    only: Sequence[str] = (),
    keep: Sequence[str] = (),
    has_embedding: bool = False,
    has_head: bool = False,
) -> tuple[Layer, ...]:
    """Return the layers that a step treats.

    Args:
        layers: Of the module.
        only: Patterns of names such as `blocks.*.qkv`; what they match is taken, embedding and head included. None takes all
            hidden layers, and the others as asked.
        keep: Patterns of names that are left as they are.
        has_embedding: Take look-up tables, a tied one included.
        has_head: Take the output projection, a tied one included.

    Raises:
        RecipeError: A pattern matches no layer, or none is left.

    Example:
        >>> body, head = Layer("body", "linear", (4, 4), False, False), Layer("head", "linear", (9, 4), True, False)
        >>> [layer.name for layer in select([body, head])]
        ['body']
    """
    require_matches((*only, *keep), layers)

    def is_taken(layer: Layer) -> bool:
        if any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in keep):
            return False
        if only:
            return any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in only)
        is_embedding, is_head = layer.kind == "embedding", layer.is_head or layer.is_tied
        return layer.is_hidden or (is_embedding and has_embedding) or (is_head and has_head)

    taken = tuple(layer for layer in layers if is_taken(layer))
    if not taken:
        raise RecipeError(
            "no layer is left to treat.",
            got=[layer.name for layer in layers],
            hint="fewer patterns of layers to keep",
        )
    return taken


def require_matches(patterns: Iterable[str], layers: Sequence[Layer]) -> None:
    """Refuse patterns of names that no layer has: a setting of theirs would have no effect.

    Raises:
        RecipeError: Names the first such pattern, and the closest name.
    """
    names = [layer.name for layer in layers]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise RecipeError(f"no layer's name matches '{pattern}'. {nearest(pattern, names)}")


def require_finite(module: nn.Module, layers: Sequence[Layer]) -> None:
    """Refuse weights that are not numbers.

    Raises:
        RecipeError: A layer's weight holds NaN or infinity; names it.
    """
    params = dict(module.named_parameters())
    for layer in layers:
        if num_bad := int((~params[layer.name].isfinite()).sum()):
            raise RecipeError(
                f"the weight {layer.name} holds {num_bad} numbers that are NaN or infinite: a model that diverged cannot be "
                "compressed.",
                hint="kleiber compress RUN   with a run whose last loss is a number",
            )


def _uses(module: nn.Module, batch: Batch) -> tuple[dict[str, list[Kind]], set[str]]:
    """Return the kinds of use of each weight in the order of first use, and which are grouped convolutions."""
    kinds: dict[str, list[Kind]] = {}
    grouped: set[str] = set()

    def see(use: Use) -> None:
        if use.kind not in kinds.setdefault(use.name, []):
            kinds[use.name].append(use.kind)
        if use.is_grouped:
            grouped.add(use.name)

    watched(module, batch, see)
    return kinds, grouped


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
