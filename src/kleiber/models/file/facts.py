"""What a user's module is made of and does: built without memory, a step of it traced."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.cost.trace.parameters import count_parameters
from kleiber.errors import RecipeError
from kleiber.models.file.module import FileModule, build
from kleiber.models.file.named import file_hash
from kleiber.models.file.spec import FileSpec
from kleiber.models.foreign.traced_flops import TRACED_BATCH, counted_flops, traced_flops
from kleiber.runs import ParamCount

__all__ = ["Facts", "facts_of", "flops_of"]


@dataclass(frozen=True)
class Facts:
    """What a module holds."""

    num_params: ParamCount
    hidden_shapes: tuple[tuple[int, int], ...]


def facts_of(spec: FileSpec) -> Facts:
    """Return what the module of a spec holds.

    Raises:
        RecipeError: It cannot be built.
    """
    return _facts_of(spec.model_copy(update={"weights": None}), file_hash(spec.path))


@functools.lru_cache(maxsize=32)
def _facts_of(spec: FileSpec, _hash: str) -> Facts:
    with torch.device("meta"):
        module = FileModule(spec)
    params = dict(module.named_parameters())
    shapes = [
        (len(params[matrix.name]), params[matrix.name][0].numel()) for matrix in module.param_groups().hidden
    ]
    return Facts(count_parameters(module).groups, tuple(shapes))


def flops_of(spec: FileSpec, batch: int, convention: FlopConvention) -> FlopCount:
    """Return the operations of one step on `batch` samples.

    Raises:
        RecipeError: The module does not run on the data.
    """
    forward, backward = _flops_of(spec.model_copy(update={"weights": None}), convention, file_hash(spec.path))
    return FlopCount(
        forward=forward * batch // TRACED_BATCH,
        backward=backward * batch // TRACED_BATCH,
        convention=convention,
    )


@functools.lru_cache(maxsize=32)
def _flops_of(spec: FileSpec, convention: FlopConvention, _hash: str) -> tuple[int, int]:
    try:
        return traced_flops(spec, spec.title, convention)
    except RecipeError:
        # A forward that asks for the values in its tensors runs on real ones alone.
        return counted_flops(build(spec), spec, convention)
