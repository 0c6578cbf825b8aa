"""A language model as a graph by the names that other programs know: tokens, their mask and positions, and what was read before.

They are those of Hugging Face's optimum, which ONNX Runtime's and OpenVINO's own text pipelines take too.

Legend: B sequences, T new tokens, P tokens read before, S = P + T, N query heads, K key/value heads, H features of a head,
V vocabulary.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.infer.decoding.cached_forward import attending_over, cached_heads
from kleiber.infer.decoding.joined_cache import JoinedCache, seen_before
from kleiber.infer.lowering.export import export
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.module import GPT

__all__ = ["INPUT_IDS", "MASK", "POSITIONS", "past_names", "present_names", "text_graph"]

INPUT_IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
_BATCH, _TOKENS, _PAST = 2, 3, 5
"""Sizes of the examples; all different, so that the exporter takes none for another."""


def past_names(depth: int) -> tuple[str, ...]:
    """Return the inputs that hold keys and values as read before, block after block, [B, K, P, H] each.

    Example:
        >>> past_names(1)
        ('past_key_values.0.key', 'past_key_values.0.value')
    """
    return tuple(f"past_key_values.{block}.{part}" for block in range(depth) for part in ("key", "value"))


def present_names(depth: int) -> tuple[str, ...]:
    """Return the outputs that hold them with the new tokens', [B, K, S, H] each.

    Example:
        >>> present_names(1)
        ('present.0.key', 'present.0.value')
    """
    return tuple(f"present.{block}.{part}" for block in range(depth) for part in ("key", "value"))


def text_graph(module: FamilyModule) -> Any:
    """Return an `onnx_ir.Model` of a language model.

    In: `input_ids` [B, T], `attention_mask` [B, S] (0 is never attended to: what fills up short sequences on the left),
    `position_ids` [B, T], and `past_names`, with P = 0 at the start. Out: `logits` [B, T, V] and `present_names`.

    Raises:
        UsageError: The module does not go on from text.
        RecipeError: It cannot be exported.
    """
    heads = cached_heads(module)
    shape = (_BATCH, heads.num_kv_heads, _PAST, heads.head_dim)
    tokens_BT = torch.zeros(_BATCH, _TOKENS, dtype=torch.long)
    inputs = (
        tokens_BT,
        torch.ones(_BATCH, _PAST + _TOKENS, dtype=torch.long),
        torch.arange(_PAST, _PAST + _TOKENS).expand(_BATCH, _TOKENS).contiguous(),
        *(torch.zeros(shape) for _ in range(2 * heads.depth)),
    )
    free = torch.export.Dim.DYNAMIC
    axes = [{0: free, 1: free}] * 3 + [{0: free, 2: free}] * (2 * heads.depth)
    model = export(_as_graph(module), inputs, axes)
    names = (INPUT_IDS, MASK, POSITIONS, *past_names(heads.depth))
    for value, name in zip(model.graph.inputs, names, strict=True):
        value.name = name
    for value, name in zip(model.graph.outputs, ("logits", *present_names(heads.depth)), strict=True):
        value.name = name
    return model


def _as_graph(module: FamilyModule) -> FamilyModule:
    """Return the module with the same parameters, by the same names, called as the graph is."""
    is_ours = isinstance(module, GPT)

    def forward(self: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        tokens_BT, mask_BS, positions_BT, *past = inputs
        is_seen_TS = seen_before(positions_BT.shape[1], past[0].shape[2])
        cache = JoinedCache(past, positions_BT, is_seen_TS[None, None] & (mask_BS[:, None, None] != 0))
        if is_ours:
            logits_BTV = GPT.forward(self, tokens_BT, cache)
        else:
            with attending_over(cache, self):
                said = self.model(input_ids=tokens_BT, position_ids=positions_BT, use_cache=False)
            logits_BTV = said.logits
        return logits_BTV, *cache.present

    def rope(self: Any, positions_BT: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001 - as GPT calls it
        J = self.spec.num_heads + self.spec.num_kv_heads
        cos, sin = (F.embedding(positions_BT, table)[:, :, None] for table in (self.cos, self.sin))
        return cos.expand(-1, -1, J, -1), sin.expand(-1, -1, J, -1)

    def learned(self: Any, positions_BT: Tensor, num_tokens: int) -> Tensor:  # noqa: ARG001 - the same
        return F.embedding(positions_BT, self.positions)

    called = copy.copy(module)
    methods = {"forward": forward} | ({"_rope": rope, "_learned": learned} if is_ours else {})
    called.__class__ = type(f"{type(module).__name__}Text", (type(module),), methods)
    return called
