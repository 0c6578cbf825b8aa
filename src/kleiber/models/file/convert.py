"""The folder of a user's module: its weights under the user's own names, its spec in `config.json`, and none of its code."""

from __future__ import annotations

from pathlib import Path

from kleiber.errors import RecipeError, RunFolderError
from kleiber.models.config_file import read_config, read_weights, write_model
from kleiber.models.file.module import FileModule, build
from kleiber.models.file.named import file_hash, named_path
from kleiber.models.file.spec import FileSpec
from kleiber.models.file.weights import set_state_, state_of

__all__ = ["load", "save"]

_ARCHITECTURE = "KleiberFile"


def save(module: FileModule, spec: FileSpec, folder: Path) -> None:
    """Write weights, buffers and spec into `folder`; the weights are beside the spec now, wherever they came from.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    kept = spec.model_copy(update={"weights": None})
    config = {
        "architectures": [_ARCHITECTURE],
        "model_type": "kleiber",
        "spec": kept.model_dump(mode="json"),
    }
    write_model(folder, state_of(module.module), config)


def load(folder: Path) -> tuple[FileModule, FileSpec]:
    """Return the module and spec that `save` wrote, by the code that the user named; weights of any precision become fp32.

    Raises:
        RunFolderError: The user has not named the module; a file is missing or truncated; a tensor does not fit.
        RecipeError: The file that the user named fails.
    """
    config, where = read_config(folder), folder / "config.json"
    spec = FileSpec.of(config.get("spec"), f"{where}: spec", RunFolderError)
    path = named_path(spec.path, spec.name, folder)
    spec = spec.model_copy(update={"path": path, "file_hash": file_hash(path), "weights": None})
    module = build(spec)
    weights = folder / "model.safetensors"
    try:
        set_state_(module.module, read_weights(folder), str(weights))
    except RecipeError as error:
        raise RunFolderError(
            error.message, got=error.got, hint=f"the {spec.title} that it was trained with"
        ) from None
    return module, spec
