"""A decoder as a graph: new tokens and all keys and values in, logits and all keys and values out.

ONNX Runtime and OpenVINO each have one operation that attends over a cache without copying it, and find it in different graphs.
The graph of ONNX Runtime names that operation, which writes into buffers of fixed room; that of OpenVINO joins old and new
keys, and becomes its cache when they are made a state.

Legend: B sequences, T new tokens, P tokens read before, S tokens the cache holds room for, N query heads, K key/value heads,
H features of a head, V vocabulary, L tokens whose logits are wanted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from kleiber.infer.decoding.cached_forward import cached_forward, cached_heads
from kleiber.infer.decoding.joined_cache import JoinedCache, seen_before
from kleiber.infer.lowering.export import export
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.module import GPT
from kleiber.models.gpt.rotary import half_tables

__all__ = ["buffer_graph", "growing_graph", "past_name", "present_name"]

_TURNED_AT_ONCE = 16
"""Features that ONNX Runtime's attention turns by positions together: heads of another size turn before they come to it."""
_BATCH, _TOKENS, _PAST, _KEPT = 2, 3, 5, 4
"""Sizes of the examples; all different, so that the exporter takes none for another."""


def past_name(index: int) -> str:
    """Return the name of the input that holds keys (even) or values (odd) of block `index` // 2, as read before."""
    return f"past_{index}"


def present_name(index: int) -> str:
    """Return the name of the output that holds them with the new tokens'."""
    return f"present_{index}"


def buffer_graph(module: FamilyModule) -> Any:
    """Return an `onnx_ir.Model` for ONNX Runtime: `tokens`, `kept`, `last`, `past_i` -> `logits`, `present_i`.

    Of tokens [B, T] `kept` [L] says after which the logits [B, L, V] are wanted; `last` [B] is the position of the last new
    token of each sequence; the past is [B, K, S, H] with room for S tokens, and may be the very memory that the present is
    written into. Several sequences that hold something already take one token at a time: the operation has no more.

    Raises:
        UsageError: The module does not go on from text.
        RecipeError: It cannot be exported.
    """
    heads = cached_heads(module)
    is_turned = isinstance(module, GPT) and module.spec.positions == "rope"
    is_turned = is_turned and heads.head_dim % _TURNED_AT_ONCE == 0
    rotations = half_tables(module.get_buffer("cos"), module.get_buffer("sin")) if is_turned else None
    axes = [_TOKEN_AXES, _KEPT_AXES, {0: _batch()}]
    last_B = torch.full((_BATCH,), _TOKENS - 1, dtype=torch.int32)
    room = torch.export.Dim("room", max=max(heads.context, _TOKENS + 1))
    return _graph(
        module,
        partial(_Buffers, rotations=rotations),
        more=(last_B,),
        names=("tokens", "kept", "last"),
        axes=axes,
        num_kept=heads.context,
        kept_axes={0: _batch(), 2: room},
    )


def growing_graph(module: FamilyModule) -> Any:
    """Return an `onnx_ir.Model` for OpenVINO: `tokens`, `kept`, `past_i` -> `logits`, `present_i`.

    Of tokens [B, T] `kept` [L] says after which the logits [B, L, V] are wanted; the past is [B, K, P, H].

    Raises:
        UsageError: The module does not go on from text.
        RecipeError: It cannot be exported.
    """
    context = cached_heads(module).context
    free = {0: _batch(), 2: torch.export.Dim("past", max=max(context, _PAST + 1))}
    axes = [_TOKEN_AXES, _KEPT_AXES]
    return _graph(
        module, _joined, more=(), names=("tokens", "kept"), axes=axes, num_kept=_PAST, kept_axes=free
    )


def _batch() -> Any:
    return torch.export.Dim("batch")


_TOKEN_AXES: dict[int, Any] = {0: _batch(), 1: torch.export.Dim.DYNAMIC}
_KEPT_AXES: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}


