"""The operations of one call in eager torch, followed on tensors without values.

Legend: B sequences, T tokens, L tokens whose logits are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kleiber.cost.operations import Operation
from kleiber.cost.trace.step import trace_step
from kleiber.cost.usage import Usage
from kleiber.infer.decoding.cached_forward import cached_forward, cached_heads
from kleiber.models import Spec, build
from kleiber.models.foreign.failures import explained
from kleiber.models.foreign.packing import nothing_packed
from kleiber.models.gpt.cache import KVCache
from kleiber.models.subject import Inputs

__all__ = ["forward_operations", "text_operations"]


def text_operations(
    spec: Spec, batch: int, *, num_before: int, num_new: int, cache_bits: int | None = None
) -> tuple[Operation, ...]:
    """Return the operations of reading more tokens of each sequence, the logits of the next alone.

    Args:
        spec: Of a language model of the family gpt or hf.
        batch: Sequences.
        num_before: Tokens of each that were read before.
        num_new: Tokens of each that are read.
        cache_bits: Of keys and values.

    Raises:
        RecipeError: The model's code fails on tensors without values.
    """
    made: list[_Reading] = []

    def make() -> nn.Module:
        made.append(_Reading(build(spec)))
        return made[-1]

    def inputs() -> Inputs:
        reading = made[-1]  # its cache stands before the call, and its pages are no part of it
        reading.cache = KVCache(cached_heads(reading.module), batch, cache_bits=cache_bits)
        reading.cache.length = num_before
        tokens_BT = torch.zeros(batch, num_new, dtype=torch.int64)
        return Inputs((tokens_BT, torch.full((1,), num_new - 1)))

    return _traced(make, inputs)


def forward_operations(spec: Spec, arrays: Sequence[npt.NDArray[Any]], batch: int) -> tuple[Operation, ...]:
    """Return the operations of one call on whole samples.

    Args:
        spec: Of the model.
        arrays: A batch of them, in the order of the module's arguments.
        batch: Samples of the call.

    Raises:
        RecipeError: The model's code fails on tensors without values.
    """

    def inputs() -> Inputs:
        return Inputs(tuple(_empty(one, batch) for one in arrays))

    return _traced(lambda: build(spec), inputs)


class _Reading(nn.Module):
    """New tokens in, the logits after some of them out; others were read before."""

    cache: KVCache

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, tokens_BT: Tensor, kept_L: Tensor) -> Tensor:
        return cached_forward(self.module, tokens_BT, self.cache, kept_L)


def _traced(make: Callable[[], nn.Module], inputs: Callable[[], Inputs]) -> tuple[Operation, ...]:
    with nothing_packed():
        trace = trace_step(make, inputs, _no_loss, Usage(mode="infer", batch_size=1), around=explained)
    return trace.operations


def _no_loss(_: Any) -> Tensor:
    raise AssertionError("a call for answers minimizes nothing")


def _empty(array: npt.NDArray[Any], batch: int) -> Tensor:
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    return torch.zeros(batch, *array.shape[1:], dtype=dtype)
