"""A forward pass over a cache of ours, of our decoder and of those of transformers.

transformers lets an attention function be registered by name. Ours gives queries, keys and values of the new tokens to the cache,
which attends over all that it holds: one cache for every model, and one way to put it into a graph.

Legend: B sequences, T new tokens, N query heads, K key/value heads, H features of a head, V vocabulary,
L tokens whose logits are wanted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError, UsageError
from kleiber.models.family import FamilyModule
from kleiber.models.gpt.cache import Cache
from kleiber.models.gpt.module import GPT
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.module import HF

__all__ = ["Heads", "attending_over", "cached_forward", "cached_heads"]

_ATTENTION = "kleiber_cache"
_CACHE: ContextVar[Cache] = ContextVar("kleiber_cache")


@dataclass(frozen=True)
class Heads:
    """Sizes of a cache, by the names that a `GPTSpec` has for them."""

    depth: int
    """Blocks."""
    num_kv_heads: int
    head_dim: int
    """Features of a head."""
    context: int
    """Longest sequence [tokens]."""


def cached_heads(module: FamilyModule) -> Heads:
    """Return the sizes of the cache that a language model decodes with.

    Raises:
        UsageError: The module does not go on from text.
    """
    if isinstance(module, GPT):
        spec = module.spec
        return Heads(spec.depth, spec.num_kv_heads, spec.head_dim, spec.context)
    blocks = module.spec.blocks() if isinstance(module, HF) else None
    if not isinstance(module, HF) or blocks is None or fitted(module.spec).head != "CAUSAL_LM":
        raise _refusal(module)
    context = module.spec.shape.context
    if context is None:
        raise AssertionError("text that is modelled has a context")
    return Heads(blocks.depth, blocks.num_kv_heads, blocks.head_dim, context)


def cached_forward(
    module: FamilyModule, tokens_BT: Tensor, cache: Cache, kept_L: Tensor | None = None
) -> Tensor:
    """Return the logits of the next token after each token, [B, T, V]; they follow what the cache holds.

    Args:
        module: Of the family gpt or hf.
        tokens_BT: int64.
        cache: Holds what was read before; these tokens are added to it.
        kept_L: Places in `tokens_BT` after which the logits are wanted, int64; then they are [B, L, V]. None is after all.

    Raises:
        UsageError: The cache is full, or the module does not go on from text.
        RecipeError: The model attends in a way that the cache does not know.
    """
    if isinstance(module, GPT):
        return GPT.forward(module, tokens_BT, cache, kept_L)
    if not isinstance(module, HF):
        raise _refusal(module)
    num_tokens = tokens_BT.shape[1]
    cache.require_room(num_tokens)
    positions = torch.arange(num_tokens) + cache.length
    with attending_over(cache, module):
        said: Any = module.model(
            input_ids=tokens_BT,
            position_ids=positions if positions.ndim > 1 else positions[None],
            use_cache=False,
            logits_to_keep=0 if kept_L is None else kept_L,
        )
    cache.advance(num_tokens)
    logits_BTV: Tensor = said.logits
    return logits_BTV


def _refusal(module: FamilyModule) -> UsageError:
    return UsageError(
        f"{type(module).__name__} does not write text token by token.", hint="a run of the family gpt"
    )


@contextmanager
def attending_over(cache: Cache, module: HF) -> Iterator[None]:
    """Let a model of transformers attend over a cache of ours."""
    from transformers import AttentionInterface  # noqa: PLC0415 - takes seconds to import

    AttentionInterface.register(_ATTENTION, _attend)
    config = module.config.get_text_config()
    before, token = config._attn_implementation, _CACHE.set(cache)  # noqa: SLF001 - its setter reloads kernels
    config._attn_implementation = _ATTENTION  # noqa: SLF001 - the same
    try:
        yield
    finally:
        config._attn_implementation = before  # noqa: SLF001 - the same
        _CACHE.reset(token)


def _attend(
    layer: nn.Module, q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor, _mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Return attention over the cache as transformers wants it, [B, T, N, H]."""
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise RecipeError(f"a cache of Kleiber's does not know attention with {name}.", got=options[name])
    scaling, H = options.get("scaling"), q_BNTH.shape[-1]
    if scaling is not None and not math.isclose(scaling, H**-0.5):
        q_BNTH = q_BNTH * (scaling * math.sqrt(H))
    block: Any = layer.layer_idx
    heads = (one.transpose(1, 2) for one in (q_BNTH, k_BKTH, v_BKTH))
    return _CACHE.get().attend(block, *heads).transpose(1, 2), None
