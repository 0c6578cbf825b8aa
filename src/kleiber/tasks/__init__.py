"""What is learnt: a loss to go down and measures of how far it went."""

from __future__ import annotations

from collections.abc import Callable

from kleiber.runs import DataMeta, TaskName, TaskRecipe
from kleiber.tasks.classification import Classification
from kleiber.tasks.contrastive import Contrastive
from kleiber.tasks.language import LanguageModelling
from kleiber.tasks.paired import Scores
from kleiber.tasks.regression import Regression
from kleiber.tasks.seq2seq import SequenceToSequence
from kleiber.tasks.task import Metrics, Task

__all__ = [
    "TASKS",
    "Classification",
    "Contrastive",
    "LanguageModelling",
    "Metrics",
    "Regression",
    "Scores",
    "SequenceToSequence",
    "Task",
    "task_of",
]

TASKS: dict[TaskName, Callable[[TaskRecipe, DataMeta | None], Task]] = {
    "lm": LanguageModelling,
    "classification": Classification,
    "regression": Regression,
    "seq2seq": SequenceToSequence,
    "contrastive": Contrastive,
}


def task_of(recipe: TaskRecipe, meta: DataMeta | None = None) -> Task:
    """Return the task that a recipe names, on data that `meta` describes."""
    return TASKS[recipe.name](recipe, meta)
