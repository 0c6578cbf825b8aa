"""Where the files of a transformers model are: in a folder, or in the cache that a name of the hub fills."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from kleiber.errors import MissingExtraError, RecipeError
from kleiber.models.config_file import BLOCK_KEY, read_config, read_weights

__all__ = ["Stamp", "folder_of", "stamp_of", "weights_source"]

Stamp: TypeAlias = tuple[Path, int, int]
"""Path, time of change [ns] and size [bytes] of a config: what tells that it is still the same."""

_HINT = "a folder with config.json, or a name of the hub such as bert-base-uncased"


def folder_of(path: str) -> Path:
    """Return the folder with a model's files; those of a name of the hub are fetched into the cache of transformers.

    Raises:
        RecipeError: Neither a folder with a config nor a name that the hub knows or the cache holds.
        MissingExtraError: transformers is not installed.
    """
    here = Path(path)
    if here.is_file():
        return here.parent
    if (here / "config.json").is_file():
        return here
    if here.exists():
        raise RecipeError(f"hf: {path} has no config.json.", hint=_HINT)
    try:
        from transformers.utils.hub import cached_file  # noqa: PLC0415 - takes a second to import, and is an extra
    except ImportError:
        raise MissingExtraError.of("transformers", "hf", f"hf:{path}") from None
    return Path(_fetched(cached_file, path)).parent


def stamp_of(path: str) -> Stamp | None:
    """Return the stamp of the config at a path; None of a name of the hub, whose config stays."""
    here = Path(path)
    config = here if here.is_file() else here / "config.json"
    if not config.is_file():
        return None
    stat = config.stat()
    return config.resolve(), stat.st_mtime_ns, stat.st_size


def weights_source(path: Path | str) -> dict[str, Any]:
    """Return what tells transformers' `from_pretrained` where the weights are.

    Those that are stored in few bits or without their zeros are given as they are decoded here: transformers would ask for one
    more package, and keeps its own classes of layers.

    Args:
        path: A folder, or a name of the hub.

    Raises:
        RunFolderError: The weights are quantized in a layout that is not read.
    """
    if isinstance(path, Path) and BLOCK_KEY in read_config(path):
        return {"pretrained_model_name_or_path": None, "state_dict": read_weights(path)}
    return {"pretrained_model_name_or_path": path, "use_safetensors": True}


def _fetched(cached_file: Any, name: str) -> str:
    try:
        return str(cached_file(name, "config.json"))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RecipeError(
            f"hf: '{name}' is no folder here, and the hub did not give it: {reason}", hint=_HINT
        ) from None
