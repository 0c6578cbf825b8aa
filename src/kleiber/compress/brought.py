"""A module in a file with its weights, written as a model's folder: what everything that goes on from a model takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kleiber.compress.kept import write_subject
from kleiber.compress.source import open_source
from kleiber.data.corpus import Progress
from kleiber.errors import RecipeError
from kleiber.models import ARCHITECTURES
from kleiber.models.config_file import read_architecture
from kleiber.runs import Recipe
from kleiber.runs.files import storage_errors, write_folder

__all__ = ["bring"]


def bring(
    source: str,
    folder: Path,
    recipe: Recipe,
    *,
    weights: Path,
    init: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Write `my_model.py:Net` with its weights into `folder`, and return that; `open_source` then takes it with the same recipe.

    The same code and weights give the same files, so that a compression that was cut off knows them again.

    Args:
        source: As `open_source` takes it; the file is run.
        folder: Holds nothing else; what an earlier call wrote is written anew, anything else is refused.
        recipe: Task and data.
        weights: A state dict, `.safetensors` or `.npz`.
        init: Arguments of the class or function.
        on_progress: Is told each stage.

    Raises:
        KleiberError: As `open_source`; or the disk refused.
    """
    _require_ours(folder)
    subject = open_source(source, recipe, weights=weights, init=init, on_progress=on_progress)
    if folder.exists():
        with storage_errors(folder):
            shutil.rmtree(folder)
    write_folder(folder, partial(write_subject, subject))
    return folder


def _require_ours(folder: Path) -> None:
    """Refuse to write over a folder that an earlier call has not written: a run of that name, or files of the user's.

    Raises:
        RecipeError: It holds something else.
    """
    if not folder.exists():
        return
    is_model = (folder / "config.json").is_file() and ARCHITECTURES.get(read_architecture(folder)) == "file"
    if not is_model or any(path.is_dir() for path in folder.iterdir()):
        raise RecipeError(
            f"{folder} is where the module would be written as a model, and it holds something else.",
            hint="-o FOLDER   another one: the original is written beside it",
        )
