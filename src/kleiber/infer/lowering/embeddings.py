"""Tables whose rows are looked up while they are int8.

Legend: R rows, C columns, G groups of a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kleiber.infer.lowering.graph import Builder
from kleiber.infer.lowering.products import Product, dense
from kleiber.models.stored import LowRank, Quantized, dense_of

__all__ = ["looked_up"]


def looked_up(name: str, form: Quantized | LowRank) -> Product | None:
    """Return the look-up of rows of a table; None where the groups of a row are not of one size.

    Codes of fewer bits than eight are held in eight: a row is read, not multiplied by.
    """
    if isinstance(form, LowRank):
        return _thin(name, form)
    R, C = form.codes_RC.shape
    G = form.scale_RG.shape[1]
    if G * form.group_size != C:
        return None
    codes, zero, scale = form.codes_RC.numpy(), form.zero_RG.numpy(), form.scale_RG.numpy()
    middle = 2 ** (form.num_bits - 1)
    is_symmetric = bool((zero == middle).all())
    if is_symmetric:
        codes = (codes.astype(np.int16) - middle).astype(np.int8)

    def build(builder: Builder, rows: Any) -> Any:
        table = builder.constant(f"{name}/row_codes", codes.reshape(R, G, C // G))
        x = _as_float(builder, builder.one("Gather", [table, rows]))
        if not is_symmetric:
            zeros = builder.one("Gather", [builder.constant(f"{name}/row_zero", zero[:, :, None]), rows])
            x = builder.one("Sub", [x, _as_float(builder, zeros)])
        scales = builder.one(
            "Gather", [builder.constant(f"{name}/row_scale", scale[:, :, None].copy()), rows]
        )
        x = builder.one("Mul", [x, scales])
        flat = builder.constant(f"{name}/width", np.array([C], np.int64))
        shape = builder.one("Concat", [builder.one("Shape", [rows]), flat], {"axis": 0})
        return builder.one("Reshape", [x, shape])

    return build


def _thin(name: str, form: LowRank) -> Product:
    left, right = dense_of(form.left_RK).numpy(), dense_of(form.right_KC).numpy()

    def build(builder: Builder, rows: Any) -> Any:
        x = builder.one("Gather", [builder.constant(f"{name}/rows", left.copy()), rows])
        return dense(f"{name}/rows/right", right.T)(builder, x)

    return build


def _as_float(builder: Builder, x: Any) -> Any:
    return builder.one("Cast", [x], {"to": 1})
