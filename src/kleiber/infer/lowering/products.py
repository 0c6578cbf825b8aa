"""Products with weights in few bits, as each engine runs them fast.

Legend: N rows of inputs, R rows of a weight (outputs), C columns (inputs), G groups of a row.
What is fast was measured on a CPU with 8-bit dot products: ONNX Runtime has kernels for MatMulNBits and for products of
integers, and would multiply by what DequantizeLinear gives of four bits in fp32, at a hundredth of their speed. OpenVINO keeps
dequantized constants as they are stored and brings inputs to int8 by itself; it has no fast products of integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kleiber.infer.lowering.codes import blocks_of, signed, widened
from kleiber.infer.lowering.graph import Builder
from kleiber.models.stored import Quantized

__all__ = ["Product", "Range", "dense", "dynamic_int8", "input_grid", "static_int8", "weights_only"]

Range: TypeAlias = tuple[float, float]
"""Least and greatest number that enters a layer."""
Product: TypeAlias = Callable[[Builder, Any], Any]
"""Puts the nodes of a product before a place, given its input; returns its output."""

_INT8_PRODUCTS = 4
"""`accuracy_level` of MatMulNBits at which inputs become int8 by block: up to three hundred times faster than without."""


def dense(name: str, weight_RC: npt.NDArray[np.float32]) -> Product:
    """Return the product with a weight in fp32."""

    def build(builder: Builder, x: Any) -> Any:
        return builder.one("MatMul", [x, builder.constant(f"{name}/transposed", weight_RC.T.copy())])

    return build


def input_grid(low: float, high: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Return the scale and the zero of 256 steps from `low` to `high`; 0 is one of them.

    Example:
        >>> scale, zero = input_grid(-1.0, 1.55)
        >>> round(float(scale), 6), int(zero)
        (0.01, 100)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    # In the precision that the graph holds it in, where a range too narrow for it is none.
    scale = np.array((high - low) / 255, np.float32)
    scale = scale if scale > 0 else np.array(1, np.float32)
    return scale, np.array(min(round(-low / float(scale)), 255), np.uint8)


def static_int8(name: str, form: Quantized, limits: Range) -> Product | None:
    """Return the product of int8 inputs on a fixed grid with int8 weights of one scale a row; None of other weights."""
    codes_RC = _per_row(form)
    if codes_RC is None:
        return None
    scale, zero = input_grid(*limits)

    def build(builder: Builder, x: Any) -> Any:
        grid = [builder.constant(f"{name}/input_scale", scale), builder.constant(f"{name}/input_zero", zero)]
        x = builder.one("DequantizeLinear", [builder.one("QuantizeLinear", [x, *grid]), *grid])
        weight = [
            builder.constant(f"{name}/codes", codes_RC.T.copy()),
            builder.constant(f"{name}/scale", form.scale_RG.numpy()[:, 0].copy()),
        ]
        return builder.one("MatMul", [x, builder.one("DequantizeLinear", weight, {"axis": 1})])

    return build


def dynamic_int8(engine: str, name: str, form: Quantized) -> Product | None:
    """Return the product of inputs, int8 by the range of each batch, with int8 weights of one scale a row; None of others."""
    codes_RC = _per_row(form)
    if codes_RC is None:
        return None
    if engine == "openvino":
        return weights_only(engine, name, form)

    def build(builder: Builder, x: Any) -> Any:
        x, scale, zero = builder.op("DynamicQuantizeLinear", [x], num_outputs=3)
        weight = builder.constant(f"{name}/codes", codes_RC.T.copy())
        no_zero = builder.constant(f"{name}/zero", np.array(0, np.int8))
        sums = builder.one("MatMulInteger", [x, weight, zero, no_zero])
        row_scale = builder.constant(f"{name}/scale", form.scale_RG.numpy()[:, 0].copy())
        return builder.one(
            "Mul", [builder.one("Cast", [sums], {"to": 1}), builder.one("Mul", [scale, row_scale])]
        )

    return build


def weights_only(engine: str, name: str, form: Quantized) -> Product | None:
    """Return the product with weights of four or eight bits; None where the engine cannot have their groups."""
    if engine == "openvino" and (product := _decompressed(name, form)) is not None:
        return product
    return _in_blocks(name, form)


def _in_blocks(name: str, form: Quantized) -> Product | None:
    blocks = blocks_of(form)
    if blocks is None:
        return None
    attributes, codes, scales, zeros = blocks

    def build(builder: Builder, x: Any) -> Any:
        inputs = [x, builder.constant(f"{name}/codes", codes), builder.constant(f"{name}/scale", scales)]
        if zeros is not None:
            inputs.append(builder.constant(f"{name}/zero", zeros))
        settings = attributes | {"accuracy_level": _INT8_PRODUCTS}
        return builder.one("MatMulNBits", inputs, settings, domain="com.microsoft")

    return build


def _decompressed(name: str, form: Quantized) -> Product | None:
    R, C = form.codes_RC.shape
    G = form.scale_RG.shape[1]
    if G * form.group_size != C:
        return None
    num_bits, codes_RC, zero_RG = widened(form)
    is_symmetric = zero_RG is None
    dtype = _dtype(num_bits if C % 2 == 0 else 8, is_signed=is_symmetric)
    if zero_RG is None:
        codes = (codes_RC.astype(np.int16) - 2 ** (num_bits - 1)).astype(np.int8).astype(dtype)
    else:
        codes = codes_RC.astype(dtype)

    def build(builder: Builder, x: Any) -> Any:
        # One scale a row is said in one dimension, several in two with the size of a group.
        shape, attributes = ((R,), {"axis": 0}) if G == 1 else ((R, G), {"axis": 1, "block_size": C // G})
        weight = [
            builder.constant(f"{name}/codes", codes),
            builder.constant(f"{name}/scale", form.scale_RG.numpy().reshape(shape).copy()),
        ]
        if zero_RG is not None:
            weight.append(builder.constant(f"{name}/zero", zero_RG.astype(dtype).reshape(shape)))
        back = builder.one("DequantizeLinear", weight, attributes)
        return builder.one("MatMul", [x, builder.one("Transpose", [back], {"perm": [1, 0]})])

    return build


def _dtype(num_bits: int, *, is_signed: bool) -> Any:
    import ml_dtypes  # noqa: PLC0415 - comes with onnx, of an extra

    if num_bits == 8:
        return np.int8 if is_signed else np.uint8
    return ml_dtypes.int4 if is_signed else ml_dtypes.uint4


def _per_row(form: Quantized) -> npt.NDArray[np.int8] | None:
    return signed(form) if form.scale_RG.shape[1] == 1 else None
