"""A perceptron that an article calls a model of a billion parameters; it has 10,016,010.

kleiber plan examples/article_perceptron.py:Perceptron --input 1000x1000 --optimizer adam
"""

from __future__ import annotations

from torch import Tensor, nn


class Perceptron(nn.Module):
    """1000 features, hidden layers of 5000 and 1000, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(1000, 5000)
        self.narrow = nn.Linear(5000, 1000)
        self.classify = nn.Linear(1000, 10)
        self.activation = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores of the classes, [batch, 10]."""
        hidden = self.activation(self.widen(features))
        hidden = self.activation(self.narrow(hidden))
        scores: Tensor = self.classify(hidden)
        return scores
