"""Residual networks (He et al. 2016, arXiv:1512.03385), with the stride in the 3x3 convolution of a bottleneck.

kleiber plan examples/resnet.py:ResNet50 --input 1x3x224x224
kleiber plan examples/resnet.py:ResNet18 --init '{"num_classes": 10, "width": 32}' --input 32x3x32x32
"""

import torch
from torch import nn


def _convolution(num_in: int, num_out: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(num_out)
    )


class Block(nn.Module):
    """Two 3x3 convolutions beside a short cut."""

    expansion = 1

    def __init__(self, num_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(num_in, width, 3, stride), nn.ReLU(inplace=True), _convolution(width, width, 3)
        )
        self.shortcut = nn.Identity() if num_in == width else _convolution(num_in, width, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return [B, width, height / stride, width / stride]."""
        return self.relu(self.body(images) + self.shortcut(images))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, beside a short cut."""

    expansion = 4

    def __init__(self, num_in: int, width: int, stride: int) -> None:
        super().__init__()
        num_out = self.expansion * width
        self.body = nn.Sequential(
            _convolution(num_in, width, 1),
            nn.ReLU(inplace=True),
            _convolution(width, width, 3, stride),
            nn.ReLU(inplace=True),
            _convolution(width, num_out, 1),
        )
        self.shortcut = nn.Identity() if num_in == num_out else _convolution(num_in, num_out, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return [B, 4 width, height / stride, width / stride]."""
        return self.relu(self.body(images) + self.shortcut(images))


class ResNet(nn.Module):
    """A stem, four stages of blocks, a mean over positions and a linear classifier.

    Args:
        block: Which block.
        depths: Blocks of each stage.
        num_classes: Classes that are told apart.
        width: Channels of the stem; each stage has twice those of the one before.
    """

    def __init__(
        self, block: type[Block] | type[Bottleneck], depths: tuple[int, ...], num_classes: int, width: int
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(3, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
        )
        stages, channels = [], width
        for index, depth in enumerate(depths):
            blocks = []
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(channels, width * 2**index, stride))
                channels = block.expansion * width * 2**index
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return class scores [B, C] of images [B, 3, height, width]."""
        return self.classifier(self.pool(self.stages(self.stem(images))).flatten(1))


class ResNet18(ResNet):
    """Eight blocks of two convolutions."""

    def __init__(self, num_classes: int = 1000, width: int = 64) -> None:
        super().__init__(Block, (2, 2, 2, 2), num_classes, width)


class ResNet50(ResNet):
    """Sixteen bottlenecks; 25,557,032 parameters and 4.09 billion multiply-adds for a 224x224 image."""

    def __init__(self, num_classes: int = 1000, width: int = 64) -> None:
        super().__init__(Bottleneck, (3, 4, 6, 3), num_classes, width)
