"""The folder of an `hf` model: as transformers writes it, with the spec in `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from kleiber.errors import RunFolderError, StorageError
from kleiber.models.config_file import read_config
from kleiber.models.foreign.transformers_config import quiet, sentence
from kleiber.models.hf.files import weights_source
from kleiber.models.hf.fitted import fitted
from kleiber.models.hf.module import HF
from kleiber.models.hf.spec import HFSpec
from kleiber.runs.files import write_text

__all__ = ["load", "save"]


def save(module: HF, spec: HFSpec, folder: Path) -> None:
    """Write weights and config into `folder` as transformers does.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    model: Any = module.model
    try:
        with quiet():
            model.save_pretrained(folder)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror or error}.") from None
    config = read_config(folder) | {spec.config_key: spec.model_dump(mode="json")}
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def load(folder: Path) -> tuple[HF, HFSpec]:
    """Return the module and spec that `save` wrote; weights of any precision become fp32.

    Raises:
        RunFolderError: A file is missing or truncated, or the weights do not fit the config.
    """
    where = str(folder / "config.json")
    spec = HFSpec.of(
        read_config(folder).get(HFSpec.config_key), f"{where}: {HFSpec.config_key}", RunFolderError
    )
    here = spec.model_copy(update={"path": str(folder)})
    architecture, source = fitted(here).architecture, weights_source(folder)
    load_weights: Any = architecture.model_class.from_pretrained
    try:
        with quiet():
            model, info = load_weights(
                **source,
                config=architecture.config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # they are refused below, by their names
                output_loading_info=True,
            )
    except Exception as error:  # noqa: BLE001 - a hundred architectures, each with its own checks
        raise RunFolderError(f"{folder} cannot be loaded: {sentence(error)}") from None
    if info["mismatched_keys"]:
        name, got, wanted = min(info["mismatched_keys"])
        raise RunFolderError(
            f"{folder}: {name} must be {tuple(wanted)}, as config.json says.", got=tuple(got)
        )
    if info["missing_keys"]:
        raise RunFolderError(f"{folder / 'model.safetensors'} lacks {min(info['missing_keys'])}.")
    module = HF(here, model.train())
    module.spec = spec
    return module, spec
