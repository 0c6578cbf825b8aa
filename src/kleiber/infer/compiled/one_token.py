"""The step that is compiled: one token of one sequence in, the logits after it and its keys and values out.

Legend: L blocks, B = 1 sequence, P tokens read before, N query heads, K key/value heads, G = N / K, H features of a head,
V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kleiber.infer.compiled.products import Hollow
from kleiber.infer.decoding.cached_forward import cached_forward

__all__ = ["OneToken"]


class OneToken(nn.Module):
    """Reads one token after those whose keys and values it is given.

    Args:
        hollow: The model.
    """

    def __init__(self, hollow: Hollow) -> None:
        super().__init__()
        self.hollow = hollow

    def forward(self, token_11: Tensor, keys_LBKPH: Tensor, values_LBKPH: Tensor) -> tuple[Tensor, ...]:
        """Return logits [1, 1, V], and the token's keys and values [L, B, K, 1, H] each."""
        past = _Past(keys_LBKPH, values_LBKPH)
        with self.hollow.using(rows="one") as module:
            logits_11V = cached_forward(module, token_11, past)
        return logits_11V, torch.stack(past.new_keys), torch.stack(past.new_values)


class _Past:
    """Attention over what was read before and over the token itself, in two parts that share a softmax: nothing is copied."""

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
        (B, _, N, H), K = q_BTNH.shape, k_BTKH.shape[2]
        k_BK1H, v_BK1H = k_BTKH.transpose(1, 2), v_BTKH.transpose(1, 2)
        self.new_keys.append(k_BK1H)
        self.new_values.append(v_BK1H)
        q_BKGH = q_BTNH.reshape(B, K, N // K, H) * H**-0.5
        past_BKGP = (q_BKGH[..., None, :] * self._keys[block][:, :, None]).sum(-1)
        own_BKG1 = (q_BKGH * k_BK1H).sum(-1, keepdim=True)
        most_BKG1 = torch.maximum(past_BKGP.amax(-1, keepdim=True), own_BKG1)
        past_BKGP, own_BKG1 = (past_BKGP - most_BKG1).exp(), (own_BKG1 - most_BKG1).exp()
        mixed_BKGH = (past_BKGP[..., None] * self._values[block][:, :, None]).sum(-2) + own_BKG1 * v_BK1H
        attended_BN1H: Tensor = mixed_BKGH / (past_BKGP.sum(-1, keepdim=True) + own_BKG1)
        return attended_BN1H.reshape(B, N, 1, H)
