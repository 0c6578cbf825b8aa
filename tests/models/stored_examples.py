"""Forms for the tests of stored weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kleiber.models.stored import Form, Forms, LowRank, Masked, Quantized


def rounded(
    weight: Tensor, *, num_bits: int = 4, num_groups: int = 1, is_symmetric: bool = False
) -> Quantized:
    """Return a weight to the nearest code, scales in fp16."""
    weight_RC = weight.detach().reshape(len(weight), -1)
    R, C = weight_RC.shape
    size = -(-C // num_groups)
    padded = nn.functional.pad(weight_RC, (0, -C % size)).reshape(R, -1, size)
    top = 2**num_bits - 1
    if is_symmetric:
        scale_RG = padded.abs().amax(2) / (top // 2)
        zero_RG = torch.full_like(scale_RG, 2 ** (num_bits - 1))
    else:
        low, high = padded.amin(2).clamp(max=0), padded.amax(2).clamp(min=0)
        scale_RG = (high - low) / top
    scale_RG = scale_RG.clamp(min=2**-14).half().float()
    if not is_symmetric:
        zero_RG = (-low / scale_RG).round().clamp(0, top)
    codes = (padded / scale_RG[..., None] + zero_RG[..., None]).round().clamp(0, top)
    return Quantized(codes.reshape(R, -1)[:, :C].byte(), scale_RG, zero_RG.byte(), num_bits)


def mixed_forms_(module: nn.Module) -> Forms:
    """Give the parameters of two and more dimensions forms of all kinds by turns, and the weights that these stand for."""
    forms: Forms = {}
    matrices = [(name, param) for name, param in module.named_parameters() if param.ndim > 1]
    for index, (name, param) in enumerate(matrices):
        forms[name] = _form(param.detach().reshape(len(param), -1), index)
        set_(param, forms[name])
    return forms


def set_(param: nn.Parameter, form: Form) -> None:
    with torch.no_grad():
        if isinstance(form, Masked):
            param.mul_(form.is_kept_RC.reshape(param.shape))
        else:
            param.copy_(form.dense().reshape(param.shape))


def _form(weight_RC: Tensor, index: int) -> Form:
    match index % 4:
        case 0:
            return rounded(weight_RC, num_bits=2 + index % 7, num_groups=min(2, weight_RC.shape[1]))
        case 1:
            return Masked(weight_RC > 0, (2, 4) if index % 8 == 1 else None)
        case 2:
            return rounded(weight_RC, num_bits=8 - index % 7, is_symmetric=True)
        case _:
            left, values, right = torch.linalg.svd(weight_RC, full_matrices=False)
            factors = (left[:, :2] * values[:2], right[:2])
            return (
                LowRank(*(rounded(part, num_bits=8) for part in factors))
                if index % 8 == 3
                else LowRank(*factors)
            )


def assert_same(found: Form, wanted: Form) -> None:
    """Fail unless two forms hold the same numbers."""
    assert type(found) is type(wanted)
    for name, value in vars(wanted).items():
        other = vars(found)[name]
        if isinstance(value, Quantized):
            assert_same(other, value)
        elif isinstance(value, Tensor):
            assert torch.equal(other, value)
        else:
            assert other == value
