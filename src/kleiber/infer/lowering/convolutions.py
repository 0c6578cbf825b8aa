"""Convolutions in int8 with the norm after them folded in, and as two thin ones.

Legend: R channels out, C channels in times the pixels of the kernel, K rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kleiber.infer.lowering.codes import signed
from kleiber.infer.lowering.graph import Builder, Place
from kleiber.infer.lowering.products import Range, input_grid
from kleiber.models.stored import LowRank, Quantized, dense_of

__all__ = ["end_of", "int8_convolution", "settle_outputs", "thin_convolution"]


def end_of(place: Place) -> tuple[Any | None, Any | None, Any]:
    """Return the norm and the ReLU that alone follow a convolution, as nodes, and what the last of them gives."""
    end = place.output
    norm = _only(end, "BatchNormalization")
    if norm is not None:
        end = norm.outputs[0]
    activation = _only(end, "Relu")
    return norm, activation, end if activation is None else activation.outputs[0]


def int8_convolution(
    place: Place, name: str, form: Quantized, shape: tuple[int, ...], limits: Range
) -> Any | None:
    """Put a convolution of int8 inputs with int8 weights in the place of one, its norm and its ReLU; return what it gives.

    None of weights that have no single scale a channel: nothing is changed then.
    """
    codes_RC = signed(form) if form.scale_RG.shape[1] == 1 else None
    if codes_RC is None:
        return None
    norm, activation, end = end_of(place)
    scale_R, bias_R = form.scale_RG.numpy()[:, 0].astype(np.float64), np.zeros(len(codes_RC))
    if place.bias is not None:
        bias_R = place.bias.const_value.numpy().astype(np.float64)
    if norm is not None:
        gain_R, shift_R = _affine(norm)
        scale_R, bias_R = scale_R * gain_R, bias_R * gain_R + shift_R
    # A channel that the norm turns off has no scale of its own; its codes are of no effect.
    codes_RC = np.where((scale_R == 0)[:, None], 0, codes_RC).astype(np.int8)
    scale_R = np.where(scale_R == 0, 1.0, scale_R)
    builder = Builder(place.node.graph, place.node)
    input_scale, input_zero = input_grid(*limits)
    grid = [
        builder.constant(f"{name}/input_scale", input_scale),
        builder.constant(f"{name}/input_zero", input_zero),
    ]
    x = builder.one("DequantizeLinear", [builder.one("QuantizeLinear", [place.input, *grid]), *grid])
    weight = _dequantized(builder, f"{name}/codes", codes_RC.reshape(shape), scale_R)
    sum_scale_R = scale_R * float(input_scale)
    sums_R = np.clip(np.rint(bias_R / sum_scale_R), -(2**31), 2**31 - 1).astype(np.int32)
    bias = _dequantized(builder, f"{name}/bias_codes", sums_R, sum_scale_R)
    y = builder.one("Conv", [x, weight, bias], place.node.attributes)
    if activation is not None:
        y = builder.one("Relu", [y])
    end.replace_all_uses_with(y, replace_graph_outputs=True)
    return y


def settle_outputs(value: Any, name: str, limits: Range) -> None:
    """Bring what an int8 convolution gives to int8 as well: ONNX Runtime computes it in integers only then.

    Where an int8 layer reads it, on that layer's grid, for every reader; else on one of its own from `limits`.
    """
    readers = [use.node for use in value.uses()]
    quantizers = [node for node in readers if node.op_type == "QuantizeLinear"]
    if not readers or len(quantizers) == len(readers):
        return
    others = [(use.node, use.idx) for use in value.uses() if use.node not in quantizers]
    builder = Builder(
        value.producer().graph, min((node for node, _ in others), key=list(value.producer().graph).index)
    )
    if quantizers:
        grid = list(quantizers[0].inputs[1:])
    else:
        scale, zero = input_grid(*limits)
        grid = [
            builder.constant(f"{name}/output_scale", scale),
            builder.constant(f"{name}/output_zero", zero),
        ]
    back = builder.one("DequantizeLinear", [builder.one("QuantizeLinear", [value, *grid]), *grid])
    for node, index in others:
        node.replace_input_with(index, back)


def thin_convolution(place: Place, name: str, form: LowRank, shape: tuple[int, ...]) -> Any:
    """Put two thin convolutions in the place of one: to K channels, and from each of their pixels; return what they give."""
    right_KC, left_RK = dense_of(form.right_KC).numpy(), dense_of(form.left_RK).numpy()
    builder = Builder(place.node.graph, place.node)
    kernels = builder.constant(f"{name}/right", right_KC.reshape(-1, *shape[1:]).copy())
    mixes = builder.constant(f"{name}/left", left_RK.reshape(*left_RK.shape, *(1,) * (len(shape) - 2)).copy())
    x = builder.one("Conv", [place.input, kernels], place.node.attributes)
    bias = [] if place.bias is None else [place.bias]
    y = builder.one("Conv", [x, mixes, *bias])
    place.output.replace_all_uses_with(y, replace_graph_outputs=True)
    return y


def _dequantized(
    builder: Builder, name: str, codes: npt.NDArray[Any], scale_R: npt.NDArray[np.float64]
) -> Any:
    scale = builder.constant(f"{name}/scale", scale_R.astype(np.float32))
    return builder.one("DequantizeLinear", [builder.constant(name, codes), scale], {"axis": 0})


def _affine(norm: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    gain_R, shift_R, mean_R, var_R = (one.const_value.numpy().astype(np.float64) for one in norm.inputs[1:5])
    epsilon = norm.attributes.get("epsilon")
    whole_R = gain_R / np.sqrt(var_R + (1e-5 if epsilon is None else epsilon.value))
    return whole_R, shift_R - mean_R * whole_R


def _only(value: Any, op_type: str) -> Any | None:
    """Return the node that alone reads a value, if it is of that kind and the value is no output of the graph."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].node.op_type != op_type:
        return None
    return uses[0].node
