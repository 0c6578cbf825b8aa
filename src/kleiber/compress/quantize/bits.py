"""How many bits each layer gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from torch import nn

from kleiber.compress.calibration import Calibration
from kleiber.compress.quantize.budget import Choice, least_error, weight_bytes
from kleiber.compress.quantize.sensitivity import loss_changes, output_changes
from kleiber.data import Batch
from kleiber.errors import RecipeError
from kleiber.models.stored.grid import Grid
from kleiber.tasks import Task

__all__ = ["SensitivityName", "grids_within_bytes", "grids_within_mean_bits", "measured_changes"]

SensitivityName: TypeAlias = Literal["loss", "outputs"]

Shapes: TypeAlias = Mapping[str, Sequence[tuple[int, int]]]

_NUM_LOSS_SAMPLES = 8
"""The loss is measured for every layer and width: on few samples, the same for all."""


def measured_changes(
    module: nn.Module,
    task: Task,
    calibration: Calibration,
    grids: Mapping[str, Sequence[Grid]],
    sensitivity: SensitivityName,
) -> dict[str, list[float]]:
    """Return how much worse each layer's grids make the model, one layer at a time."""
    if sensitivity == "loss":
        arrays = calibration.batches[0].arrays
        few = Batch({role: array[:_NUM_LOSS_SAMPLES] for role, array in arrays.items()}, 0)
        return loss_changes(module, task, [few], grids)
    return output_changes(module, calibration.batches, grids)


def grids_within_mean_bits(
    shapes: Shapes,
    grids: Mapping[str, Sequence[Grid]],
    changes: Mapping[str, Sequence[float]],
    mean_bits: float,
) -> dict[str, Grid]:
    """Return a grid for each layer, by name: the least change whose codes have so many bits a weight on average.

    Args:
        shapes: Rows and columns of what is stored of each layer: its weight, or two factors.
        grids: Of each, what can be chosen.
        changes: How much worse each makes the model.
        mean_bits: Over all weights of the layers; scales and zeros come on top.

    Raises:
        RecipeError: All grids have more.
    """
    sizes = {name: sum(rows * columns for rows, columns in parts) for name, parts in shapes.items()}
    costs = {name: [float(grid.num_bits * sizes[name]) for grid in grids[name]] for name in sizes}
    chosen = _chosen(grids, costs, changes, mean_bits * sum(sizes.values()))
    if chosen is None:
        least = min(grid.num_bits for choices in grids.values() for grid in choices)
        raise RecipeError(f"mean_bits must be at least {least}, the least of bit_widths.", got=mean_bits)
    return chosen


def grids_within_bytes(
    shapes: Shapes,
    grids: Mapping[str, Sequence[Grid]],
    changes: Mapping[str, Sequence[float]],
    max_bytes: int,
    other_bytes: int,
) -> dict[str, Grid]:
    """Return a grid for each layer, by name: the least change with which all weights take so many bytes in a file.

    Args:
        shapes: Rows and columns of what is stored of each layer: its weight, or two factors.
        grids: Of each, what can be chosen.
        changes: How much worse each makes the model.
        max_bytes: Of all weights of the model.
        other_bytes: Of those that are not shared out here.

    Raises:
        RecipeError: The fewest bits take more.
    """
    costs = {
        name: [float(sum(weight_bytes(*part, grid) for part in parts)) for grid in grids[name]]
        for name, parts in shapes.items()
    }
    chosen = _chosen(grids, costs, changes, max_bytes - other_bytes)
    if chosen is None:
        least = other_bytes + int(sum(min(of_layer) for of_layer in costs.values()))
        raise RecipeError(
            f"max_bytes cannot be met: {other_bytes} bytes of other weights and the fewest bits of {len(shapes)} layers come to "
            f"{least} bytes.",
            got=max_bytes,
            hint=f"quantize:max_bytes={least}",
        )
    return chosen


def _chosen(
    grids: Mapping[str, Sequence[Grid]],
    costs: Mapping[str, Sequence[float]],
    changes: Mapping[str, Sequence[float]],
    budget: float,
) -> dict[str, Grid] | None:
    choices = [
        [Choice(cost, change) for cost, change in zip(of_layer, changes[name], strict=True)]
        for name, of_layer in costs.items()
    ]
    numbers = least_error(choices, budget) if budget > 0 else None
    if numbers is None:
        return None
    return {name: grids[name][number] for name, number in zip(costs, numbers, strict=True)}
