"""From what a user names to what can be compressed: a run, a folder of transformers, or a module in a file with its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kleiber.compress.subject import Subject
from kleiber.data import open_data
from kleiber.data.corpus import Progress
from kleiber.errors import RecipeError, UsageError
from kleiber.models import Spec, build, load, resolve_spec, shape_of, size_of
from kleiber.models.family import FamilyModule
from kleiber.models.file.named import is_module, name_asked, name_module, split_module
from kleiber.models.file.spec import FileSpec
from kleiber.models.hf.spec import HFSpec
from kleiber.models.seen_data import seen_by
from kleiber.models.stored import read_activations, read_forms
from kleiber.runs import ModelRecipe, Recipe, RunFolder
from kleiber.tasks import task_of

__all__ = ["open_source", "require_finite"]


def open_source(
    source: Path | str,
    recipe: Recipe | None = None,
    *,
    weights: Path | None = None,
    init: Mapping[str, Any] | None = None,
    module: str | None = None,
    on_progress: Progress | None = None,
) -> Subject:
    """Return what is to be compressed, with its data opened.

    Args:
        source: A run folder; a folder in the Hugging Face layout, which says neither task nor data; or `my_model.py:Net`, whose
            file is run.
        recipe: Task and data of the second and third, and of the first where others than its own are meant; what it says of
            the model is left aside, but that the user names a module in a file by it.
        weights: Of a module in a file: its state dict, `.safetensors` or `.npz`.
        init: Arguments of a module in a file.
        module: `my_model.py:Net`, of a folder that holds weights of such a module: its code is not run unasked.
        on_progress: Is told each stage.

    Raises:
        RunFolderError: There is no model, it does not load, or its code was not named.
        RecipeError: A folder without a run came without a recipe, model and data do not fit each other, or the code or the
            weights of a module in a file do not do.
        DataError: The data is missing or of another kind.
        UsageError: A weight is not finite, or a module in a file came without weights, or a folder with them.
    """
    tell = on_progress or (lambda _: None)
    _require_weights(source, weights, init)
    asked = _recipe_of(source, recipe)
    if recipe is not None:
        name_asked(recipe.model)
    if module is not None:
        name_module(*split_module(module))
    tell("opening the data")
    data = open_data(asked.data, seed=asked.train.seed, task=asked.task, on_progress=on_progress)
    asked = asked.with_shape(data.meta.shape)
    tell("reading the model")
    loaded, spec = _load(source, asked, weights, init)
    require_finite(loaded, weights or RunFolder(Path(source)).find_model())
    asked = asked.model_copy(update={"model": ModelRecipe(**size_of(spec))})
    _require_fit(spec, asked, source, data.meta.shape.inputs)
    subject = Subject(
        module=loaded.eval(), spec=spec, recipe=asked, data=data, task=task_of(asked.task, data.meta)
    )
    if weights is not None:
        return subject
    folder = RunFolder(Path(source)).find_model()
    return dataclasses.replace(
        subject, forms=read_forms(folder, loaded), activations=read_activations(folder)
    )


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


def _require_weights(source: Path | str, weights: Path | None, init: Mapping[str, Any] | None) -> None:
    """Refuse code without weights, and weights or arguments without code."""
    if is_module(str(source)):
        if weights is None:
            raise UsageError(
                f"{source} is code: the weights that it was trained to must be said.",
                hint=f"kleiber compress {source} --weights net.safetensors --recipe recipe.yaml",
            )
        return
    for option, value in (("weights", weights), ("init", init)):
        if value is not None:
            raise UsageError(
                f"{option} is of a module in a file, and {source} is a folder that holds its own.",
                got=str(value),
                hint="kleiber compress my_model.py:Net --weights net.safetensors --recipe recipe.yaml",
            )


def _recipe_of(source: Path | str, recipe: Recipe | None) -> Recipe:
    if recipe is not None:
        return recipe
    run = RunFolder(Path(source))
    if run.exists():
        return run.read_record().recipe
    raise RecipeError(
        f"{source} is a model without a run: its task and data must be said.",
        hint=f"kleiber compress {source} --recipe recipe.yaml   with task and data",
    )


def _load(
    source: Path | str, recipe: Recipe, weights: Path | None, init: Mapping[str, Any] | None
) -> tuple[FamilyModule, Spec]:
    """Return a model: of code with weights, or of a folder; one of no family of ours by transformers, on the recipe's data."""
    if weights is not None:
        path, name = split_module(str(source))
        size = {"path": path, "name": name, "weights": str(weights), "init": dict(init or {})}
        coded = FileSpec.of_size(size, shape_of(recipe))
        # From here on they are in the module, and later in its folder.
        return build(coded), coded.model_copy(update={"weights": None})
    return load(RunFolder(Path(source)).find_model(), shape_of(recipe))


def _require_fit(spec: Spec, recipe: Recipe, source: Path | str, inputs: str) -> None:
    """Raise if the model does not read the data or answers another question."""
    try:
        found = resolve_spec(recipe)
    except RecipeError as error:
        raise RecipeError(
            f"{source} does not suit data.source '{recipe.data.source}': {error.message}", hint=error.hint
        ) from None
    if isinstance(spec, HFSpec):
        return
    # A family of images says what it reads whatever the data is.
    if (ours := seen_by(spec).inputs) != inputs:
        raise RecipeError(
            f"{source} reads {ours}, and data.source '{recipe.data.source}' holds {inputs}.",
            hint="--recipe recipe.yaml   with data of the kind that the model was trained on",
        )
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
