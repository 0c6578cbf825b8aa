"""What kernels hold beside the tensors that the framework sees, on x86 with oneDNN.

Convolutions and recurrent layers run on tensors laid out anew, in blocks of 16 channels: those copies live as long as the kernel runs.
The formulas count them; `docs/log.md` has what was measured beside each. Other kernels hold less than a megabyte, or buffers that the
libraries make once and keep.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "AUTOGRAD_NODE_BYTES",
    "FIRST_STEP_BYTES",
    "PRIMITIVE_BYTES",
    "reserved_bytes",
    "uses_primitive",
    "workspace_bytes",
]

FIRST_STEP_BYTES = 1_000_000
"""Kept after a process's first step of any model: objects of the interpreter."""
AUTOGRAD_NODE_BYTES = 900
"""Of an operation that autograd will run backward: its node (570 bytes) and the objects of the tensor that it saves."""
PRIMITIVE_BYTES = 150_000
"""Kept of a convolution or recurrent layer of sizes that were not seen before: its compiled kernels."""

_BLOCK = 16
"""Channels of a block: one AVX-512 register of fp32."""


def workspace_bytes(func: Callable[..., Any], args: tuple[Any, ...], out: Any) -> int:
    """Return the most that a call holds beside its arguments and results while it runs [bytes].

    Args:
        func: The overload that was called.
        args: Its arguments.
        out: What it returned.
    """
    formula = _FORMULAS.get(_name_of(func))
    return 0 if formula is None else max(0, formula(args, out))


def uses_primitive(func: Callable[..., Any]) -> bool:
    """Return whether oneDNN compiles kernels for each new size of this operation."""
    return _name_of(func) in _FORMULAS and "attention" not in _name_of(func)


def _name_of(func: Callable[..., Any]) -> str:
    return str(getattr(func, "overloadpacket", func)).removeprefix("aten.")


def reserved_bytes(func: Callable[..., Any], args: tuple[Any, ...], out: Any) -> list[tuple[Tensor, int]]:
    """Return results whose memory fakes do not know, with what the real ones take [bytes].

    A recurrent layer that will be trained returns a reserve for its backward pass: four gates and the state of
    each token.
    """
    if func is not torch.ops.aten.mkldnn_rnn_layer.default:
        return []
    steps, batch, hidden, _ = _recurrent_sizes(args, out)
    is_trained = args[_IS_TRAINED]
    return [(out[3], 4 * batch * hidden * (4 * steps + steps + 1))] if is_trained else []


_IS_TRANSPOSED = 6
"""Index of the argument `transposed` of `convolution`."""
_IS_TRAINED = 15
"""Index of the argument `train` of `mkldnn_rnn_layer`."""


def _recurrent_sizes(args: tuple[Any, ...], out: Any) -> tuple[int, int, int, int]:
    """Return steps, batch, hidden size and bytes of the layer's weights."""
    result = out[0]
    steps, batch = result.shape[0], result.shape[1]
    return steps, batch, result.shape[-1], _bytes(args[1]) + _bytes(args[2])


def _recurrent(args: tuple[Any, ...], out: Any) -> int:
    # The weights packed, and the products of all steps with the input: four gates when they are kept, one when not.
    steps, batch, hidden, weights = _recurrent_sizes(args, out)
    return weights + 4 * steps * batch * hidden * (4 if args[_IS_TRAINED] else 1)


def _recurrent_backward(args: tuple[Any, ...], out: Any) -> int:
    # The weights packed and their gradients unpacked; gradients of the four gates.
    inputs, first, second = args[0], args[1], args[2]
    del out
    hidden = first.shape[0] // 4
    gates: int = 16 * inputs.shape[0] * inputs.shape[1] * hidden
    return 2 * (_bytes(first) + _bytes(second)) + gates


def _convolution(args: tuple[Any, ...], out: Tensor) -> int:
    inputs, weight = args[0], args[1]
    if _is_channels_last(inputs):
        return 0
    result = _blocked_bytes(out)
    if args[_IS_TRANSPOSED]:
        return 2 * result
    # First input, weights and result in blocks; then the result in blocks and as it is returned.
    return max(_input_bytes(inputs) + _bytes(weight) + result - _bytes(out), result)


def _convolution_backward(args: tuple[Any, ...], out: tuple[Tensor | None, ...]) -> int:
    grad, inputs, weight = args[0], args[1], args[2]
    if _is_channels_last(inputs):
        return 0
    returned = sum(_bytes(part) for part in out if part is not None)
    blocks = _blocked_bytes(grad)
    of_inputs = blocks + _bytes(weight) + _blocked_bytes(inputs) if out[0] is not None else 0
    of_weights = (
        (_bytes(out[0]) if out[0] is not None else 0) + _input_bytes(inputs) + blocks + _bytes(weight)
    )
    # Last, the gradient of the weights in blocks beside the plain one.
    return max(of_inputs, of_weights, returned + _bytes(weight)) - returned


def _input_bytes(tensor: Tensor) -> int:
    """Return what an input takes in blocks; few channels, such as those of images, are read as they lie."""
    return 0 if tensor.shape[1] <= 4 else _blocked_bytes(tensor)


def _blocked_bytes(tensor: Tensor) -> int:
    batch, channels, *space = tensor.shape
    return math.prod((batch, -(-channels // _BLOCK) * _BLOCK, *space)) * tensor.element_size()


def _is_channels_last(tensor: Tensor) -> bool:
    return (
        tensor.ndim == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _attention_backward(args: tuple[Any, ...], out: tuple[Tensor, ...]) -> int:
    del out
    grad = args[0]
    # The gradient of the result, laid out as the kernel wants it: tokens before heads.
    return 0 if grad.transpose(1, 2).is_contiguous() else _bytes(grad)


_FORMULAS: dict[str, Callable[[tuple[Any, ...], Any], int]] = {
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "mkldnn_rnn_layer": _recurrent,
    "mkldnn_rnn_layer_backward": _recurrent_backward,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}
