"""A multi-layer perceptron of any widths.

kleiber plan examples/perceptron.py:Perceptron --init '{"widths": [784, 512, 512, 10]}' --input 64x784
"""

import itertools

import torch
from torch import nn


class Perceptron(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        widths: Features that go in, features of each hidden layer, features that come out.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for num_in, num_out in itertools.pairwise(widths):
            layers += [nn.Linear(num_in, num_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return [B, widths[-1]] of [B, widths[0]]."""
        return self.layers(features)
