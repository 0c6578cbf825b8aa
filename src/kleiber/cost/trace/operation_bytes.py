"""How many bytes a call of a torch operation moves: every tensor read once and written once.

A tensor counts by the memory it stands on: the same view twice is one, an expanded one is as small as it is stored.
What an operation does not touch is left out: the table beside the rows that are looked up in it, the old
values of what is overwritten, the tensor that only lends its shape.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from kleiber.cost.trace.operation_flops import Call, tensors_in
from kleiber.cost.trace.operation_kinds import operation_name

__all__ = ["extent_bytes", "is_idle", "moved_bytes", "written_tensors"]

_EMPTY = re.compile(r"(new_)?empty(_\w+)?")
_FILLED = re.compile(r"(new_)?(zeros|ones|full|rand|randn|randint)(_like)?")
_OVERWRITTEN = re.compile(r"(_foreach_)?(copy|fill|zero|normal|uniform|bernoulli|random|exponential)_")
_PICKED = re.compile(r"embedding|gather|index|index_select|take|nll_loss(2d)?_forward")
_SCATTERED = re.compile(r"_?index_put(_impl)?_|index_(add|copy)_|scatter(_add)?_")
_SHAPE_ONLY = re.compile(r"nll_loss(2d)?_backward")
"""Of its second argument, the log-probabilities."""


def written_tensors(call: Call) -> list[Tensor]:
    """Return what a call returned and what it changed in place."""
    names = _mutated_names(call.func)
    return [*call.results, *tensors_in([call.named.get(name) for name in names])]


def is_idle(call: Call) -> bool:
    """Return whether a call moved nothing: its results are views, or empty, or in place of the same view."""
    if torch.Tag.inplace_view in getattr(call.func, "tags", ()) or _EMPTY.fullmatch(
        operation_name(call.func)
    ):
        return True
    if _mutated_names(call.func):
        return False
    given = {_memory(tensor)[0] for tensor in call.inputs}
    return all(_memory(tensor)[0] in given for tensor in call.results)


def moved_bytes(call: Call) -> int:
    """Return the bytes read and written."""
    name = str(getattr(call.func, "overloadpacket", call.func).__name__)
    given, written = call.inputs, written_tensors(call)
    if _FILLED.fullmatch(name):
        return extent_bytes(written)
    if _OVERWRITTEN.fullmatch(name):
        own = {id(tensor) for tensor in written}
        return extent_bytes(t for t in given if id(t) not in own) + extent_bytes(written)
    if _PICKED.fullmatch(name):
        return (
            _touched_bytes(given[0], [*given[1:], written[0]])
            + extent_bytes(given[1:])
            + extent_bytes(written)
        )
    if _SCATTERED.fullmatch(name):
        return 2 * _touched_bytes(given[0], given[1:]) + extent_bytes(given[1:])
    if _SHAPE_ONLY.fullmatch(name):
        given = [given[0], *given[2:]]
    return extent_bytes(given) + extent_bytes(written)


def extent_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of distinct memory behind tensors.

    Example:
        >>> x = torch.ones(1, 4)
        >>> extent_bytes([x, x]), extent_bytes([x.expand(8, 4)]), extent_bytes([x[:, :2], x])
        (16, 16, 16)
    """
    views: dict[object, dict[object, int]] = {}
    limits: dict[object, int] = {}
    for tensor in tensors:
        key, limit = _memory(tensor)
        layout, num_bytes = _view(tensor)
        views.setdefault(key, {})[layout] = num_bytes
        limits[key] = limit
    return sum(min(sum(parts.values()), limits[key]) for key, parts in views.items())


def _view(tensor: Tensor) -> tuple[object, int]:
    """Return what tells a view of a memory from another, and the bytes it covers."""
    if tensor.layout != torch.strided:
        return None, tensor.numel() * tensor.element_size()
    num_values = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        num_values *= size if stride or not size else 1
    return (tensor.storage_offset(), tensor.shape, tensor.stride()), num_values * tensor.element_size()


def _memory(tensor: Tensor) -> tuple[object, int]:
    """Return what tells the memory of a tensor from others, and its size [bytes]; sparse ones have their own."""
    if tensor.layout != torch.strided:
        return id(tensor), tensor.numel() * tensor.element_size()
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()  # noqa: SLF001 - fake tensors have no other address


def _touched_bytes(table: Tensor, others: Sequence[Tensor]) -> int:
    """Return the bytes of as many values of a table as are picked or arrive."""
    num_values = max((tensor.numel() for tensor in others), default=0)
    return min(extent_bytes([table]), num_values * table.element_size())


@functools.cache
def _mutated_names(func: Any) -> tuple[str, ...]:
    schema = getattr(func, "_schema", None)
    arguments = schema.arguments if schema else ()
    names = [arg.name for arg in arguments if arg.alias_info is not None and arg.alias_info.is_write]
    # Fused optimizers may write scaled gradients back; they do when gradients are scaled, which is not followed here.
    return tuple(name for name in names if name != "grads")
