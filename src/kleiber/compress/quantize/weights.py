"""All weights of a module in few bits, by one method.

Legend: R rows, C columns, K rank.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from kleiber.compress.calibration import Calibration
from kleiber.compress.in_order import solve_in_order, with_form_
from kleiber.compress.layers import Layer
from kleiber.compress.quantize.clipping import Clipping, least_output_error_range, range_of
from kleiber.compress.quantize.folding import fold_scales_
from kleiber.compress.quantize.gptq import gptq
from kleiber.compress.quantize.hqq import half_quadratic
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Form, Forms, LowRank, Masked, Quantized, dense_of
from kleiber.models.stored.grid import Grid
from kleiber.models.stored.rounding import round_to_nearest

__all__ = ["Method", "MethodName", "QuantizedModule", "quantize_weights"]

MethodName: TypeAlias = Literal["rtn", "gptq", "awq", "hqq"]


@dataclass(frozen=True)
class Method:
    """How codes are chosen."""

    name: MethodName
    clipping: Clipping = "minmax"
    percentile: float = 99.9
    damping_frac: float = 0.01
    has_act_order: bool = True

    @property
    def asks_inputs(self) -> bool:
        """Whether codes depend on what enters the layers."""
        return self.name == "gptq" or (self.name == "awq" and self.clipping == "mse")

    def solve(self, W_RC: Tensor, grid: Grid, H_CC: Tensor | None, is_kept_RC: Tensor | None) -> Quantized:
        """Return a weight in few bits.

        Args:
            W_RC: Weight.
            grid: Bits, groups, symmetry.
            H_CC: Mean of x x^T over the layer's inputs; None rounds without them.
            is_kept_RC: Where False, a weight stays 0; None prunes nothing.
        """
        clip = range_of(self.clipping, self.percentile)
        if self.name == "hqq":
            return half_quadratic(W_RC, grid, clip)
        if self.name == "gptq" and H_CC is not None:
            return gptq(
                W_RC, H_CC, grid, clip=clip, damping_frac=self.damping_frac,
                has_act_order=self.has_act_order, is_kept_RC=is_kept_RC,
            )  # fmt: skip
        if self.name == "awq" and self.clipping == "mse" and H_CC is not None:
            clip = partial(least_output_error_range, H_CC=H_CC)
        return round_to_nearest(W_RC, grid, clip)


@dataclass(frozen=True)
class QuantizedModule:
    """What became of a module."""

    module: FamilyModule
    forms: Forms
    """Of the layers that were asked for."""
    notes: tuple[str, ...]


def quantize_weights(
    module: FamilyModule,
    calibration: Calibration,
    layers: Sequence[Layer],
    *,
    grids: Mapping[str, Grid],
    method: Method,
    forms: Mapping[str, Form],
) -> QuantizedModule:
    """Return a copy of a module whose layers are quantized; their weights are those that the codes stand for.

    Look-up tables, a tied head included, are rounded without regard to inputs: a row is looked up, not multiplied.

    Args:
        module: Left as it was.
        calibration: What GPTQ and AWQ look at.
        layers: Which, in the order of use.
        grids: By name, of each of them.
        method: How.
        forms: How weights are stored so far: what is masked stays zero, of two factors both are quantized.
    """
    module = copy.deepcopy(module)
    notes: tuple[str, ...] = ()
    if method.name == "awq":
        fixed = frozenset(name for name, form in forms.items() if isinstance(form, LowRank))
        scaled = fold_scales_(module, calibration.batches, _matrices(layers, grids), fixed)
        notes = _note_of_unscaled([layer.name for layer in layers if layer.name not in scaled], len(layers))

    def solve(layer: Layer, W_RC: Tensor, H_CC: Tensor | None) -> Form:
        return _solved(W_RC, H_CC, grids[layer.name], method, forms.get(layer.name))

    found: Forms = {}
    if method.asks_inputs:
        multiplied = [layer for layer in layers if layer.kind != "embedding"]
        solved = solve_in_order(module, calibration, multiplied, solve)
        module, found = solved.module, solved.forms
        notes += _note_of_unseen(solved.unseen)
    params = dict(module.named_parameters())
    for layer in layers:
        if layer.name not in found:
            param = params[layer.name]
            found[layer.name] = solve(layer, param.detach().flatten(1), None)
            with_form_(param, found[layer.name])
    return QuantizedModule(module, found, notes)


@torch.no_grad()
def _solved(W_RC: Tensor, H_CC: Tensor | None, grid: Grid, method: Method, form: Form | None) -> Form:
    if isinstance(form, LowRank):
        # The right factor meets the layer's inputs, the left one what comes out of the quantized right one.
        right = method.solve(dense_of(form.right_KC), grid, H_CC, None)
        right_KC = right.dense()
        H_KK = None if H_CC is None else right_KC @ H_CC @ right_KC.T
        return LowRank(method.solve(dense_of(form.left_RK), grid, H_KK, None), right)
    is_kept_RC = form.is_kept_RC if isinstance(form, Masked) else None
    return method.solve(W_RC, grid, H_CC, is_kept_RC)


def _matrices(layers: Sequence[Layer], grids: Mapping[str, Grid]) -> dict[str, Grid]:
    return {layer.name: grids[layer.name] for layer in layers if layer.kind == "linear" and not layer.is_tied}


def _note_of_unscaled(names: Sequence[str], num_layers: int) -> tuple[str, ...]:
    note = (
        f"AWQ scaled {num_layers - len(names)} of {num_layers} layers; nothing before the others can take a scale back, or "
        f"none was better, so they are only rounded: {', '.join(names)}."
    )
    return (note,) if names else ()


def _note_of_unseen(names: Sequence[str]) -> tuple[str, ...]:
    note = f"Only rounded, because calibration gave them no inputs: {', '.join(names)}."
    return (note,) if names else ()
