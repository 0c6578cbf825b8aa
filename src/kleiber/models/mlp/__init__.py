"""The `mlp` family: fully connected networks over features, flattened images or flattened series."""

from kleiber.models.mlp.spec import MLPSpec

__all__ = ["MLPSpec"]
