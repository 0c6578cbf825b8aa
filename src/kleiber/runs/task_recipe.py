"""What is learnt, as a recipe says it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from kleiber.runs.document import Document

__all__ = ["LossName", "TaskName", "TaskRecipe"]

TaskName = Literal["lm", "classification", "regression", "seq2seq", "contrastive"]
LossName = Literal["cross_entropy", "binary_cross_entropy", "mse", "huber", "contrastive"]

_LOSSES: dict[TaskName, tuple[LossName, ...]] = {
    "lm": ("cross_entropy",),
    "classification": ("cross_entropy", "binary_cross_entropy"),
    "regression": ("mse", "huber"),
    "seq2seq": ("cross_entropy",),
    "contrastive": ("contrastive",),
}
"""Of each task, its own first."""


class TaskRecipe(Document):
    """What is learnt."""

    name: TaskName = "lm"
    """`lm`: the next token. `classification` and `regression` of a sample. `seq2seq`: a text from a text. `contrastive`: which
    text belongs to which image."""
    loss: LossName | None = None
    """What is minimized; None is the task's own: cross-entropy, mse of a regression."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Probability that cross-entropy spreads over all classes (Szegedy et al. 2016, arXiv:1512.00567, section 7)."""
    huber_delta: float = Field(default=1.0, gt=0)
    """Error at which `huber` turns from a square to a line, in standard deviations of the target."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs each class by the inverse of its share."""
    beam_size: int = Field(default=1, ge=1, le=64)
    """Of seq2seq's decoding when it is measured; 1 is greedy."""

    @model_validator(mode="after")
    def _suits(self) -> Self:
        known = _LOSSES[self.name]
        if self.loss is not None and self.loss not in known:
            raise ValueError(f"loss of {self.name} must be {' or '.join(known)}, got {self.loss}")
        for key, is_used in (
            ("label_smoothing", self.minimized == "cross_entropy"),
            ("huber_delta", self.minimized == "huber"),
            ("class_weights", self.name == "classification"),
            ("beam_size", self.name == "seq2seq"),
        ):
            if (
                key in self.model_fields_set
                and not is_used
                and getattr(self, key) != type(self).model_fields[key].default
            ):
                raise ValueError(
                    f"{key} has no effect on {self.name} with loss {self.minimized}, got {getattr(self, key)}"
                )
        return self

    @property
    def minimized(self) -> LossName:
        """The loss, the task's own where none is named."""
        return self.loss or _LOSSES[self.name][0]
