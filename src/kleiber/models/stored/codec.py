"""Weights of any form as the plain tensors of a file, by the names that compressed-tensors has for them.

A weight `X` in few bits is `X_packed`, `X_scale`, `X_shape`, and `X_zero_point` unless its numbers are symmetric; one with zeros
is `X.compressed`, `X.bitmask`, `X.row_offsets`, `X.shape`; one in two factors is `X_left`, `X_right` and `X_shape`, where factors
may be in few bits themselves and weights that are fused in the module share the right one: this form is ours alone.

Legend: as in `forms`; W words, Y bytes, M entries that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kleiber.errors import RunFolderError
from kleiber.models.stored.block import Activations, block_of, own_keys_of, packing_of
from kleiber.models.stored.forms import Form, LowRank, Masked, Quantized, dense_of
from kleiber.models.stored.packing import num_words, pack, pack_mask, unpack, unpack_mask

__all__ = ["decode", "encode"]


def encode(
    weights: Mapping[str, Tensor], forms: Mapping[str, Form], activations: Activations
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return the tensors of a file and the block that says how they are stored, None where all are plain.

    Args:
        weights: All tensors of the model, by the name of each in the file.
        forms: Of some of them, by the same names.
        activations: For the block.
    """
    parts, right_factors = _apart(forms)
    tensors = {name: weight for name, weight in weights.items() if name not in forms}
    for name in right_factors:
        tensors[f"{name}_shape"] = torch.tensor(weights[name].shape)
    packed: dict[str, Quantized | Masked] = {}
    for name, part in parts.items():
        match part:
            case Tensor():
                tensors[name] = part
            case Quantized():
                tensors |= _quantized_tensors(name, part, weights.get(name, part.codes_RC).shape)
                packed[name] = part
            case Masked():
                tensors |= _masked_tensors(name, part, weights[name])
                packed[name] = part
    return tensors, block_of(packed, right_factors, activations)


def decode(
    tensors: Mapping[str, Tensor], block: Mapping[str, Any], where: str
) -> tuple[dict[str, Tensor], dict[str, Form]]:
    """Return the plain weights that a file holds, and the forms of those that are not stored as such.

    Args:
        tensors: Of the file.
        block: Of its config.
        where: The file, for messages.

    Raises:
        RunFolderError: The block is of another tool's layout, or a tensor is missing or of another shape than its weight has.
    """
    own, reader = own_keys_of(block, where), _Reader(tensors, where)
    quantized = {
        name: _read_quantized(reader, name, *packing_of(name, block, where))
        for name in reader.stems("_packed")
    }
    found: dict[str, tuple[Form, Tensor]] = {
        name: _read_masked(reader, name, own.patterns.get(name)) for name in reader.stems(".bitmask")
    }
    factors = {
        name: quantized.pop(name)[0] if name in quantized else reader.take(name).float()
        for name in _factor_names(own.right_factors)
    }
    for name, right_name in own.right_factors.items():
        product = LowRank(factors[f"{name}_left"], factors[right_name])
        found[name] = product, _dense_product(reader, name, product, right_name)
    for name, (form, shape) in quantized.items():
        found[name] = form, form.dense().reshape(shape)
    weights = reader.tensors | {name: weight for name, (_, weight) in found.items()}
    return weights, {name: form for name, (form, _) in found.items()}


def _apart(
    forms: Mapping[str, Form],
) -> tuple[dict[str, Tensor | Quantized | Masked], dict[str, str]]:
    """Return the forms with factors under names of their own, and the name of each product's right one: a shared one once."""
    parts: dict[str, Tensor | Quantized | Masked] = {}
    right_factors: dict[str, str] = {}
    names: dict[int, str] = {}
    for name, form in forms.items():
        if isinstance(form, LowRank):
            right_factors[name] = names.setdefault(id(form.right_KC), f"{name}_right")
            parts |= {f"{name}_left": form.left_RK, right_factors[name]: form.right_KC}
        else:
            parts[name] = form
    return parts, right_factors


def _factor_names(right_factors: Mapping[str, str]) -> set[str]:
    return {f"{name}_left" for name in right_factors} | set(right_factors.values())


