"""A language model of long short-term memory layers (Hochreiter and Schmidhuber 1997).

kleiber plan examples/lstm.py:LSTMLanguageModel --init '{"vocab_size": 10000, "width": 512}' --input 16x128:int64
"""

import torch
from torch import nn


class LSTMLanguageModel(nn.Module):
    """Embedding, recurrent layers, and a head that may share the embedding's weights.

    Args:
        vocab_size: Tokens.
        width: Features of embedding and state.
        depth: Recurrent layers.
        is_tied: Whether the head is the embedding.
    """

    def __init__(
        self, vocab_size: int = 10_000, width: int = 512, depth: int = 2, is_tied: bool = False
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.layers = nn.LSTM(width, width, depth, batch_first=True)
        self.head = nn.Linear(width, vocab_size, bias=False)
        if is_tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next token [B, T, vocab_size] of tokens [B, T]."""
        states, _ = self.layers(self.embedding(tokens))
        return self.head(states)
