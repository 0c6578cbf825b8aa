"""A network as an article prints it, for images of 32x32, whose first linear layer expects another size.

Two padded convolutions keep the size and two poolings halve it: 64 maps of 8x8, 4,096 values. `fc1` takes 64 * 6 * 6:

    kleiber plan examples/article_mismatch.py:Net --input 8x3x32x32   (an error that says so)
    kleiber plan examples/article_mismatch.py:Net --input 8x3x24x24   (works)
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor, nn


class Net(nn.Module):
    """Ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(64 * 6 * 6, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the classes, [batch, 10]."""
        maps = F.max_pool2d(F.relu(self.conv1(images)), 2)
        maps = F.max_pool2d(F.relu(self.conv2(maps)), 2)
        features = F.relu(self.fc1(maps.view(-1, 64 * 6 * 6)))
        features = F.relu(self.fc2(features))
        scores: Tensor = self.fc3(features)
        return scores
