"""Distillation: a task learnt from a teacher, which says of every sample how likely each answer is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kleiber.data import Batch, Data, Split
from kleiber.data.targets import counted
from kleiber.errors import RecipeError
from kleiber.runs import DataMeta, RecoverRecipe, Shown, TaskRecipe
from kleiber.tasks.attention_maps import RecordedAttention, attention_loss
from kleiber.tasks.block_features import BlockFeatures, blocks_in, recorded_blocks
from kleiber.tasks.divergences import divergence
from kleiber.tasks.evaluation import evaluating, tensor
from kleiber.tasks.paired import Scores
from kleiber.tasks.task import Metrics, Task

__all__ = ["Distillation"]


class Distillation:
    """Any task that predicts a distribution, with the divergence from a teacher's in its loss.

    Student and teacher go through a batch once each. Measured is the task itself.

    Args:
        task: What is learnt.
        teacher: Answers as the student does; is left as it is, without gradients.
        student: Before its weights are put together anew; its blocks are those that features are taken of.
        recipe: How the losses weigh.
        task_recipe: Of `task`.
        meta: Of the data.
        example: A batch of it, to see what blocks return.

    Raises:
        RecipeError: The task predicts no distribution, or blocks or attention cannot be compared.
    """

    def __init__(
        self,
        task: Task,
        teacher: nn.Module,
        student: nn.Module,
        *,
        recipe: RecoverRecipe,
        task_recipe: TaskRecipe,
        meta: DataMeta,
        example: Batch,
    ) -> None:
        if task_recipe.name in ("regression", "contrastive"):
            raise RecipeError(
                f"recover.teacher: a teacher is learnt from by how likely it finds each answer, and the task {task_recipe.name} "
                "has values, not likelihoods.",
                got=recipe.teacher,
                hint="--set recover.teacher=null   learns from the data",
            )
        self._task, self._recipe, self._end_id = task, recipe, meta.shape.end_id
        self._teacher = teacher.eval().requires_grad_(requires_grad=False)
        self._is_binary = task_recipe.minimized == "binary_cross_entropy"
        self._blocks: tuple[tuple[nn.Module, ...], tuple[nn.Module, ...]] = ((), ())
        self._features: BlockFeatures | None = None
        if recipe.feature_weight:
            self._blocks = blocks_in(student), blocks_in(teacher)
        self._try(student, example)

    @property
    def maps(self) -> nn.Module:
        """What is learnt beside the student: maps from its features to the teacher's."""
        return self._features.maps if self._features is not None else nn.Module()

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the weighted sum of the divergence, the task's loss, and what features and attention add; a scalar."""
        recipe = self._recipe
        (own, student, teacher), (features, attention) = self._passes(module, batch)
        weight = recipe.teacher_weight
        total = weight * self._divergence(student, teacher, batch)
        if weight < 1:
            total = total + (1 - weight) * own
        if self._features is not None:
            total = total + recipe.feature_weight * self._features.loss(*features)
        if recipe.attention_weight:
            total = total + recipe.attention_weight * attention_loss(attention[0].calls, attention[1].calls)
        return total

    def weight(self, batch: Batch) -> float:
        """Return what the loss of a batch is a mean over, as the task counts it."""
        return self._task.weight(batch)

    def evaluate(self, module: nn.Module, data: Data, split: Split = "val") -> Metrics:
        """Return the task's metrics."""
        return self._task.evaluate(module, data, split)

    def scores(self, module: nn.Module, data: Data, split: Split = "val") -> Scores:
        """Return what the task makes of each sample."""
        return self._task.scores(module, data, split)

    def show(self, module: nn.Module, data: Data, num: int = 16) -> Sequence[Shown]:
        """Return what the task shows."""
        return self._task.show(module, data, num)

    def _try(self, student: nn.Module, example: Batch) -> None:
        """See what both return, so that what cannot be compared is refused before the first step."""
        with evaluating(student):
            (_, ours, theirs), (features, attention) = self._passes(student, example)
            if ours.shape != theirs.shape:
                raise RecipeError(
                    "recover.teacher answers in another shape than the model.",
                    got=(tuple(ours.shape[1:]), tuple(theirs.shape[1:])),
                    hint="a teacher of the same vocabulary or classes",
                )
            if self._recipe.feature_weight:
                self._features = BlockFeatures(*features)
            if self._recipe.attention_weight:
                attention_loss(attention[0].calls, attention[1].calls)

    def _passes(
        self, module: nn.Module, batch: Batch
    ) -> tuple[
        tuple[Tensor, Tensor, Tensor],
        tuple[tuple[list[Tensor], list[Tensor]], tuple[RecordedAttention, RecordedAttention]],
    ]:
        """Return the task's loss and the outputs of both, and what was recorded inside them."""
        heard = _Heard(module)
        modes = RecordedAttention(), RecordedAttention()
        with recorded_blocks(self._blocks[0]) as ours, self._recorded(modes[0]):
            own = self._task.loss(heard, batch)
        with torch.no_grad(), recorded_blocks(self._blocks[1]) as theirs, self._recorded(modes[1]):
            taught = self._teacher(*heard.inputs)
        return (own, heard.outputs, taught), ((ours, theirs), modes)

    def _recorded(self, mode: RecordedAttention) -> contextlib.AbstractContextManager[object]:
        return mode if self._recipe.attention_weight else contextlib.nullcontext()

    def _divergence(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return the mean over all places that count."""
        recipe = self._recipe
        if self._is_binary:  # each class is asked for by itself: yes or no
            student, teacher = (torch.stack((torch.zeros_like(z), z), -1) for z in (student, teacher))
        each_N = divergence(
            student, teacher, recipe.divergence, temperature=recipe.temperature, skew=recipe.skew
        )
        if "target" in batch.arrays:
            counts_N = counted(tensor(batch, "target")[:, 1:], self._end_id).flatten()
            return each_N[counts_N].mean()
        return each_N.mean()


class _Heard(nn.Module):
    """Calls a module and keeps what went in and came out."""

    inputs: tuple[Tensor, ...]
    outputs: Tensor

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        self.inputs, self.outputs = inputs, self.module(*inputs)
        return self.outputs
