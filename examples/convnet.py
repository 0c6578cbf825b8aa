"""A plain convolutional network in the manner of VGG (Simonyan and Zisserman 2015, arXiv:1409.1556).

kleiber plan examples/convnet.py:ConvNet --init '{"num_classes": 10}' --input 32x3x32x32
"""

import torch
from torch import nn


class ConvNet(nn.Module):
    """Stages of 3x3 convolutions, each ending in a pooling that halves the image.

    Args:
        num_classes: Classes that are told apart.
        widths: Channels of each stage.
        depth: Convolutions of each stage.
    """

    def __init__(
        self, num_classes: int = 10, widths: tuple[int, ...] = (64, 128, 256, 512), depth: int = 2
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
                layers += [nn.ReLU(inplace=True)]
                channels = width
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores [B, C] of images [B, 3, height, width]."""
        return self.classifier(self.pool(self.features(images)).flatten(1))
