"""What is minimized when a module that somebody brings does not say so itself.

Legend: B samples, C classes, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.errors import RecipeError, nearest
from kleiber.models.foreign.inputs import numbers, whole_numbers

__all__ = ["LOSSES", "find_loss", "main_output"]


def automatic(output: Any) -> Tensor:
    """Return the module's own loss; without one, cross-entropy of [B, C] and [B, T, C], else mean square."""
    own = _own_loss(output)
    if own is not None:
        return own
    if (logits := _entry(output, "logits_per_image")) is not None:
        return _contrastive(logits)
    values = main_output(output)
    if values.ndim == 0:
        return values
    return cross_entropy(values) if values.ndim in (2, 3) else mean_square(values)


def cross_entropy(output: Any) -> Tensor:
    """Return the cross-entropy of the last dimension against random classes."""
    logits = main_output(output)
    if logits.ndim < 2:
        raise RecipeError(
            "--loss cross_entropy needs an output of samples and classes.",
            got=tuple(logits.shape),
            hint="--loss mse",
        )
    rows = logits.flatten(0, -2)
    return F.cross_entropy(rows, whole_numbers((len(rows),), rows.shape[1]))


def mean_square(output: Any) -> Tensor:
    """Return the mean square of the distance to random targets of the same shape."""
    values = main_output(output)
    return F.mse_loss(values, numbers(values.shape, values.dtype))


def mean(output: Any) -> Tensor:
    """Return the mean of the output."""
    return main_output(output).mean()


LOSSES: dict[str, tuple[Callable[[Any], Tensor], str]] = {
    "auto": (
        automatic,
        "the module's own loss; without one, cross-entropy of 2 or 3 dimensions, else mean square",
    ),
    "cross_entropy": (cross_entropy, "cross-entropy of the last dimension against random classes"),
    "mse": (mean_square, "mean square of the distance to random targets"),
    "mean": (mean, "mean of the output"),
}
"""Each function of what a module returns, and how it is called before the user."""


def find_loss(name: str | None) -> tuple[Callable[[Any], Tensor], str]:
    """Return the loss of that name and what the user is told of it; None is `auto`.

    Raises:
        RecipeError: An unknown name.
    """
    if name is not None and name not in LOSSES:
        raise RecipeError(
            f"--loss: unknown loss '{name}'. {nearest(name, LOSSES)}", hint="--loss cross_entropy"
        )
    return LOSSES[name or "auto"]


def main_output(output: Any) -> Tensor:
    """Return the tensor of what a module returned: its logits, or the first one of floating point.

    Raises:
        RecipeError: There is none.
    """
    logits = _entry(output, "logits")
    found = logits if isinstance(logits, Tensor) else next(_floating(output), None)
    if found is None:
        raise RecipeError(
            "The module returned no tensor of floating point, so there is nothing to minimize.",
            got=type(output).__name__,
            hint="--mode infer   (or let forward return its logits or its loss)",
        )
    return found


def _floating(output: Any) -> Any:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _floating(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _floating(value)


def _own_loss(output: Any) -> Tensor | None:
    loss = _entry(output, "loss")
    return loss if isinstance(loss, Tensor) and loss.ndim == 0 else None


def _entry(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _contrastive(logits_BB: Tensor) -> Tensor:
    """Return the loss of matching images with texts (Radford et al. 2021, arXiv:2103.00020, figure 3)."""
    matches = torch.arange(len(logits_BB))
    return (F.cross_entropy(logits_BB, matches) + F.cross_entropy(logits_BB.t(), matches)) / 2
