"""Retraining a model that was made smaller, as a recipe says it: what it starts from, whom it learns from, what stays."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from kleiber.runs.document import Document

__all__ = ["RecoverRecipe"]


class RecoverRecipe(Document):
    """Where training starts when it does not start from nothing.

    Weights that are zero, low-rank or quantized in the model stay so: zeros are kept out of every step, factors are trained
    as factors, and codes are trained through the rounding.
    """

    model: str = Field(min_length=1)
    """The folder of the model to go on from: a run's, or one with a `config.json`."""
    teacher: str | None = None
    """The folder of a model to learn from; None learns from the data alone."""
    teacher_weight: float = Field(default=1.0, gt=0, le=1)
    """Of the teacher's loss; the rest is the task's own."""
    divergence: Literal["forward", "reverse", "skew"] = "forward"
    """From the teacher's distribution to the student's, back, or from the teacher's to a mixture of both
    (Ko et al. 2024, arXiv:2402.03898)."""
    skew: float = Field(default=0.1, gt=0, lt=1)
    """Share of the teacher in the mixture."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Divides the logits of both (Hinton et al. 2015, arXiv:1503.02531)."""
    feature_weight: float = Field(default=0.0, ge=0)
    """Of the mean square between what the blocks of both return."""
    attention_weight: float = Field(default=0.0, ge=0)
    """Of the divergence between where both attend."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Only so many directions of each matrix are trained (Hu et al. 2021, arXiv:2106.09685) and merged at the end, through
    mask and rounding; None trains all."""
    lora_alpha: float = Field(default=16.0, gt=0)

    @model_validator(mode="after")
    def _suits(self) -> Self:
        if self.teacher is None:
            for key in ("teacher_weight", "divergence", "skew", "temperature", "feature_weight", "attention_weight"):
                if key in self.model_fields_set and getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} has no effect without a teacher, got {getattr(self, key)}")
        if self.lora_rank is None and "lora_alpha" in self.model_fields_set:
            raise ValueError(f"lora_alpha has no effect without lora_rank, got {self.lora_alpha}")
        return self