def _graph(
    module: FamilyModule,
    cache_of: _CacheOf,
    *,
    more: tuple[Tensor, ...],
    names: tuple[str, ...],
    axes: list[dict[int, Any]],
    num_kept: int,
    kept_axes: dict[int, Any],
) -> Any:
    heads = cached_heads(module)
    num = 2 * heads.depth
    shape = (_BATCH, heads.num_kv_heads, num_kept, heads.head_dim)
    past = tuple(torch.zeros(shape) for _ in range(num))
    tokens_BT = torch.zeros(_BATCH, _TOKENS, dtype=torch.long)
    kept_L = torch.arange(_KEPT) % _TOKENS
    inputs = (tokens_BT, kept_L, *more, *past)
    model = export(_step_module(module, cache_of), inputs, [*axes, *([kept_axes] * num)])
    taken, outputs = model.graph.inputs, model.graph.outputs
    for value, name in zip(taken, (*names, *map(past_name, range(num))), strict=True):
        value.name = name
    for value, name in zip(outputs, ("logits", *map(present_name, range(num))), strict=True):
        value.name = name
    return model


def _step_module(module: FamilyModule, cache_of: _CacheOf) -> FamilyModule:
    """Return the module with the same parameters, by the same names, called as a step."""

    def forward(self: FamilyModule, *inputs: Tensor) -> tuple[Tensor, ...]:
        tokens_BT, kept_L, *past = inputs
        cache = cache_of(tokens_BT, past)
        logits_BLV = cached_forward(self, tokens_BT, cache, kept_L)
        return logits_BLV, *cache.present

    step = copy.copy(module)
    step.__class__ = type(f"{type(module).__name__}Step", (type(module),), {"forward": forward})
    return step


def _joined(tokens_BT: Tensor, past: list[Tensor]) -> JoinedCache:
    num_past = past[0].shape[2]
    return JoinedCache(past, num_past, seen_before(tokens_BT.shape[1], num_past))


class _Buffers:
    """Attention of ONNX Runtime over buffers of fixed room: `com.microsoft.GroupQueryAttention`.

    It turns the heads of a `gpt` too, in place of a dozen small operations a block; models of transformers turn their own.
    """

    def __init__(
        self, tokens_BT: Tensor, kept: list[Tensor], rotations: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self.present: list[Tensor] = []
        self._rotations = rotations
        self.rotates = rotations is not None
        self._last_B, *self._past = kept
        self._num_read_1 = self._last_B.amax(0, keepdim=True) + 1
        self.length = (self._last_B[:, None] + 1).long() - tokens_BT.shape[1]

    def require_room(self, num_tokens: int) -> None:
        """Whoever runs the graph has checked."""

    def advance(self, num_tokens: int) -> None:
        """Whoever runs the graph counts."""

    def attend(self, block: int, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor) -> Tensor:
        """Return causal attention over all tokens, [B, N, T, H]."""
        (B, T, N, H), K = q_BTNH.shape, k_BTKH.shape[2]
        keys_BKSH, values_BKSH = self._past[2 * block : 2 * block + 2]
        attended, *present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            (
                q_BTNH.reshape(B, T, N * H),
                k_BTKH.reshape(B, T, K * H),
                v_BTKH.reshape(B, T, K * H),
                keys_BKSH,
                values_BKSH,
                self._last_B,
                self._num_read_1,
                *(self._rotations or ()),
            ),
            {"num_heads": N, "kv_num_heads": K, "do_rotary": int(self.rotates)},
            dtypes=(q_BTNH.dtype,) * 3,
            shapes=((B, T, N * H), tuple(keys_BKSH.shape), tuple(values_BKSH.shape)),
            version=1,
        )
        self.present += present
        return attended.reshape(B, T, N, H).transpose(1, 2)


_CacheOf: TypeAlias = Callable[[Tensor, list[Tensor]], _Buffers | JoinedCache]
"""From the new tokens and what the graph is given of the past."""
