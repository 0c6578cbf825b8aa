"""The `dual` family: an image tower and a text tower whose embeddings are compared, in the layout of transformers' `CLIPModel`."""

from kleiber.models.dual.spec import DualSpec

__all__ = ["DualSpec"]
