"""Where a student attends, held to where its teacher does.

Legend: B samples, N query heads, K key heads, T tokens that ask, S tokens that are looked at, H features of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kleiber.errors import RecipeError
from kleiber.tasks.block_features import matched

__all__ = ["Attention", "RecordedAttention", "attention_loss"]

_NEVER = -1e9
"""Score of what may not be seen: probability 0, and finite, as gradients need it."""


@dataclass(frozen=True)
class Attention:
    """What one call of attention asked, as it was called."""

    queries: Tensor
    """[B, N, T, H]"""
    keys: Tensor
    """[B, K, S, H]"""
    mask: Tensor | None
    is_causal: bool
    scale: float | None

    def log_probs(self) -> Tensor:
        """Return the logarithm of where each token looks, [B, N, T, S]."""
        (_, N, T, H), (_, K, S, _) = self.queries.shape, self.keys.shape
        keys_BNSH = self.keys.repeat_interleave(N // K, 1)
        scores = self.queries @ keys_BNSH.mT * (self.scale or 1 / math.sqrt(H))
        if self.is_causal:
            seen_TS = torch.ones(T, S, dtype=torch.bool, device=scores.device).tril()
            scores = scores.masked_fill(~seen_TS, _NEVER)
        if self.mask is not None and self.mask.dtype == torch.bool:
            scores = scores.masked_fill(~self.mask, _NEVER)
        elif self.mask is not None:
            scores = scores + self.mask.clamp(min=_NEVER)
        return F.log_softmax(scores, -1)


class RecordedAttention(TorchFunctionMode):
    """Takes what every `scaled_dot_product_attention` inside it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Attention] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function as it is."""
        del types
        named = kwargs or {}
        if func is F.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            given = {**dict(zip(names, args, strict=False)), **named}
            self.calls.append(
                Attention(
                    given["query"],
                    given["key"],
                    given.get("attn_mask"),
                    bool(given.get("is_causal", False)),
                    given.get("scale"),
                )
            )
        return func(*args, **named)


def attention_loss(student: Sequence[Attention], teacher: Sequence[Attention]) -> Tensor:
    """Return KL(teacher, student) of where matching layers attend, the mean over layers, heads and tokens [nats].

    Where they have other numbers of heads, the mean over heads is compared.

    Raises:
        RecipeError: One of them does not attend, or they attend to other numbers of tokens.

    Source:
        Wang et al. 2020, arXiv:2002.10957, equation 5; of all layers, not of the last.
    """
    if not student or not teacher:
        raise RecipeError(
            f"recover.attention_weight: the {'teacher' if student else 'model'} calls no attention that could be compared.",
            hint="--set recover.attention_weight=0",
        )
    parts = []
    for own, index in zip(student, matched(len(student), len(teacher)), strict=True):
        ours, theirs = own.log_probs(), teacher[index].log_probs()
        if ours.shape[-2:] != theirs.shape[-2:]:
            raise RecipeError(
                "recover.attention_weight: model and teacher attend to other numbers of tokens.",
                got=(tuple(ours.shape[-2:]), tuple(theirs.shape[-2:])),
                hint="--set recover.attention_weight=0",
            )
        if ours.shape[1] != theirs.shape[1]:
            ours, theirs = (probs.exp().mean(1).clamp(min=1e-12).log() for probs in (ours, theirs))
        parts.append((theirs.exp() * (theirs - ours)).sum(-1).mean())
    return torch.stack(parts).mean()
