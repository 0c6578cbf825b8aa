"""Which channels hang together in a network of convolutions and linear layers, by torch-pruning's dependency graph.

Source:
    Fang et al. 2023, "DepGraph: towards any structural pruning", arXiv:2301.12900.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from kleiber.compress.structure.axes import Axis, Place
from kleiber.errors import MissingExtraError, RecipeError
from kleiber.models.family import FamilyModule
from kleiber.runs import DataShape

__all__ = ["channel_axes"]

_BATCH = 2


def channel_axes(
    module: FamilyModule, shape: DataShape, kind_of: Callable[[str], str | None]
) -> tuple[Axis, ...]:
    """Return the axis of the outputs of each layer that has a kind.

    Args:
        module: Is traced on zeros.
        shape: Of what it reads.
        kind_of: The kind of a layer's outputs by the layer's name; None leaves them whole.

    Raises:
        MissingExtraError: torch-pruning is not installed.
        RecipeError: Outputs with a kind hang together with those of a layer without one.
    """
    try:
        import torch_pruning  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingExtraError.of("torch-pruning", "prune", "shrink of convolutional networks") from None
    # The graph is read off the gradients' functions, which a frozen weight has none of.
    traced = copy.deepcopy(module).eval().requires_grad_(requires_grad=True)
    with torch.enable_grad():
        graph: Any = torch_pruning.DependencyGraph().build_dependency(traced, example_inputs=_zeros(shape))
    names = {id(layer): name for name, layer in traced.named_modules()}
    axes = []
    for name, layer in traced.named_modules():
        kind = kind_of(name)
        if kind is None or not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        prune: Any = graph.get_pruner_of_module(layer).prune_out_channels
        group = graph.get_pruning_group(layer, prune, list(range(layer.weight.shape[0])))
        linked = [
            _Linked(names[id(one.target.module)], one.target.module, entries, is_outputs)
            for one, entries in group
            if id(one.target.module) in names  # others are functions, without weights
            for is_outputs in [graph.is_out_channel_pruning_fn(one.handler)]
        ]
        axes.append(_axis(kind, linked))
    # Branches that are laid side by side enter one weight together: none of them has it to itself.
    shared = Counter(reader.name for axis in axes for reader in axis.readers)
    return tuple(
        replace(axis, is_inner=all(shared[reader.name] == 1 for reader in axis.readers) and axis.is_inner)
        for axis in axes
    )


@dataclass(frozen=True)
class _Linked:
    """A layer of which some outputs or inputs hang together with a layer's outputs."""

    name: str
    layer: nn.Module
    entries: Sequence[int]
    """Of all units, one after another."""
    is_outputs: bool


def _axis(kind: str, linked: Sequence[_Linked]) -> Axis:
    """Return the axis of the outputs of the first of some layers that hang together."""
    root, num_units = linked[0], len(linked[0].entries)
    places: list[Place] = []
    readers: list[Place] = []
    for one in linked:
        stretch = (int(one.entries[0]), len(one.entries) // num_units)
        if not one.is_outputs:
            readers.append(Place(f"{one.name}.weight", 1, (stretch,)))
            continue
        if one is not root and not isinstance(one.layer, nn.BatchNorm1d | nn.BatchNorm2d):
            raise RecipeError(f"shrink: the channels of {root.name} cannot go without those of {one.name}.")
        tensors = {**dict(one.layer.named_parameters()), **dict(one.layer.named_buffers())}
        places += [
            Place(f"{one.name}.{key}", 0, (stretch,)) for key, tensor in tensors.items() if tensor.ndim
        ]
    return Axis(kind, num_units, (*places, *readers), tuple(readers), is_inner=len(readers) == 1)


def _zeros(shape: DataShape) -> torch.Tensor:
    sizes = {
        "images": (shape.channels, shape.height, shape.width),
        "features": (shape.num_features,),
        "series": (shape.context, shape.num_features),
    }[shape.inputs]
    return torch.zeros(_BATCH, *(size or 1 for size in sizes))
