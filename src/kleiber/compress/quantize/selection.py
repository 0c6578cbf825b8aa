"""What a model's weights allow: what is refused, and what its file takes beside what is chosen."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import nn

from kleiber.compress.layers import Layer
from kleiber.errors import RecipeError
from kleiber.models.stored import Form, Forms, LowRank, Masked, Quantized
from kleiber.models.stored.grid import Grid

__all__ = ["matrix_shapes", "plain_bytes", "require_unquantized", "uneven_note"]

_FP32_BYTES = 4


def require_unquantized(forms: Forms) -> None:
    """Raise if a weight is in few bits.

    Raises:
        RecipeError: Naming the first.
    """
    for name, form in forms.items():
        factors = (form.left_RK, form.right_KC) if isinstance(form, LowRank) else (form,)
        for factor in factors:
            if isinstance(factor, Quantized):
                raise RecipeError(
                    "quantize takes a model whose weights are not quantized yet: codes of codes would lose twice.",
                    got=f"{name} in {factor.num_bits} bits",
                    hint="the run that the model was made from",
                )


def matrix_shapes(layer: Layer, form: Form | None) -> list[tuple[int, int]]:
    """Return rows and columns of what is stored of a layer: its weight, or its two factors."""
    if isinstance(form, LowRank):
        return [_shape(form.left_RK), _shape(form.right_KC)]
    return [layer.matrix_shape]


def plain_bytes(module: nn.Module, forms: Forms, quantized: Collection[str]) -> int:
    """Return the bytes that all tensors of a module but the quantized ones take in a file: fp32, without masked zeros."""
    params = dict(module.named_parameters())
    shared = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    total: int = sum(tensor.nbytes for name, tensor in module.state_dict().items() if name not in shared)
    for name, param in params.items():
        if name not in quantized:
            total += _form_bytes(forms[name]) if name in forms else param.nbytes
    return total


def uneven_note(layers: Sequence[Layer], grids: dict[str, Grid]) -> tuple[str, ...]:
    """Return a sentence on layers whose columns a group's size does not divide, if there are any."""
    lasts = {}
    for layer in layers:
        asked, columns = grids[layer.name].group_size, layer.matrix_shape[1]
        if asked and columns > asked and columns % asked:
            lasts[columns] = asked
    return tuple(
        f"Groups of {size} columns do not divide {columns}: the last of a row has {columns % size}, which other readers of the "
        "file may refuse."
        for columns, size in lasts.items()
    )


def _form_bytes(form: Form) -> int:
    if isinstance(form, Masked):
        R, C = _shape(form.is_kept_RC)
        return _FP32_BYTES * int(form.is_kept_RC.sum()) + R * -(-C // 8)
    factors = (form.left_RK, form.right_KC) if isinstance(form, LowRank) else ()
    return _FP32_BYTES * sum(rows * columns for rows, columns in map(_shape, factors))


def _shape(factor: torch.Tensor | Quantized) -> tuple[int, int]:
    rows, columns = (factor.codes_RC if isinstance(factor, Quantized) else factor).shape
    return rows, columns
