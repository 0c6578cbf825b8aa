"""What a transformers model is made of and does: built without memory, a step of it traced."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from kleiber.cost.flops import FlopConvention, FlopCount
from kleiber.cost.trace.parameters import count_parameters
from kleiber.models.foreign.traced_flops import TRACED_BATCH, traced_flops
from kleiber.models.hf.files import Stamp, stamp_of
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.module import HF
from kleiber.models.hf.spec import HFSpec
from kleiber.runs import ParamCount

__all__ = ["Facts", "depth_of", "facts_of", "flops_of", "width_of"]


@dataclass(frozen=True)
class Facts:
    """What a module holds."""

    num_params: ParamCount
    hidden_shapes: tuple[tuple[int, int], ...]


def facts_of(spec: HFSpec) -> Facts:
    """Return what the module of a spec holds."""
    return _facts_of(spec, stamp_of(spec.path))


@functools.lru_cache(maxsize=32)
def _facts_of(spec: HFSpec, _stamp: Stamp | None) -> Facts:
    with torch.device("meta"):
        module = HF(spec)
    params = dict(module.named_parameters())
    shapes = [
        (rows, params[matrix.name].numel() // params[matrix.name].shape[0])
        for matrix in module.param_groups().hidden
        for rows in matrix.row_splits
    ]
    return Facts(count_parameters(module).groups, tuple(shapes))


def flops_of(spec: HFSpec, batch: int, convention: FlopConvention) -> FlopCount:
    """Return the operations of one step on `batch` samples."""
    forward, backward = _traced_flops(spec, convention, stamp_of(spec.path))
    return FlopCount(
        forward=forward * batch // TRACED_BATCH,
        backward=backward * batch // TRACED_BATCH,
        convention=convention,
    )


@functools.lru_cache(maxsize=32)
def _traced_flops(spec: HFSpec, convention: FlopConvention, _stamp: Stamp | None) -> tuple[int, int]:
    return traced_flops(spec, f"hf:{spec.path}", convention)


def depth_of(spec: HFSpec) -> int:
    """Return the repeated blocks of a config."""
    config = fitted(spec).architecture.config.get_text_config()
    if isinstance(stages := getattr(config, "depths", None), (list, tuple)):
        return sum(stages)
    names = ("num_hidden_layers", "encoder_layers", "num_layers", "decoder_layers", "num_decoder_layers")
    known = {name: size for name in names if (size := _whole(config, name))}
    if getattr(config, "is_encoder_decoder", False) and len(known) > 1:
        known.pop("num_hidden_layers", None)
    else:
        known = dict(list(known.items())[:1])
    return sum(known.values()) or 1


def width_of(spec: HFSpec) -> int:
    """Return the features of a block of a config."""
    config = fitted(spec).architecture.config.get_text_config()
    if isinstance(stages := getattr(config, "hidden_sizes", None), (list, tuple)):
        return int(stages[-1])
    return _whole(config, "hidden_size") or _whole(config, "d_model") or 1


def _whole(config: Any, name: str) -> int:
    size = getattr(config, name, None)
    return size if isinstance(size, int) and size > 0 else 0
