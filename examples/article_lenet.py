"""A classifier of small colour images, as a tutorial has it: two convolutions, then three linear layers.

62,006 parameters:

    kleiber plan examples/article_lenet.py:Net --input 4x3x32x32
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Ten classes of images of 3x32x32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the classes, [batch, 10]."""
        maps = self.pool(torch.relu(self.conv1(images)))
        maps = self.pool(torch.relu(self.conv2(maps)))
        features = torch.relu(self.fc1(maps.flatten(1)))
        features = torch.relu(self.fc2(features))
        scores: Tensor = self.fc3(features)
        return scores
