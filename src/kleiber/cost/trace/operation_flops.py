"""How many floating-point operations a call of a torch operation does.

Where `torch.utils.flop_counter` has a formula it is used, with two differences:

- attention: under the convention `causal` half of the square is counted when the call says that it is causal. The
  scores that a fused backward pass computes a second time are left out under either convention, as `FlopCount`
  says: backward is twice forward, the same as when attention is spelled out in products (the registry counts
  five products where the gradient needs four);
- convolutions: the registry's gradient of the weights is too large by the number of groups, and of two kernels it
  takes another argument for `transposed`. Here each gradient costs what the forward pass does, as it does there
  without groups.

Added to what the registry has: the fused attention of CPUs and its backward pass; `mv`, `addmv`, `dot`, `addbmm`; grouped,
integer and packed products; the fused linear and convolution of oneDNN; the fused recurrent layers of oneDNN,
cuDNN and MIOpen; torch's fast path of a whole Transformer layer. Composite operations, which inference mode hands over
whole (`linear`, `einsum`, `conv2d`, `lstm`), count what they are made of. Everything else does none: norms,
softmax, activations and optimizers are told by their bytes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kleiber.cost.flops import FlopConvention
from kleiber.cost.operations import OperationKind
from kleiber.cost.trace.operation_kinds import kind_of, operation_name

__all__ = ["Call", "call_flops", "tensors_in"]

_REGISTRY = flop_counter.flop_registry
_aten = torch.ops.aten


def tensors_in(*values: Any) -> list[Tensor]:
    """Return the tensors in nested arguments, in order."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


@dataclass(frozen=True)
class Call:
    """An operation, what it was called with and what it returned."""

    func: Any
    """An overload, or a higher-order operator."""
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    out: Any

    @functools.cached_property
    def named(self) -> dict[str, Any]:
        """Arguments by the names of the schema; those left out are not in it."""
        schema = getattr(self.func, "_schema", None)
        names = [argument.name for argument in schema.arguments] if schema else ["query", "key", "value"]
        return dict(zip(names, self.args, strict=False)) | dict(self.kwargs)

    @functools.cached_property
    def inputs(self) -> list[Tensor]:
        """Tensors among the arguments."""
        return tensors_in(self.args, self.kwargs)

    @functools.cached_property
    def results(self) -> list[Tensor]:
        """Tensors that were returned."""
        return tensors_in(self.out)

    @property
    def is_backward(self) -> bool:
        """Whether it computes gradients."""
        return "backward" in operation_name(self.func)

    def registered_flops(self) -> int | None:
        """Return what torch's own formula says, or None where it has none."""
        formula = _REGISTRY.get(getattr(self.func, "overloadpacket", self.func))
        return None if formula is None else int(formula(*self.args, **self.kwargs, out_val=self.out))


def call_flops(call: Call, convention: FlopConvention = "causal") -> int:
    """Return the operations of a call [FLOP], 2 per multiply-add.

    Args:
        call: What was called.
        convention: Whether causal attention counts half of its square.
    """
    kind = kind_of(call.func)
    if _is_composite(call.func):
        return _flops_of_parts(call, convention)
    if kind == "attention":
        return _attention(call, convention)
    return _FORMULAS[kind](call) if kind in _FORMULAS else 0


@functools.cache
def _is_composite(func: Any) -> bool:
    try:
        return isinstance(func, OpOverload) and func._can_decompose()  # noqa: SLF001 - no public name
    except RuntimeError:  # an operation of TorchScript, of which the dispatcher does not know
        return False


def _flops_of_parts(call: Call, convention: FlopConvention) -> int:
    """Run the parts of a composite operation once more and count those."""
    with _Parts(convention) as parts:
        call.func.decompose(*call.args, **call.kwargs)
    return int(parts.flops)


