"""The two files of a model's folder, `config.json` and `model.safetensors`: written whole, read with one clear sentence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kleiber.errors import RunFolderError
from kleiber.runs.files import write_bytes, write_text

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BLOCK_KEY",
    "model_hash",
    "read_architecture",
    "read_config",
    "read_tensors",
    "read_weights",
    "require_shapes",
    "write_model",
]


BLOCK_KEY = "quantization_config"
"""Of a config whose weights are not all stored as plain tensors."""


def write_model(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write weights and config into `folder`.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    from safetensors.torch import save  # noqa: PLC0415 - imports torch

    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(folder / "model.safetensors", save(whole, metadata={"format": "pt"}))
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def model_hash(folder: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a model's config and weights."""
    digest = hashlib.sha256()
    for path in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def read_config(folder: Path) -> dict[str, Any]:
    """Return what `config.json` holds.

    Raises:
        RunFolderError: It is missing, truncated or no mapping.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}.", hint=_hint(folder)) from None
    except ValueError:
        raise RunFolderError(f"{path} is truncated or not valid JSON.", hint=_hint(folder)) from None
    if not isinstance(config, dict):
        raise RunFolderError(f"{path} must hold a mapping of keys to values.", got=type(config).__name__)
    return config


def read_architecture(folder: Path) -> str:
    """Return the first of the config's `architectures`, "" without any.

    Raises:
        RunFolderError: The config cannot be read.
    """
    architectures = read_config(folder).get("architectures")
    return str(architectures[0]) if isinstance(architectures, list) and architectures else ""


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights in `model.safetensors`: those that are not stored as plain tensors become such, fp32.

    Raises:
        RunFolderError: A file is missing, truncated or corrupt, or holds weights in a form that is not read.
    """
    tensors = read_tensors(folder)
    block = read_config(folder).get(BLOCK_KEY)
    if block is None:
        return tensors
    from kleiber.models.stored.codec import decode  # noqa: PLC0415 - imports torch

    weights, _ = decode(tensors, block, str(folder / "model.safetensors"))
    return weights


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of `model.safetensors` as they are stored.

    Raises:
        RunFolderError: It is missing, truncated or corrupt.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - with the next, which imports torch
    from safetensors.torch import load  # noqa: PLC0415 - imports torch

    path = folder / "model.safetensors"
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}.", hint=_hint(folder)) from None
    except SafetensorError as error:
        raise RunFolderError(f"{path} is truncated or corrupt: {error}.", hint=_hint(folder)) from None


def require_shapes(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise if a tensor is missing, unknown or of another shape.

    Args:
        found: As read.
        expected: As the config says, on the meta device.
        where: The file, for the message.

    Raises:
        RunFolderError: Naming the first such tensor, what it must be and what it is.
    """
    for name in sorted(expected.keys() | found.keys()):
        asked = tuple(expected[name].shape) if name in expected else None
        got = tuple(found[name].shape) if name in found else None
        if asked != got:
            raise RunFolderError(
                f"{where}: {name} must be {'absent' if asked is None else asked}.",
                got="nothing" if got is None else got,
            )


def _hint(folder: Path) -> str:
    return f"{folder} must hold config.json and model.safetensors; a run's model/ folder does once it has finished"
