"""The `resnet` family: residual networks of basic or bottleneck blocks."""

from kleiber.models.resnet.spec import ResNetSpec

__all__ = ["ResNetSpec"]
