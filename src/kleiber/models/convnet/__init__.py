"""The `convnet` family: plain convolutional networks from LeNet to VGG."""

from kleiber.models.convnet.spec import ConvNetSpec

__all__ = ["ConvNetSpec"]
