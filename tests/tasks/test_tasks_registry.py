from typing import get_args

import pytest

from kleiber.runs import TaskName, TaskRecipe
from kleiber.tasks import TASKS, task_of


@pytest.mark.parametrize("name", get_args(TaskName))
def test_every_task_of_a_recipe_can_be_made(name):
    assert type(task_of(TaskRecipe(name=name))) is TASKS[name]
