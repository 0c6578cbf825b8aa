"""The modules that calibration trains. Legend: B samples, T tokens, W width, V vocabulary."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn

__all__ = ["Encoder", "Recurrent", "residual_network"]


class Encoder(nn.Module):
    """Two layers of a Transformer's encoder between tokens and logits.

    Args:
        vocab: Tokens.
        context: Of a sequence.
        width: Features; the feed-forward part has four times as many.
        heads: Of attention.
    """

    def __init__(self, vocab: int, context: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.places = nn.Parameter(torch.zeros(context, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits, [B, T, V]."""
        logits: Tensor = self.head(self.layers(self.tokens(tokens_BT) + self.places))
        return logits


class Recurrent(nn.Module):
    """Recurrent layers between tokens and logits.

    Args:
        cell: `nn.LSTM` or `nn.GRU`.
        vocab: Tokens.
        width: Features.
        layers: Of the cell.
    """

    def __init__(self, cell: type[nn.LSTM | nn.GRU], vocab: int, width: int, layers: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.layers = cell(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits, [B, T, V]."""
        logits: Tensor = self.head(self.layers(self.tokens(tokens_BT))[0])
        return logits


class _Residual(nn.Module):
    def __init__(self, channels: int, results: int) -> None:
        super().__init__()
        stride = 1 if channels == results else 2
        self.first = nn.Conv2d(channels, results, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(results)
        self.second = nn.Conv2d(results, results, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(results)
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(channels, results, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(y + self.skip(x))


def residual_network(channels: int) -> nn.Module:
    """Return three residual blocks, the last two twice as wide as the one before and half as large."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        _Residual(channels, channels), _Residual(channels, 2 * channels), _Residual(2 * channels, 4 * channels),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * channels, 10),
    )  # fmt: skip