class _Parts(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's
    def __init__(self, convention: FlopConvention) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self.flops = 0
        self._convention: FlopConvention = convention

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        self.flops += call_flops(Call(func, args, kwargs, out), self._convention)
        return out


def _matmul(call: Call) -> int:
    registered = call.registered_flops()
    if registered is not None:
        return registered
    name = operation_name(call.func)
    if name == "linear_backward":
        num_products = sum(map(int, call.named["output_mask"][:2]))
        return 2 * call.inputs[0].numel() * call.inputs[2].shape[0] * num_products
    # A leading `add` puts a summand before the two factors.
    left, right = call.inputs[1:3] if name.startswith("add") else call.inputs[:2]
    if "grouped" in name and left.ndim == right.ndim == 2:  # the groups divide the inner dimension
        return 2 * left.numel() * right.shape[-1]
    batch = left.shape[0] if name == "addbmm" else 1
    return 2 * batch * call.results[0].numel() * left.shape[-1]


def _convolution(call: Call) -> int:
    named = call.named
    if operation_name(call.func) == "convolution_backward":
        x, weight, result = named["input"], named["weight"], named["grad_output"]
        num_products = sum(map(int, named["output_mask"][:2]))
    else:
        (x, weight), result, num_products = call.inputs[:2], call.results[0], 1
    is_transposed = named.get("transposed", "transpose" in operation_name(call.func))
    return num_products * _sliding_flops(x, weight, result, is_transposed=is_transposed)


def _sliding_flops(x: Tensor, weight: Tensor, result: Tensor, *, is_transposed: bool) -> int:
    """Every value of the result (transposed: of the input) meets the weights of one channel."""
    return 2 * (x if is_transposed else result).numel() * math.prod(weight.shape[1:])


def _attention(call: Call, convention: FlopConvention) -> int:
    if "embed_dim" in call.named:
        return _whole_layer(call)
    flops = _two_products(call)
    is_causal = call.named.get("is_causal") or call.named.get("custom_mask_type")
    if convention == "causal" and is_causal:
        flops //= 2
    return 2 * flops if call.is_backward else flops


def _two_products(call: Call) -> int:
    """Scores, and scores with values, over the whole square; sequences of several lengths one by one."""
    named = call.named
    factors = [named["query"], named["key"], named["value"]]
    for formula, lengths in _FORWARD_FORMULAS.items():
        if lengths[0] in named:
            return int(_REGISTRY[formula](*factors, **{name: named[name] for name in lengths}))
    return int(_REGISTRY[_aten._scaled_dot_product_flash_attention](*factors))  # noqa: SLF001 - torch's name for it


_FORWARD_FORMULAS = {
    _aten._flash_attention_forward: ("cum_seq_q", "cum_seq_k", "max_q", "max_k"),  # noqa: SLF001 - the same
    _aten._efficient_attention_forward: (  # noqa: SLF001 - the same
        "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k", "bias",
    ),
}  # fmt: skip
"""What the formulas of these take beside query, key and value."""


def _whole_layer(call: Call) -> int:
    """Return what torch's fast path does: every matrix on each token, and attention over the whole square."""
    batch, tokens, width = call.inputs[0].shape
    weights = sum(tensor.numel() for tensor in call.inputs if tensor.ndim == 2)
    return 2 * batch * tokens * weights + 4 * batch * tokens * tokens * width


def _recurrent(call: Call) -> int:
    """Each token meets every matrix of the layers once; a cell that is only its gates has no matrices."""
    weights = [value for name, value in call.named.items() if name.startswith(("weight", "params"))]
    num_tokens = math.prod(call.inputs[0].shape[:-1])
    flops = 2 * num_tokens * sum(tensor.numel() for tensor in tensors_in(weights) if tensor.ndim == 2)
    return 2 * flops if call.is_backward else flops


_FORMULAS: dict[OperationKind, Callable[[Call], int]] = {
    "matmul": _matmul,
    "convolution": _convolution,
    "recurrent": _recurrent,
}
