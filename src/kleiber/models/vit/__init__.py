"""The `vit` family: vision Transformers in the layout of transformers' `ViTForImageClassification`."""

from kleiber.models.vit.spec import ViTSpec

__all__ = ["ViTSpec"]
