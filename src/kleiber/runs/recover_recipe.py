"""Retraining a model that was made smaller, as a recipe says it: what it starts from, whom it learns from, what stays."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from kleiber.runs.document import Document

__all__ = ["DivergenceName", "RecoverRecipe"]

DivergenceName = Literal["forward", "reverse", "skew"]

_OF_TEACHER = (
    "teacher_hash",
    "teacher_weight",
    "divergence",
    "skew",
    "temperature",
    "feature_weight",
    "attention_weight",
)


class RecoverRecipe(Document):
    """Where training starts when it does not start from nothing.

    Weights that are zero, low-rank or quantized in the model stay so: zeros are kept out of every step, factors are trained
    as factors, and codes are trained through the rounding, their scales with them.
    """

    model: str = Field(min_length=1)
    """The folder of the model to go on from: a run's, or one with a `config.json`."""
    model_hash: str | None = None
    """Of its files; settled when the run starts, so that a model that changes later is another recipe."""
    keeps_zeros: bool = True
    """Whether zeros of quantized weights stay zero, as they must where they were pruned; of a model that was only quantized
    they are codes like others, and training them too brings more. Zeros of weights that are stored with a mask always stay."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Only so many directions of each hidden matrix are trained (Hu et al. 2021, arXiv:2106.09685), and the scales of
    quantized ones; merged at the end, through mask and rounding. None trains all."""
    lora_alpha: float = Field(default=16.0, gt=0)
    """What is merged is multiplied by this over the rank."""
    teacher: str | None = Field(default=None, min_length=1)
    """The folder of a model to learn from; None learns from the data alone."""
    teacher_hash: str | None = None
    """Of its files; settled when the run starts."""
    teacher_weight: float = Field(default=1.0, gt=0, le=1)
    """Of the divergence from the teacher; the rest is the task's own loss."""
    divergence: DivergenceName = "forward"
    """From the teacher's distribution to the student's, back, or from the teacher's to a mixture of both
    (Ko et al. 2024, arXiv:2402.03898)."""
    skew: float = Field(default=0.1, gt=0, lt=1)
    """Share of the teacher in the mixture."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Divides the logits of both, and its square multiplies the divergence (Hinton et al. 2015, arXiv:1503.02531)."""
    feature_weight: float = Field(default=0.0, ge=0)
    """Of the mean square between what the blocks of both return, over that of the teacher's; where widths differ a linear
    map of the student's is learnt beside (Romero et al. 2015, arXiv:1412.6550)."""
    attention_weight: float = Field(default=0.0, ge=0)
    """Of the divergence between where both attend (Wang et al. 2020, arXiv:2002.10957)."""

    @model_validator(mode="after")
    def _suits(self) -> Self:
        if self.teacher is None:
            self._refuse_without_effect(_OF_TEACHER, "a teacher")
        if self.divergence != "skew":
            self._refuse_without_effect(("skew",), "divergence skew")
        if self.lora_rank is None:
            self._refuse_without_effect(("lora_alpha",), "lora_rank")
        return self