class _Reader:
    """The tensors of a file that nothing has been made of yet."""

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self.tensors, self.where = dict(tensors), where

    def stems(self, ending: str) -> list[str]:
        """Return the names of weights that have a tensor with this ending."""
        return [name.removesuffix(ending) for name in self.tensors if name.endswith(ending)]

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return a tensor of a shape, which is not left for others.

        Raises:
            RunFolderError: It is missing or has another shape.
        """
        if name not in self.tensors:
            raise RunFolderError(f"{self.where}: {name} is missing.")
        tensor = self.tensors.pop(name)
        if shape is not None:
            self.require(name, tensor, shape)
        return tensor

    def require(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        """Raise if a tensor has another shape.

        Raises:
            RunFolderError: Naming it, what it must be and what it is.
        """
        if tuple(tensor.shape) != shape:
            raise RunFolderError(f"{self.where}: {name} must be {shape}.", got=tuple(tensor.shape))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that a tensor holds."""
        return tuple(int(size) for size in self.take(name))


def _quantized_tensors(name: str, form: Quantized, shape: torch.Size) -> dict[str, Tensor]:
    scale_RG = form.scale_RG
    half_RG = scale_RG.half()
    tensors = {
        f"{name}_packed": pack(form.codes_RC, form.num_bits),
        f"{name}_scale": half_RG if torch.equal(half_RG.float(), scale_RG) else scale_RG,
        f"{name}_shape": torch.tensor(shape),
    }
    if not form.is_symmetric:
        # Along the rows, as compressed-tensors has it: a row has few groups.
        tensors[f"{name}_zero_point"] = pack(form.zero_RG.T.contiguous(), form.num_bits).T.contiguous()
    return tensors


def _read_quantized(
    reader: _Reader, name: str, num_bits: int, group_size: int
) -> tuple[Quantized, tuple[int, ...]]:
    shape = reader.shape(f"{name}_shape")
    R, C = shape[0], math.prod(shape[1:])
    words_RW = reader.take(f"{name}_packed", (R, num_words(C, num_bits)))
    G = -(-C // group_size) if group_size else 1
    scale_RG = reader.take(f"{name}_scale", (R, G)).float()
    if f"{name}_zero_point" in reader.tensors:
        zeros = reader.take(f"{name}_zero_point", (num_words(R, num_bits), G))
        zero_RG = unpack(zeros.T.contiguous(), num_bits, R).T.contiguous()
    else:
        zero_RG = torch.full((R, G), 2 ** (num_bits - 1), dtype=torch.uint8)
    return Quantized(unpack(words_RW, num_bits, C), scale_RG, zero_RG, num_bits, group_size), shape


def _dense_product(reader: _Reader, name: str, product: LowRank, right_name: str) -> Tensor:
    shape = reader.shape(f"{name}_shape")
    left_RK, right_KC = dense_of(product.left_RK), dense_of(product.right_KC)
    R, C, K = shape[0], math.prod(shape[1:]), right_KC.shape[0]
    reader.require(f"{name}_left", left_RK, (R, K))
    reader.require(right_name, right_KC, (K, C))
    return (left_RK @ right_KC).reshape(shape)


def _masked_tensors(name: str, form: Masked, weight: Tensor) -> dict[str, Tensor]:
    num_kept_R = form.is_kept_RC.sum(1)
    return {
        f"{name}.compressed": weight.reshape(form.is_kept_RC.shape)[form.is_kept_RC],
        f"{name}.bitmask": pack_mask(form.is_kept_RC),
        f"{name}.row_offsets": num_kept_R.cumsum(0) - num_kept_R,
        f"{name}.shape": torch.tensor(weight.shape),
    }


def _read_masked(reader: _Reader, name: str, pattern: tuple[int, int] | None) -> tuple[Masked, Tensor]:
    shape = reader.shape(f"{name}.shape")
    R, C = shape[0], math.prod(shape[1:])
    is_kept_RC = unpack_mask(reader.take(f"{name}.bitmask", (R, -(-C // 8))), C)
    kept_M = reader.take(f"{name}.compressed", (int(is_kept_RC.sum()),))
    reader.take(f"{name}.row_offsets", (R,))
    weight_RC = torch.zeros(R, C, dtype=kept_M.dtype)
    weight_RC[is_kept_RC] = kept_M
    return Masked(is_kept_RC, pattern), weight_RC.reshape(shape)
