"""Layers solved one after another, each on the inputs that it gets from those before it as they have become.

Legend: N rows that enter a layer, R rows of its weight, C columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kleiber.compress.calibration import Calibration
from kleiber.compress.inputs import RunningHessian
from kleiber.compress.layers import Layer
from kleiber.compress.paused import PausedPass
from kleiber.compress.uses import Use
from kleiber.errors import DataError
from kleiber.models.family import FamilyModule
from kleiber.models.stored import Form, Forms, Masked
from kleiber.tasks.evaluation import evaluating

__all__ = ["Solve", "Solved", "solve_in_order", "with_form_"]

Solve: TypeAlias = Callable[[Layer, Tensor, Tensor], Tensor | Form]
"""From a layer, its weight [R, C] and the mean of x x^T over its inputs [C, C], neither to be written to, the new weight [R, C]
or how it is stored."""


@dataclass(frozen=True)
class Solved:
    """What became of a module."""

    module: FamilyModule
    """With the new weights."""
    forms: Forms
    """Those that were returned as such."""
    unseen: tuple[str, ...]
    """Layers that calibration gave no inputs, kept as they were: look-up tables, and parts that its samples do not reach."""


def solve_in_order(
    module: FamilyModule, calibration: Calibration, layers: Sequence[Layer], solve: Solve
) -> Solved:
    """Return a copy of a module in which each of the layers is as `solve` makes it, in the order of use.

    A layer is solved at its first use, on what the layers before it give after they were solved.

    Args:
        module: Left as it was.
        calibration: All its batches are under way at once: memory holds what lives between two layers, of each.
        layers: Which.
        solve: Is called once for each layer that gets inputs.

    Raises:
        DataError: What enters a layer is not finite.
    """
    module = copy.deepcopy(module)
    due = {layer.name: layer for layer in layers}
    forms: Forms = {}
    with evaluating(module):
        passes = [PausedPass(module, batch, due) for batch in calibration.batches]
        try:
            _solve_all(module, passes, due, solve, forms)
        finally:
            for one in passes:
                one.close()
    return Solved(module, forms, tuple(due))


def with_form_(parameter: torch.nn.Parameter, form: Tensor | Form) -> None:
    """Write into a parameter what its form stands for: zeros where it is masked, else the whole weight."""
    with torch.no_grad():
        if isinstance(form, Masked):
            parameter.mul_(form.is_kept_RC.view_as(parameter))
        else:
            parameter.copy_((form if isinstance(form, Tensor) else form.dense()).view_as(parameter))


def _solve_all(
    module: FamilyModule, passes: Sequence[PausedPass], due: dict[str, Layer], solve: Solve, forms: Forms
) -> None:
    """Solve until no pass waits before a layer; `due` loses what is solved, `forms` gains it."""
    params = dict(module.named_parameters())
    place = {name: number for number, name in enumerate(due)}
    for one in passes:
        one.advance()
    while uses := [one.use for one in passes if one.use is not None]:
        # Passes may differ in which layers they meet: the earliest first, others wait.
        name = min((use.name for use in uses), key=place.__getitem__)
        waiting = [one for one in passes if one.use is not None and one.use.name == name]
        H_CC = _hessian([use for use in uses if use.name == name])
        layer = due.pop(name)
        result = solve(layer, params[name].detach().flatten(1), H_CC)
        with_form_(params[name], result)
        if not isinstance(result, Tensor):
            forms[name] = result
        for one in waiting:
            if due:
                one.advance()
            else:
                one.use = None


def _hessian(uses: Sequence[Use]) -> Tensor:
    hessian = RunningHessian()
    for use in uses:
        hessian.add(use.rows())
    H_CC = hessian.mean()
    if not bool(H_CC.isfinite().all()):
        raise DataError(f"calibration data gave {uses[0].name} inputs that are NaN or infinite.")
    return H_CC
