"""A U-Net that labels every pixel (Ronneberger et al. 2015, arXiv:1505.04597).

kleiber plan examples/unet.py:UNet --init '{"width": 32}' --input 4x3x128x128
"""

import itertools

import torch
from torch import nn


def _stage(num_in: int, num_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (num_in, num_out):
        layers += [nn.Conv2d(channels, num_out, 3, padding=1), nn.GroupNorm(8, num_out), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Stages that halve the image, stages that double it, and connections across.

    Args:
        num_classes: Maps that come out.
        width: Channels of the first stage, a multiple of 8; each further one has twice as many.
        depth: Times the image is halved.
    """

    def __init__(self, num_classes: int = 1, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(_stage(a, b) for a, b in itertools.pairwise([3, *widths]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(_stage(2 * w, w) for w in reversed(widths[:-1]))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return maps [B, num_classes, height, width] of images [B, 3, height, width]."""
        across = []
        for stage in self.down:
            images = stage(self.pool(images) if across else images)
            across.append(images)
        for up, join, beside in zip(self.up, self.join, reversed(across[:-1]), strict=True):
            images = join(torch.cat([up(images), beside], 1))
        return self.head(images)
