"""A classifier of sequences by gated recurrent units (Cho et al. 2014, arXiv:1406.1078).

kleiber plan examples/gru.py:GRUClassifier --init '{"num_features": 40}' --input 32x100x40
"""

import torch
from torch import nn


class GRUClassifier(nn.Module):
    """Recurrent layers in both directions, a mean over time and a linear classifier.

    Args:
        num_features: Of each position, such as bands of a spectrum.
        num_classes: Classes that are told apart.
        width: Features of the state of one direction.
        depth: Recurrent layers.
    """

    def __init__(
        self, num_features: int = 40, num_classes: int = 12, width: int = 256, depth: int = 2
    ) -> None:
        super().__init__()
        self.layers = nn.GRU(num_features, width, depth, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return class scores [B, C] of features [B, T, num_features]."""
        states, _ = self.layers(features)
        return self.classifier(states.mean(1))
