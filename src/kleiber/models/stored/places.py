"""Where the rows of a module's parameters lie in the file that its family saves."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kleiber.models import save
from kleiber.models.config_file import read_tensors
from kleiber.models.family import FamilyModule

__all__ = ["Place", "places_of"]

_MOST_ROWS = 2**24
"""fp32 holds whole numbers up to here."""


@dataclass(frozen=True)
class Place:
    """Some rows of a parameter, which are a tensor of the file."""

    name: str
    """Of the parameter."""
    start: int
    """Its first row."""
    stop: int
    """The row after its last."""


def places_of(module: FamilyModule, names: Collection[str] | None = None) -> dict[str, Place]:
    """Return which rows of which parameter each tensor of the file holds, in the module's order.

    Tensors that hold anything else are left out.

    Families rename, fuse and tie as they please, so they are asked: a copy of the module whose rows are numbered is saved,
    and the numbers are read.

    Args:
        module: As its family builds it.
        names: Parameters to look for; None for all.

    Raises:
        ValueError: More than 2^24 rows.
    """
    copied = copy.deepcopy(module)
    first_rows = _number_rows_(copied, names)
    spec: Any = module.spec
    with tempfile.TemporaryDirectory(prefix="kleiber-rows-") as folder:
        save(copied, spec, Path(folder))
        found = read_tensors(Path(folder))
    placed = [(name, _place_in(tensor, first_rows)) for name, tensor in found.items()]
    known = [(name, place) for name, place in placed if place is not None]
    return dict(sorted(known, key=lambda pair: (first_rows[pair[1].name] + pair[1].start, pair[0])))


@torch.no_grad()
def _number_rows_(module: FamilyModule, names: Collection[str] | None) -> dict[str, int]:
    """Fill each row with its number, from 1 over all parameters, and all else with 0; return each one's first."""
    params = dict(module.named_parameters())
    for tensor in (*params.values(), *module.buffers()):
        tensor.zero_()
    first_rows, number = {}, 1
    for name, param in params.items():
        if param.ndim == 0 or (names is not None and name not in names):
            continue
        first_rows[name] = number
        rows = torch.arange(number, number + len(param), dtype=torch.float32)
        param.copy_(rows.reshape(-1, *[1] * (param.ndim - 1)).expand_as(param))
        number += len(param)
    if number > _MOST_ROWS:
        raise ValueError(f"{number - 1:,} rows cannot be numbered in fp32")
    return first_rows


def _place_in(tensor: Tensor, first_rows: Mapping[str, int]) -> Place | None:
    """Return whose rows a tensor holds: each of one number, one after the other."""
    if tensor.ndim == 0 or tensor.numel() == 0 or not tensor.is_floating_point():
        return None
    rows = tensor.float().reshape(len(tensor), -1)
    numbers = rows[:, 0]
    start = int(numbers[0])
    is_run = torch.equal(numbers, torch.arange(start, start + len(rows), dtype=torch.float32))
    if start < 1 or not is_run or not (rows == numbers[:, None]).all():
        return None
    name, first = max(
        ((name, first) for name, first in first_rows.items() if first <= start), key=lambda pair: pair[1]
    )
    return Place(name, start - first, start - first + len(rows))
