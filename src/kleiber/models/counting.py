"""What one call of a model needs at least, counted: operations, and bytes that it must read.

Legend: R rows, C columns, G groups of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kleiber.cost.call_limit import CallCost
from kleiber.cost.kv_cache import kv_cache_bytes
from kleiber.models import Spec
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.seen_data import blocks_of, keeps_cache

if TYPE_CHECKING:
    from torch import Tensor

    from kleiber.models.family import FamilyModule
    from kleiber.models.stored import Activations, Form, Forms, Quantized

__all__ = ["Counted", "weight_bytes"]

_FP32, _FP16 = 4, 2


def weight_bytes(weight: Tensor, form: Form | None) -> float:
    """Return what a weight takes where it is read from memory [bytes].

    Codes in their bits, scales in fp16 where that holds them exactly, zeros where codes are not symmetric. Zeros that were
    pruned are read as other numbers are.

    Args:
        weight: fp32.
        form: How it is stored; None as it is.

    Example:
        >>> import torch
        >>> weight_bytes(torch.zeros(2, 3), None)
        24.0
    """
    from kleiber.models.stored import LowRank, Quantized  # noqa: PLC0415 - brings torch, which a plan of a size needs not

    if isinstance(form, Quantized):
        (R, C), G = form.codes_RC.shape, form.scale_RG.shape[1]
        scale = _FP16 if form.scale_RG.half().float().equal(form.scale_RG) else _FP32
        zeros = 0.0 if form.is_symmetric else R * G * form.num_bits / 8
        return R * C * form.num_bits / 8 + R * G * scale + zeros
    if isinstance(form, LowRank):
        return sum(_factor_bytes(factor) for factor in (form.left_RK, form.right_KC))
    return float(_FP32 * weight.numel())


def _factor_bytes(factor: Tensor | Quantized) -> float:
    from kleiber.models.stored import Quantized  # noqa: PLC0415 - the same

    if isinstance(factor, Quantized):
        return weight_bytes(factor.codes_RC, factor)
    return float(_FP32 * factor.numel())


@dataclass(frozen=True)
class Counted:
    """A model whose calls can be counted."""

    spec: Spec
    expert_bytes: float
    """Of the weights that only some tokens meet: a mixture's experts."""
    other_bytes: float
    """Of those that every call reads; tables that are only looked up are left out."""
    cache_value_bytes: int
    """Of a feature of a key or value."""

    @classmethod
    def of(cls, module: FamilyModule, spec: Spec, forms: Forms, activations: Activations) -> Counted:
        """Return what is counted of a model.

        Args:
            module: Its weights are those that the forms stand for.
            spec: Of the module.
            forms: How weights are stored in this precision.
            activations: How a decoder's keys and values are held.
        """
        tables = set(module.param_groups().embedding)
        if keeps_cache(spec) and spec.count().is_tied:  # the head reads its table whole
            tables = tables - {"embedding"} if isinstance(spec, GPTSpec) else set()
        read = {
            name: weight_bytes(param.detach(), forms.get(name))
            for name, param in module.named_parameters()
            if name not in tables
        }
        experts = sum(num_bytes for name, num_bytes in read.items() if "experts." in name)
        value = _FP32 if activations.cache_bits is None else 1
        return cls(spec, experts, sum(read.values()) - experts, value)

    @classmethod
    def of_size(cls, spec: GPTSpec) -> Counted:
        """Return what is counted of a dense decoder in fp32 that is not built.

        Example:
            >>> spec = GPTSpec.from_dial({"depth": 2, "width": 64}, vocab_size=300, context=64)
            >>> Counted.of_size(spec).other_bytes == 4 * spec.count().total  # the head is the table
            True
        """
        count = spec.count()
        return cls(spec, 0.0, _FP32 * (count.total - (0 if count.is_tied else count.embedding)), _FP32)

    def prefill(self, batch: int, num_tokens: int) -> CallCost:
        """Return the cost of a prompt whose last token alone asks for logits: the head works on one token of each sequence."""
        flops = self.spec.flops(batch, num_tokens).forward
        blocks = blocks_of(self.spec)
        head = 2 * blocks.vocab_size * blocks.width if blocks else 0
        return CallCost(flops - batch * (num_tokens - 1) * head, self._weights(batch * num_tokens))

    def decode(self, batch: int, num_before: float) -> CallCost:
        """Return the cost of one more token of each sequence.

        A token multiplies by every matrix and attends to all tokens up to itself: the share of one token in a whole sequence
        whose square of attention is counted in full.

        Args:
            batch: Sequences.
            num_before: Tokens that each has read; a mean may have a half.
        """
        length = num_before + 1
        whole = round(length)
        flops = batch * self.spec.flops(1, whole, convention="full").forward / whole
        blocks = blocks_of(self.spec)
        kept = kv_cache_bytes(blocks, batch, whole, value_bytes=self.cache_value_bytes) if blocks else 0
        return CallCost(flops, self._weights(batch) + kept)

    def forward(self, batch: int) -> CallCost:
        """Return the cost of whole samples."""
        return CallCost(self.spec.flops(batch).forward, self._weights(batch))

    def _weights(self, num_tokens: int) -> float:
        """Return what is read of the weights: of experts those that so many tokens are expected to meet."""
        spec = self.spec
        if not (isinstance(spec, GPTSpec) and spec.is_mixture):
            return self.other_bytes + self.expert_bytes
        missed = (1 - spec.experts_per_token / spec.num_experts) ** num_tokens
        return self.other_bytes + (1 - missed) * self.expert_bytes
