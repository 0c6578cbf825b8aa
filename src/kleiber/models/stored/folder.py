"""The folder of a model some of whose weights have a form: written over the one that its family saved, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kleiber.errors import RecipeError, RunFolderError
from kleiber.models.config_file import BLOCK_KEY, read_config, read_tensors, read_weights, write_model
from kleiber.models.family import FamilyModule
from kleiber.models.stored.block import Activations, own_keys_of
from kleiber.models.stored.codec import decode, encode
from kleiber.models.stored.forms import Form, Forms, Masked
from kleiber.models.stored.places import Place, places_of
from kleiber.models.stored.rows import join_rows, rows_of

__all__ = ["raw_bytes", "read_activations", "read_forms", "stored_bytes", "write_forms"]

_AGREEMENT = 1e-5
"""Of the largest entry: how near a weight is to what its form stands for. Products in fp32 depend on their order."""


def write_forms(
    folder: Path, module: FamilyModule, forms: Forms, activations: Activations | None = None
) -> None:
    """Store the weights of a saved model in their forms; `models.load` still loads the folder, and so do other readers.

    The layout is that of compressed-tensors: weights in few bits are `pack-quantized`, with scales in fp16 where fp16 holds
    them exactly; weights with zeros are `sparse-bitmask`. Two thin factors are a form of ours, which no other reader has.

    transformers 5.23 with compressed-tensors 0.20 reads symmetric weights of linear layers as they are, and with
    `dequantize=True` asymmetric ones and tables too, where all have the same bits; it wants groups that divide a row, and no
    longer reads masks.

    Args:
        folder: Where `models.save` wrote `module`.
        module: Its weights are those that their forms stand for.
        forms: By the name of the parameter; one that is absent is stored as it is.
        activations: How numbers that are no weights are held; None as they are computed.

    Raises:
        RecipeError: The family's layout does not hold the rows of a parameter one after the other.
        ValueError: A form is of no parameter, or stands for another weight.
        StorageError: The disk is full or the folder cannot be written.
    """
    _require_agreement(module, forms)
    places = places_of(module, forms) if forms else {}
    _require_whole(module, forms, places)
    stored = {
        name: rows_of(forms[place.name], slice(place.start, place.stop)) for name, place in places.items()
    }
    tensors, block = encode(read_weights(folder), stored, activations or Activations())
    config = {key: value for key, value in read_config(folder).items() if key != BLOCK_KEY}
    write_model(folder, tensors, config if block is None else config | {BLOCK_KEY: block})


def read_forms(folder: Path, module: FamilyModule) -> Forms:
    """Return the forms of the weights in a folder, by the name of the parameter.

    Args:
        folder: That `write_forms` wrote, or another tool in the layout of compressed-tensors.
        module: What `models.load` gives for it.

    Raises:
        RunFolderError: A file is missing or truncated, or weights that the module fuses have forms that do not go together.
    """
    block, where = _block(folder), str(folder / "model.safetensors")
    if block is None:
        return {}
    _, stored = decode(read_tensors(folder), block, where)
    if not stored:
        return {}
    places = places_of(module)
    for name in stored:
        if name not in places:
            raise RunFolderError(f"{where}: {name} is not stored as it is, and no parameter has its rows.")
    return {
        name: _joined(
            {place: stored.get(tensor) for tensor, place in places.items() if place.name == name}, where
        )
        for name in {places[tensor].name: None for tensor in stored}
    }


def read_activations(folder: Path) -> Activations:
    """Return how numbers that are no weights are held, as `write_forms` was told.

    Raises:
        RunFolderError: The config cannot be read.
    """
    block = _block(folder)
    return Activations() if block is None else own_keys_of(block, str(folder / "config.json")).activations


def stored_bytes(folder: Path) -> int:
    """Return the size of a model on disk: its weights and their config."""
    files = (*folder.glob("*.safetensors"), folder / "config.json")
    return sum(path.stat().st_size for path in files)


def raw_bytes(module: torch.nn.Module) -> int:
    """Return the size of a module's parameters in fp32, tied ones once.

    Example:
        >>> raw_bytes(torch.nn.Linear(10, 3))
        132
    """
    return 4 * sum(param.numel() for param in module.parameters())


def _block(folder: Path) -> Mapping[str, Any] | None:
    block: Mapping[str, Any] | None = read_config(folder).get(BLOCK_KEY)
    return block


def _require_agreement(module: FamilyModule, forms: Forms) -> None:
    params = dict(module.named_parameters())
    for name, form in forms.items():
        if name not in params:
            raise ValueError(f"the module has no parameter {name}")
        weight_RC = params[name].detach().reshape(len(params[name]), -1)
        if isinstance(form, Masked):
            agrees = not weight_RC[~form.is_kept_RC].any()
        else:
            room = _AGREEMENT * float(weight_RC.abs().max())
            agrees = bool(((form.dense() - weight_RC).abs() <= room).all())
        if not agrees:
            raise ValueError(f"{name} is not the weight that its form stands for")


def _require_whole(module: FamilyModule, forms: Forms, places: Mapping[str, Place]) -> None:
    params = dict(module.named_parameters())
    for name in forms:
        if not _is_whole([place for place in places.values() if place.name == name], len(params[name])):
            raise RecipeError(
                f"{name} cannot be stored in few bits, with its zeros left out or in factors: the layout of its family does not "
                "hold its rows one after the other.",
                hint=f"leave {name} as it is",
            )


def _is_whole(places: list[Place], num_rows: int) -> bool:
    """Return whether places make up all rows of a parameter; several may be the same."""
    end = 0
    for place in sorted(set(places), key=lambda place: place.start):
        if place.start != end:
            return False
        end = place.stop
    return end == num_rows


def _joined(parts: Mapping[Place, Form | None], where: str) -> Form:
    """Return the form of a parameter, of its rows by their place; None is stored as it is."""
    in_order = [parts[place] for place in sorted(parts, key=lambda place: place.start)]
    forms = [form for form in in_order if form is not None]
    joined = join_rows(forms) if len(forms) == len(in_order) else None
    if joined is None:
        raise RunFolderError(
            f"{where}: what is fused into {next(iter(parts)).name} must all be stored alike.",
            hint="quantize it with the same bits and groups, or leave all of it as it is",
        )
    return joined
