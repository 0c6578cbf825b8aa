"""The folder of a family that transformers has no architecture for: its spec in `config.json`, its weights as they are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from kleiber.errors import RunFolderError
from kleiber.models.config_file import read_config, read_weights, require_shapes, write_model
from kleiber.models.family import FamilyModule
from kleiber.runs import Document

__all__ = ["load_own", "save_own"]

S = TypeVar("S", bound=Document)
M = TypeVar("M", bound=FamilyModule)


def save_own(module: FamilyModule, spec: Document, folder: Path, architecture: str) -> None:
    """Write weights, buffers and spec into `folder`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    config = {
        "architectures": [architecture],
        "model_type": "kleiber",
        "spec": spec.model_dump(mode="json"),
    }
    write_model(folder, module.state_dict(), config)


def load_own(
    folder: Path, architecture: str, spec_type: type[S], module_type: Callable[[S], M]
) -> tuple[M, S]:
    """Return the module and spec that `save_own` wrote; floating-point weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, the architecture is another, or a tensor does not fit the spec.
    """
    config, where = read_config(folder), str(folder / "config.json")
    if config.get("architectures") != [architecture]:
        raise RunFolderError(
            f"{where}: the architecture must be {architecture}.", got=config.get("architectures")
        )
    spec = spec_type.of(config.get("spec"), f"{where}: spec", RunFolderError)
    found = read_weights(folder)
    with torch.device("meta"):
        module = module_type(spec)
    require_shapes(found, module.state_dict(), str(folder / "model.safetensors"))
    whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
    module.load_state_dict(whole, assign=True)
    return module, spec
