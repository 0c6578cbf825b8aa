"""What is learnt: a loss to go down and measures of how far it went."""

from __future__ import annotations

from kleiber.runs import TaskRecipe
from kleiber.tasks.language import LanguageModelling
from kleiber.tasks.task import Metrics, Task

__all__ = ["TASKS", "LanguageModelling", "Metrics", "Task", "task_of"]

TASKS: dict[str, type[Task]] = {"lm": LanguageModelling}


def task_of(recipe: TaskRecipe) -> Task:
    """Return the task that a recipe names."""
    return TASKS[recipe.name]()
