"""The law that tests write down."""

from __future__ import annotations

__all__ = ["ALPHA", "BETA", "NOISE", "A", "B", "E", "loss_of", "tokens_of"]

E, A, B, ALPHA, BETA = 1.7, 400.0, 2000.0, 0.34, 0.37
NOISE = 0.004


def loss_of(size: float, tokens: float) -> float:
    return E + A / size**ALPHA + B / tokens**BETA


def tokens_of(size: float, loss: float) -> float:
    """The law solved for tokens."""
    return (B / (loss - E - A / size**ALPHA)) ** (1 / BETA)
