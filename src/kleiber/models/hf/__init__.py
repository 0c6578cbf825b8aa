"""The `hf` family: any architecture of transformers, from scratch by its config or pretrained."""

from kleiber.models.hf.spec import HFSpec

__all__ = ["HFSpec"]
