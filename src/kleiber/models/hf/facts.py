"""What a transformers model is made of and does: built without memory, a step of it traced."""

from __future__ import annotations

import functools
from typing import Any

from kleiber.cost.flops import FlopConvention
from kleiber.models.foreign.facts import Facts, facts_on_meta
from kleiber.models.foreign.traced_flops import traced_flops
from kleiber.models.hf.files import Stamp, stamp_of
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.spec import HFSpec

__all__ = ["depth_of", "facts_of", "traced_flops_of", "width_of"]


def facts_of(spec: HFSpec) -> Facts:
    """Return what the module of a spec holds."""
    return facts_on_meta(spec, stamp_of(spec.path))


def traced_flops_of(spec: HFSpec, convention: FlopConvention) -> tuple[int, int]:
    """Return the operations of a step forward and backward, on `TRACED_BATCH` samples."""
    return _traced(spec, convention, stamp_of(spec.path))


@functools.lru_cache(maxsize=32)
def _traced(spec: HFSpec, convention: FlopConvention, _stamp: Stamp | None) -> tuple[int, int]:
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
