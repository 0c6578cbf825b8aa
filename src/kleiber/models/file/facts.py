"""What a user's module is made of and does: built without memory, a step of it traced."""

from __future__ import annotations

import functools

from kleiber.cost.flops import FlopConvention
from kleiber.errors import RecipeError
from kleiber.models.file.module import build
from kleiber.models.file.named import file_hash
from kleiber.models.file.spec import FileSpec
from kleiber.models.foreign.facts import Facts, facts_on_meta
from kleiber.models.foreign.traced_flops import counted_flops, traced_flops

__all__ = ["facts_of", "traced_flops_of"]


def facts_of(spec: FileSpec) -> Facts:
    """Return what the module of a spec holds.

    Raises:
        RecipeError: It cannot be built.
    """
    return facts_on_meta(spec.model_copy(update={"weights": None}), file_hash(spec.path))


def traced_flops_of(spec: FileSpec, convention: FlopConvention) -> tuple[int, int]:
    """Return the operations of a step forward and backward, on `TRACED_BATCH` samples.

    Raises:
        RecipeError: The module does not run on the data.
    """
    return _traced(spec.model_copy(update={"weights": None}), convention, file_hash(spec.path))


@functools.lru_cache(maxsize=32)
def _traced(spec: FileSpec, convention: FlopConvention, _hash: str) -> tuple[int, int]:
    try:
        return traced_flops(spec, spec.title, convention)
    except RecipeError:
        # A forward that asks for the values in its tensors runs on real ones alone.
        return counted_flops(build(spec), spec, convention)
