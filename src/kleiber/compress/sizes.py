"""Sizes of a model in its forms: numbers, bytes, multiply-adds.

Legend: R rows, C columns, G groups of a row, K rank of two factors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kleiber.compress.subject import Subject
from kleiber.compress.uses import Use, watched
from kleiber.data import Batch
from kleiber.models.stored import Form, Forms, LowRank, Masked, Quantized, dense_of
from kleiber.models.stored.packing import num_words
from kleiber.runs.receipt import ReceiptSide

__all__ = ["counted_side", "predicted_bytes"]

_BYTES = {"fp32": 4, "fp16": 2, "word": 4, "int64": 8}


def counted_side(subject: Subject, sample: Batch, stored_bytes: int) -> ReceiptSide:
    """Return what can be counted of a model.

    Args:
        subject: The model.
        sample: One sample, to see how often two factors stand in for a weight.
        stored_bytes: Of its folder.
    """
    nums = [_numbers(param, subject.forms.get(name)) for name, param in subject.module.named_parameters()]
    num_params = sum(one.numel() for parts in nums for one in parts)
    return ReceiptSide(
        num_params=num_params,
        num_nonzero=sum(int(one.count_nonzero()) for parts in nums for one in parts),
        raw_bytes=_BYTES["fp32"] * num_params,
        stored_bytes=stored_bytes,
        macs=subject.spec.flops(1).forward // 2 - _macs_saved(subject, sample),
    )


def predicted_bytes(module: torch.nn.Module, forms: Forms) -> int:
    """Return the bytes that a model's tensors will take in a file, without the names that stand before them.

    Example:
        >>> predicted_bytes(torch.nn.Linear(10, 3), {})
        132
    """
    params = dict(module.named_parameters())
    # A tied weight has two names in the state and one among the parameters.
    known = {one.data_ptr() for one in params.values()}
    num_bytes = sum(_bytes(param, forms.get(name)) for name, param in params.items())
    for name, buffer in module.state_dict().items():
        if name not in params and buffer.data_ptr() not in known:
            num_bytes += int(buffer.nbytes)
    return num_bytes


def _numbers(param: Tensor, form: Form | None) -> tuple[Tensor, ...]:
    if isinstance(form, LowRank):
        return dense_of(form.left_RK), dense_of(form.right_KC)
    return (param.detach(),)


def _bytes(param: Tensor, form: Form | None) -> int:
    match form:
        case Quantized():
            return _quantized_bytes(form) + _shape_bytes(param)
        case Masked():
            R, C = form.is_kept_RC.shape
            kept = _BYTES["fp32"] * int(form.is_kept_RC.sum())
            return kept + R * -(-C // 8) + _BYTES["int64"] * R + _shape_bytes(param)
        case LowRank():
            return _factor_bytes(form.left_RK) + _factor_bytes(form.right_KC) + _shape_bytes(param)
        case None:
            return param.nbytes


def _shape_bytes(param: Tensor) -> int:
    return _BYTES["int64"] * param.ndim


def _factor_bytes(factor: Tensor | Quantized) -> int:
    # A factor in few bits has a shape of its own.
    return _quantized_bytes(factor) + 2 * _BYTES["int64"] if isinstance(factor, Quantized) else factor.nbytes


def _quantized_bytes(form: Quantized) -> int:
    (R, C), G = form.codes_RC.shape, form.scale_RG.shape[1]
    scale_RG = form.scale_RG
    scale = _BYTES["fp16"] if torch.equal(scale_RG.half().float(), scale_RG) else _BYTES["fp32"]
    zeros = 0 if form.is_symmetric else _BYTES["word"] * G * num_words(R, form.num_bits)
    return _BYTES["word"] * R * num_words(C, form.num_bits) + scale * R * G + zeros


def _macs_saved(subject: Subject, sample: Batch) -> int:
    """Return the multiply-adds that factors save on one sample: of each row that enters, R C less K (R + C)."""
    factors = {name: form for name, form in subject.forms.items() if isinstance(form, LowRank)}
    saved = 0

    def see(use: Use) -> None:
        nonlocal saved
        if use.name in factors and use.has_rows:
            form = factors[use.name]
            R, C = len(use.weight), use.weight[0].numel()
            K = len(dense_of(form.right_KC))
            saved += len(use.rows()) * (R * C - K * (R + C))

    if factors:
        watched(subject.module, sample, see)
    return saved
