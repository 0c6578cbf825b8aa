"""A state dict in a file, by name: `.safetensors` or `.npz`, and never a pickle, which runs code when it is read."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kleiber.errors import RecipeError

__all__ = ["load_weights_", "read_state", "set_state_", "state_of"]

_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_CONVERT = "from safetensors.torch import save_file; save_file(module.state_dict(), 'net.safetensors')"


def load_weights_(module: nn.Module, path: str) -> None:
    """Set the parameters and buffers of a module to those of a file.

    Raises:
        RecipeError: As `read_state` and `set_state_`.
    """
    set_state_(module, read_state(Path(path)), path)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        RecipeError: The file is missing, damaged, holds Python objects, or is of another kind.
    """
    if path.suffix in _PICKLES:
        raise RecipeError(
            f"{path} is a pickle, which runs code when it is read: weights are .safetensors or .npz.",
            hint=_CONVERT,
        )
    readers = {".safetensors": _read_safetensors, ".npz": _read_npz}
    if path.suffix not in readers:
        raise RecipeError(
            "weights are a state dict in a .safetensors or .npz file.", got=str(path), hint=_CONVERT
        )
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.", hint=_CONVERT) from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError  # noqa: PLC0415 - with the next
    from safetensors.torch import load  # noqa: PLC0415 - asked for where there are weights alone

    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise RecipeError(f"{path} is truncated or corrupt: {error}.", hint=_CONVERT) from None


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, TypeError, AttributeError, EOFError) as error:
        raise RecipeError(
            f"{path} is damaged, or holds something else than arrays of numbers: {str(error).splitlines()[0].rstrip('.')}.",
            hint="numpy.savez('net.npz', **{name: tensor.numpy() for name, tensor in module.state_dict().items()})",
        ) from None


def set_state_(
    module: nn.Module, found: Mapping[str, Tensor], where: str, error_type: type[RecipeError] = RecipeError
) -> None:
    """Set the parameters and buffers of a module; a tensor with several names may have any of them.

    Args:
        module: On the CPU.
        found: By name.
        where: The file, for messages.
        error_type: Of what is raised.

    Raises:
        RecipeError: A tensor is missing, unknown, of another shape or of another kind of number; says which.
    """
    expected, first_of = module.state_dict(), _first_names(module)
    given = {first_of[name] for name in found if name in first_of}
    for name in sorted(expected.keys() | found.keys()):
        if name not in expected:
            raise error_type(f"{where}: the module has no tensor {name}.", got=list(found[name].shape))
        if name not in found:
            if first_of[name] not in given:
                raise error_type(f"{where} lacks {name}.", hint=f"{list(expected[name].shape)} is its shape")
            continue
        _require_alike(name, found[name], expected[name], where, error_type)
    with torch.no_grad():
        for name, tensor in found.items():
            expected[name].copy_(tensor)
        for name, tensor in found.items():  # of two names of one tensor the later has won
            if not torch.equal(expected[name], tensor.to(expected[name].dtype)) and not tensor.isnan().any():
                raise error_type(
                    f"{where}: {name} and {first_of[name]} are one tensor of the module, and differ."
                )


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a module by name, those that have several once: a file of tensors holds none twice."""
    first_of = _first_names(module)
    return {name: tensor.clone() for name, tensor in module.state_dict().items() if first_of[name] == name}


def _first_names(module: nn.Module) -> dict[str, str]:
    """Return the first name of the tensor behind each name of the state."""
    state = module.state_dict(keep_vars=True)
    known: dict[int, str] = {}
    return {name: known.setdefault(id(tensor), name) for name, tensor in state.items()}


def _require_alike(
    name: str, found: Tensor, expected: Tensor, where: str, error_type: type[RecipeError]
) -> None:
    if found.shape != expected.shape:
        raise error_type(f"{where}: {name} must be {list(expected.shape)}.", got=list(found.shape))
    is_alike = found.dtype in _FLOATS if expected.is_floating_point() else found.dtype == expected.dtype
    if not is_alike:
        kind = (
            "float16, bfloat16, float32 or float64" if expected.is_floating_point() else _name(expected.dtype)
        )
        raise error_type(f"{where}: {name} must hold {kind}.", got=_name(found.dtype))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
