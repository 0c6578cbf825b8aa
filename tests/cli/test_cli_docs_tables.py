"""docs/training.md: its tables are the code's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn
from training_page import PAGE, ROOT, names, quoted, tables

from kleiber.cli.main import COMMANDS
from kleiber.data.augment import AUGMENTATIONS
from kleiber.data.sample_data import SOURCES, open_samples
from kleiber.errors import RecipeError
from kleiber.models import ARCHITECTURES, FAMILIES
from kleiber.models.groups import groups_of
from kleiber.runs import (
    DataRecipe,
    DataShape,
    Document,
    OptimizerRecipe,
    Recipe,
    ScheduleRecipe,
    StopRecipe,
    TaskRecipe,
    read_recipe,
)
from kleiber.runs.task_recipe import LossName
from kleiber.study.design import read_design, rungs_of
from kleiber.tasks import TASKS
from kleiber.train.optimizer import Optimizer
from kleiber.train.schedule import rate

# Of each word for what a family reads or a source gives, a shape.
SHAPES = {
    "text": DataShape(inputs="tokens", vocab_size=300, context=16),
    "texts": DataShape(inputs="tokens", vocab_size=300, context=16, num_outputs=2),
    "images": DataShape(inputs="images", channels=3, height=32, width=32, num_outputs=3),
    "columns": DataShape(inputs="features", num_features=9, num_outputs=3),
    "series": DataShape(inputs="series", context=10, num_features=2, num_outputs=1),
    "pairs": DataShape(inputs="pairs", vocab_size=300, context=16),
    "captions": DataShape(inputs="captions", vocab_size=300, context=8, channels=3, height=32, width=32),
}


def readable(family: str, size: dict[str, object]) -> set[str]:
    found = set()
    for word, shape in SHAPES.items():
        try:
            FAMILIES[family].of_size(size, shape)
        except RecipeError:
            continue
        found.add(word)
    return found


@pytest.mark.parametrize("row", tables()["Families"], ids=lambda row: row[0])
def test_a_row_of_families(row, tmp_path):
    (family,) = quoted(row[0])
    own = {"family", "shape", "depth", "width", "vocab_size", "context"}
    assert set(quoted(row[2])) == FAMILIES[family].model_fields.keys() - own
    saved = [name for name, other in ARCHITECTURES.items() if other == family]
    assert quoted(row[3]) == [name for name in saved if not name.startswith("Kleiber")]
    assert ("own layout" in row[3]) == any(name.startswith("Kleiber") for name in saved)
    if family == "file":
        (tmp_path / "net.py").write_text("from torch import nn\n\n\nclass Net(nn.Identity):\n    pass\n")
        assert readable("file", {"path": str(tmp_path / "net.py"), "name": "Net"}) == set(row[1].split(", "))
    elif family == "hf":
        assert set().union(*(readable("hf", {"path": str(path)}) for path in configs(tmp_path))) == set(
            row[1].split(", ")
        )
    else:
        assert readable(family, {"depth": 20 if family == "resnet" else 2}) == set(row[1].split(", "))


def configs(folder: Path) -> list[Path]:
    """Write a config of transformers for each kind that it has a head for."""
    from transformers import BertConfig, LlamaConfig, MarianConfig, ViTConfig  # noqa: PLC0415 - takes seconds

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    written = [
        LlamaConfig(**sizes, vocab_size=300),
        BertConfig(**sizes, vocab_size=300),
        ViTConfig(**sizes, image_size=32),
        MarianConfig(vocab_size=300, d_model=16, encoder_layers=1, decoder_layers=1, pad_token_id=0),
    ]
    for config in written:
        config.save_pretrained(folder / config.model_type)
    return [folder / config.model_type for config in written]


def test_every_family_task_source_and_augmentation_has_its_row():
    assert names("Families") == list(FAMILIES)
    assert names("Tasks") == list(TASKS)
    assert names("Sources") == ["stdlib", "text", *SOURCES]
    assert names("Augmentations") == list(AUGMENTATIONS)
    assert set(names("Optimizers")) == choices(OptimizerRecipe)
    assert set(names("Schedules")) == choices(ScheduleRecipe)
    assert set(names("What ends a run")) == StopRecipe.model_fields.keys() - {"usd_per_hour"}


def choices(document: type[OptimizerRecipe | ScheduleRecipe]) -> set[str]:
    return set(get_args(document.model_fields["name"].annotation))


def is_taken(document: type[Document], **values: object) -> bool:
    try:
        document(**values)
    except ValueError:
        return False
    return True


def test_the_losses_of_tasks():
    for row in tables()["Tasks"]:
        (task,) = quoted(row[0])
        taken = {loss for loss in get_args(LossName) if is_taken(TaskRecipe, name=task, loss=loss)}
        assert set(quoted(row[1])) == taken
        assert quoted(row[1])[0] == TaskRecipe(name=task).minimized


def test_the_sources_packages_and_what_embedded_ones_give():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = {re.split(r"[<>=]", package)[0] for package in extras["data"]}
    for row in tables()["Sources"]:
        named = set(re.findall(r"`data` \((.*?)\)", row[4])) | set(re.findall(r"\), .*?\((.*?)\)", row[4]))
        assert named <= known, row
    for name in ("digits", "breast_cancer", "diabetes", "wine"):
        task = TaskRecipe(name="regression" if name == "diabetes" else "classification")
        (row,) = (row for row in tables()["Sources"] if quoted(row[0]) == [name])
        shape = open_samples(DataRecipe(source=name), task, seed=0).meta.shape
        assert SHAPES[row[2]].inputs == shape.inputs


def test_what_augmentations_change_and_how_much():
    words = {
        "images": "images",
        "features": "columns",
        "series": "series",
        "tokens": "texts",
        "source": "pairs",
    }
    for row in tables()["Augmentations"]:
        known = AUGMENTATIONS[quoted(row[0])[0]]
        assert row[1].split(", ") == [words[role] for role in known.roles]
        assert float(row[3]) == known.max_strength


def optimizer_on(recipe: OptimizerRecipe) -> tuple[nn.Linear, Optimizer]:
    """Return a matrix [4, 6] that is hidden, and its optimizer; a head [2, 4] stands beside it."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 2, bias=False))
    return module[0], Optimizer(module, groups_of(module, head=["1.weight"]), recipe)


