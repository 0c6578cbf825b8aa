"""What goes into the layers of a module, and sums of it; nothing is kept but the sums.

Legend: N rows that enter a layer (tokens, or positions of a convolution), C its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import torch
from torch import Tensor, nn

from kleiber.compress.uses import Use, watched
from kleiber.data import Batch

__all__ = ["RunningHessian", "hessians", "input_norms", "visit_inputs"]


class RunningHessian:
    """The mean of x x^T over rows that come in parts."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._sum_CC: Tensor | None = None

    def add(self, x_NC: Tensor) -> None:
        """Take more rows."""
        x_NC = x_NC.to(torch.float32)
        # Sums of many rows outgrow float32; those of one part do not, and its products are half the work there.
        part_CC = (x_NC.T @ x_NC).to(torch.float64)
        self._sum_CC = part_CC if self._sum_CC is None else self._sum_CC.add_(part_CC)
        self._num_rows += len(x_NC)

    def mean(self) -> Tensor:
        """Return the mean over the rows so far, at least one, [C, C] float32."""
        if self._sum_CC is None:
            raise AssertionError("no rows were added")
        return (self._sum_CC / self._num_rows).to(torch.float32)


def visit_inputs(
    module: nn.Module, batches: Iterable[Batch], names: Collection[str], visit: Callable[[str, Tensor], None]
) -> None:
    """Show `visit` the name of a layer and the rows [N, C] that enter it, use by use, over all batches.

    Args:
        module: Is run in evaluation mode.
        batches: Each is one forward pass.
        names: Of weights; look-ups of an embedding have no rows and are passed over.
        visit: Must not keep the rows: they are the module's own memory.
    """

    def see(use: Use) -> None:
        if use.name in names and use.has_rows:
            visit(use.name, use.rows())

    for batch in batches:
        watched(module, batch, see)


def hessians(module: nn.Module, batches: Iterable[Batch], names: Collection[str]) -> dict[str, Tensor]:
    """Return the mean of x x^T over the rows that enter each layer, [C, C] float32; a layer that saw none is left out.

    It is half the Hessian of the mean squared error of the layer's outputs in each row of its weight.
    """
    running: dict[str, RunningHessian] = {}

    def visit(name: str, x_NC: Tensor) -> None:
        running.setdefault(name, RunningHessian()).add(x_NC)

    visit_inputs(module, batches, names, visit)
    return {name: hessian.mean() for name, hessian in running.items()}


def input_norms(module: nn.Module, batches: Iterable[Batch], names: Collection[str]) -> dict[str, Tensor]:
    """Return the root mean square of each column that enters a layer, [C] float32; a layer that saw none is left out.

    It is the norm that Wanda takes, over the root of the number of rows, which changes no comparison within a layer.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def visit(name: str, x_NC: Tensor) -> None:
        counts[name] = counts.get(name, 0) + len(x_NC)
        square_C = x_NC.to(torch.float64).square().sum(0)
        sums[name] = sums[name] + square_C if name in sums else square_C

    visit_inputs(module, batches, names, visit)
    return {name: (total / counts[name]).sqrt().float() for name, total in sums.items()}
