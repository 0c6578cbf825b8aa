"""From what a user names to what can be compressed: a run, or a folder of transformers with a recipe beside it."""

from __future__ import annotations

from pathlib import Path

import torch

from kleiber.compress.subject import Subject
from kleiber.data import open_data
from kleiber.data.corpus import Progress
from kleiber.errors import RecipeError, RunFolderError, UsageError
from kleiber.models import ARCHITECTURES, Spec, build, load, resolve_spec, shape_of, size_of
from kleiber.models.config_file import read_architecture, read_config
from kleiber.models.family import FamilyModule
from kleiber.models.hf.spec import HFSpec
from kleiber.models.stored import read_forms
from kleiber.runs import ModelRecipe, Recipe, RunFolder
from kleiber.tasks import task_of

__all__ = ["model_folder", "open_source", "require_finite"]


def open_source(
    source: Path, recipe: Recipe | None = None, *, on_progress: Progress | None = None
) -> Subject:
    """Return what is to be compressed, with its data opened.

    Args:
        source: A run folder; or a folder in the Hugging Face layout, which says neither task nor data.
        recipe: Task and data of the second, and of the first where others than its own are meant; what it says of the model
            is left aside.
        on_progress: Is told each stage.

    Raises:
        RunFolderError: There is no model, or it does not load.
        RecipeError: A folder without a run came without a recipe, or model and data do not fit each other.
        DataError: The data is missing or of another kind.
        UsageError: A weight is not finite.
    """
    tell = on_progress or (lambda _: None)
    run = RunFolder(source)
    asked = _recipe_of(run, recipe)
    tell("opening the data")
    data = open_data(asked.data, seed=asked.train.seed, task=asked.task, on_progress=on_progress)
    asked = asked.with_shape(data.meta.shape)
    tell("reading the model")
    folder = model_folder(source)
    module, spec = _load(folder, asked)
    require_finite(module, folder)
    asked = asked.model_copy(update={"model": ModelRecipe(**size_of(spec))})
    _require_fit(spec, asked, source)
    kept = read_forms(folder, module)
    return Subject(
        module=module.eval(),
        spec=spec,
        recipe=asked,
        data=data,
        task=task_of(asked.task, data.meta),
        forms=kept,
    )


def model_folder(source: Path) -> Path:
    """Return where `config.json` and the weights are.

    Raises:
        RunFolderError: There is no such folder, or a run in it has not finished.
    """
    run = RunFolder(source)
    if run.model_path.is_dir():
        return run.model_path
    if run.exists():
        raise RunFolderError(
            f"{source} has no model yet: a run writes it when it finishes.",
            hint=f"kleiber train {run.recipe_path} -o {source}",
        )
    if not (source / "config.json").is_file():
        raise RunFolderError(
            f"{source} is neither a run nor a folder with a config.json.",
            hint="kleiber compress runs/NAME   or   kleiber compress FOLDER --recipe recipe.yaml",
        )
    return source


def require_finite(module: torch.nn.Module, where: Path) -> None:
    """Raise if a weight is NaN or infinite.

    Raises:
        UsageError: Naming the first such tensor.
    """
    for name, param in module.named_parameters():
        if not bool(param.isfinite().all()):
            raise UsageError(
                f"{where}: the weight {name} is not finite.",
                got=f"{int((~param.isfinite()).sum())} of {param.numel()} numbers NaN or infinite",
                hint="an earlier checkpoint of the run: kleiber train recipe.yaml -o FOLDER",
            )


def _recipe_of(run: RunFolder, recipe: Recipe | None) -> Recipe:
    if recipe is not None:
        return recipe
    if run.exists():
        return run.read_record().recipe
    raise RecipeError(
        f"{run.path} is a model without a run: its task and data must be said.",
        hint=f"kleiber compress {run.path} --recipe recipe.yaml   with task and data",
    )


def _load(folder: Path, recipe: Recipe) -> tuple[FamilyModule, Spec]:
    """Return the model of a folder; one of no family of ours by transformers, on the recipe's data."""
    if HFSpec.config_key in read_config(folder) or read_architecture(folder) in ARCHITECTURES:
        return load(folder)
    spec = HFSpec.of_size({"path": str(folder), "pretrained": True}, shape_of(recipe))
    return build(spec), spec


def _require_fit(spec: Spec, recipe: Recipe, source: Path) -> None:
    """Raise if the model does not read the data or answers another question."""
    try:
        found = resolve_spec(recipe)
    except RecipeError as error:
        raise RecipeError(
            f"{source} does not suit data.source '{recipe.data.source}': {error.message}", hint=error.hint
        ) from None
    if isinstance(spec, HFSpec):
        return
    if found != spec:
        raise RecipeError(
            f"{source} was made for other data than '{recipe.data.source}': {_difference(spec, found)}.",
            hint="the data and the tokenizer that it was trained with",
        )


def _difference(ours: Spec, asked: Spec) -> str:
    """Return the first size in which a model differs from what its data asks for."""
    mine, theirs = ours.model_dump(mode="json"), asked.model_dump(mode="json")
    key = next(key for key in mine if mine[key] != theirs[key])
    return f"{key} is {mine[key]}, and the data asks for {theirs[key]}"