def num_state_values(recipe: OptimizerRecipe) -> int:
    _, optimizer = optimizer_on(recipe)
    return sum(tensor.numel() for tensor in optimizer.tensors().values() if tensor.ndim > 1)


def test_the_state_of_optimizers():
    for row in tables()["Optimizers"]:
        (name,) = quoted(row[0])
        numbers = [int(number) for number in re.findall(r"\d", row[1])]
        of_matrix, of_rest = numbers if name == "muon" else (numbers[0], numbers[0])
        assert num_state_values(OptimizerRecipe(name=name)) == 24 * of_matrix + 8 * of_rest, name
        if "momentum" in row[1]:
            other = OptimizerRecipe(name=name, momentum=0.0 if "without" in row[1] else 0.5)
            assert num_state_values(other) == 32 * numbers[1], name


def test_what_weight_decay_does():
    for row in tables()["Optimizers"]:
        (name,) = quoted(row[0])
        recipe = OptimizerRecipe(name=name, lr=0.1, matrix_lr=0.1, weight_decay=0.5)
        matrix, optimizer = optimizer_on(recipe)
        before = matrix.weight.detach().clone()
        for _ in range(2):  # the first step of sgd is the same either way
            for group in optimizer._params:
                group.grad = torch.zeros_like(group)
            optimizer.step(1.0)
        is_decoupled = torch.allclose(matrix.weight, before * (1 - 0.1 * 0.5) ** 2)
        assert {True: "decoupled", False: "added to the gradient"}[is_decoupled] == row[2], name


def test_what_optimizers_and_schedules_read():
    others = {
        "momentum": 0.5, "is_nesterov": True, "beta1": 0.5, "beta2": 0.5, "eps": 1e-3, "cooldown_frac": 0.5,
        "cooldown_shape": "linear", "milestones": (0.1,), "gamma": 0.5, "final_frac": 0.5,
    }  # fmt: skip
    for title, document, column in (("Optimizers", OptimizerRecipe, 3), ("Schedules", ScheduleRecipe, 1)):
        for row in tables()[title]:
            (name,) = quoted(row[0])
            taken = {
                key
                for key, value in others.items()
                if key in document.model_fields and is_taken(document, name=name, **{key: value})
            }
            assert set(quoted(row[column])) == taken, name
    for row in tables()["Optimizers"]:
        for momentum in re.findall(r"`momentum` ([\d.]+)", row[3]):
            assert OptimizerRecipe(name=quoted(row[0])[0]).momentum == float(momentum)


def test_the_rates_of_schedules():
    for row in tables()["Schedules"]:
        schedule = ScheduleRecipe(name=quoted(row[0])[0], warmup_steps=0)
        assert [f"{rate(step, 1000, schedule):.2f}" for step in (500, 900)] == row[2:4]


def test_what_limits_do_to_the_schedule():
    for row in tables()["What ends a run"]:
        is_known = StopRecipe(**{quoted(row[0])[0]: 1}).is_countable
        assert row[2] == ("is as long" if is_known else "breaks off")


def test_keys_paths_and_commands_in_the_text_exist():
    for key in re.findall(r"`((?:task|data|train)\.[a-z_.]+)", PAGE):
        node: object = Recipe().model_dump()
        for part in key.split("."):
            assert part in node, key  # type: ignore[operator]
            node = node[part]  # type: ignore[index]
    for path in re.findall(r"(?<![\w/])recipes/[\w-]+\.yaml", PAGE):
        if path.startswith("recipes/ladder"):
            rungs_of(read_design(ROOT / path))
        else:
            read_recipe(ROOT / path)
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    typed = re.findall(r"`kleiber ([a-z]+)", PAGE)
    assert set(typed) <= set(COMMANDS)
    assert len(PAGE.splitlines()) < 250
