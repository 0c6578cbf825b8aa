"""How a model will be used: what a plan asks beside the model itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kleiber.errors import RecipeError
from kleiber.runs import Document

__all__ = ["OPTIMIZERS", "PRECISIONS", "Mode", "OptimizerName", "Precision", "Usage"]

Mode = Literal["train", "infer"]
OptimizerName = Literal["sgd", "momentum", "adagrad", "rmsprop", "rmsprop_momentum", "adam", "adamw", "muon"]
Precision = Literal["fp32", "bf16", "fp16"]

OPTIMIZERS: dict[OptimizerName, int] = {
    "sgd": 0,
    "momentum": 1,
    "adagrad": 1,
    "rmsprop": 1,
    "rmsprop_momentum": 2,
    "adam": 2,
    "adamw": 2,
    "muon": 2,  # one for the hidden matrices, which are counted apart
}
"""Values of state that are kept for each parameter."""

PRECISIONS: dict[Precision, int] = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of an activation. In training weights, gradients and state stay in fp32 (autocast); served weights do not."""


class Usage(Document):
    """What is done with the model."""

    mode: Mode = "train"
    batch_size: int = Field(default=8, ge=1, le=10**9)
    """Samples (of text: sequences) a step over all devices and all accumulated micro-batches."""
    accumulation: int = Field(default=1, ge=1, le=10**6)
    """Micro-batches a step."""
    optimizer: OptimizerName = "adamw"
    precision: Precision = "fp32"
    is_checkpointed: bool = False
    """Each block keeps its input alone and runs forward again in the backward pass."""

    @property
    def micro_batch_size(self) -> int:
        """Samples that go through at once.

        Raises:
            RecipeError: The micro-batches do not divide the batch.

        Example:
            >>> Usage(batch_size=12, accumulation=3).micro_batch_size
            4
        """
        if self.batch_size % self.accumulation:
            raise RecipeError(
                f"accumulation {self.accumulation} must divide batch_size.",
                got=self.batch_size,
                hint=f"a batch of {self.accumulation * (self.batch_size // self.accumulation + 1)}",
            )
        return self.batch_size // self.accumulation
