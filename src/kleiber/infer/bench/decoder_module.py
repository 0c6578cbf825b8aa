"""A decoder where a module is expected: what measures quality measures the very thing that writes text.

Legend: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kleiber.infer.decoding import Decoder

__all__ = ["DecoderModule"]


class DecoderModule(nn.Module):
    """Whole sequences in, the logits after each token out, through the decoder's own cache.

    Args:
        decoder: Of any engine.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the logits of the next token after each token, [B, T, V]."""
        tokens = tokens_BT.numpy()
        first_BV = torch.from_numpy(self.decoder.prefill(tokens[:, :1]).copy())
        if tokens.shape[1] == 1:
            return first_BV[:, None]
        rest_BTV = torch.from_numpy(self.decoder.extend(tokens[:, 1:]))
        return torch.cat((first_BV[:, None], rest_BTV), 1)
