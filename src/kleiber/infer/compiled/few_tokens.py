"""The step that is compiled: a few tokens of one sequence in, the logits after each and their keys and values out.

Legend: L blocks, B = 1 sequence, T new tokens, P tokens read before, N query heads, K key/value heads, G = N / K, H features of a
head, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kleiber.infer.compiled.products import Hollow
from kleiber.infer.decoding.cached_forward import cached_forward

__all__ = ["FewTokens"]


class FewTokens(nn.Module):
    """Reads a few tokens, always as many, after those whose keys and values it is given.

    Args:
        hollow: The model.
    """

    def __init__(self, hollow: Hollow) -> None:
        super().__init__()
        self.hollow = hollow

    def forward(self, tokens_1T: Tensor, keys_LBKPH: Tensor, values_LBKPH: Tensor) -> tuple[Tensor, ...]:
        """Return logits [1, T, V], and the tokens' keys and values [L, B, K, T, H] each."""
        past = _Past(keys_LBKPH, values_LBKPH)
        with self.hollow.using(rows="few") as module:
            logits_1TV = cached_forward(module, tokens_1T, past)
        return logits_1TV, torch.stack(past.new_keys), torch.stack(past.new_values)


class _Past:
    """Attention over what was read before and over the new tokens, in two parts that share a softmax: nothing is copied."""

    rotates = False

    def __init__(self, keys_LBKPH: Tensor, values_LBKPH: Tensor) -> None:
        self._keys, self._values = keys_LBKPH, values_LBKPH
        self.length: Any = keys_LBKPH.shape[3]
        self.new_keys: list[Tensor] = []
        self.new_values: list[Tensor] = []

    def require_room(self, num_tokens: int) -> None:
        """Whoever runs the step has checked."""

    def advance(self, num_tokens: int) -> None:
        """Whoever runs the step counts."""

    def attend(self, block: int, q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor) -> Tensor:
        """Return attention over all tokens, [B, N, T, H]."""
        (B, T, N, H), K = q_BTNH.shape, k_BTKH.shape[2]
        k_BKTH, v_BKTH = k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2)
        self.new_keys.append(k_BKTH)
        self.new_values.append(v_BKTH)
        q_BKGTH = q_BTNH.transpose(1, 2).reshape(B, K, N // K, T, H) * H**-0.5
        # P and the T new tokens that a query may see, in the place before H.
        before = (q_BKGTH[..., None, :] * self._keys[block][:, :, None, None]).sum(-1)
        own = (q_BKGTH[..., None, :] * k_BKTH[:, :, None, None]).sum(-1)
        if T > 1:
            is_later_TT = torch.ones(T, T, dtype=torch.bool).triu(1)
            own = own.masked_fill(is_later_TT, -torch.inf)
        most = torch.maximum(before.amax(-1, keepdim=True), own.amax(-1, keepdim=True))
        before, own = (before - most).exp(), (own - most).exp()
        mixed_BKGTH = (before[..., None] * self._values[block][:, :, None, None]).sum(-2)
        mixed_BKGTH = mixed_BKGTH + (own[..., None] * v_BKTH[:, :, None, None]).sum(-2)
        whole = before.sum(-1, keepdim=True) + own.sum(-1, keepdim=True)
        attended_BNTH: Tensor = (mixed_BKGTH / whole).reshape(B, N, T, H)
        return attended_BNTH
