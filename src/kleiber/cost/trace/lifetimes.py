"""When each block of memory came and went during a step, and what that says of the peak. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

__all__ = ["ROLES", "Lifetime", "Role", "Timeline", "held_bytes", "kept_bytes", "timeline_of"]

Role = Literal[
    "weights", "gradients", "optimizer", "inputs", "copies", "activations", "temporary", "libraries"
]

ROLES: dict[Role, str] = {
    "weights": "parameters and buffers",
    "gradients": "of the parameters",
    "optimizer": "state kept from step to step",
    "inputs": "the batch",
    "copies": "half-precision copies of the weights, made by autocast",
    "activations": "made by the forward pass",
    "temporary": "made by the backward pass and the optimizer, and what kernels hold while they run",
    "libraries": "what the libraries make at first use and keep, autograd's graph, and what the allocator keeps of small blocks",
}

_PAGE_BYTES = 4096
_ALIGNMENT_BYTES = 64
_OWN_PAGES_FROM_BYTES = 65_536
"""Blocks of this size and more are mapped and given back by themselves: glibc's threshold as Kleiber pins it."""


@dataclass(slots=True)
class Lifetime:
    """One block of memory."""

    num_bytes: int
    role: Role
    module: str
    """The one that made it."""
    born: int
    """Index of the operation that made it."""
    died: int | None = None
    """Index of the last operation during which it was held; None for the end."""


@dataclass(frozen=True)
class Timeline:
    """What was held during each operation of a step [bytes]."""

    total: tuple[int, ...]
    by_role: dict[Role, tuple[int, ...]]

    @property
    def peak_index(self) -> int:
        """The first operation of the fullest moment."""
        return self.total.index(max(self.total))


def held_bytes(num_bytes: int) -> int:
    """Return what a block of `num_bytes` takes of the process's memory.

    The allocator aligns blocks and heads them with two words; large ones take whole pages.

    Example:
        >>> held_bytes(0), held_bytes(100), held_bytes(1_000_000)
        (0, 176, 1003520)
    """
    if num_bytes == 0:
        return 0
    whole = num_bytes + _ALIGNMENT_BYTES + 8
    step = _PAGE_BYTES if num_bytes >= _OWN_PAGES_FROM_BYTES else 16
    return -(-whole // step) * step


def timeline_of(
    lifetimes: Iterable[Lifetime],
    first: int,
    last: int,
    extras: Mapping[Role, Sequence[int]],
    *,
    size: Callable[[int], int] = held_bytes,
) -> Timeline:
    """Return what was held during operations `first` to `last`, both included.

    Args:
        lifetimes: Of all blocks.
        first: Index of the first operation.
        last: Index of the last one.
        extras: Bytes that are held during each of these operations beside blocks, by role.
        size: Bytes that a block takes.

    Example:
        >>> blocks = [Lifetime(10, "weights", "", 0), Lifetime(5, "activations", "fc", 1, 1)]
        >>> timeline_of(blocks, 0, 2, {"temporary": [0, 2, 0]}, size=int).total
        (10, 17, 10)
    """
    changes: dict[Role, list[int]] = defaultdict(lambda: [0] * (last - first + 2))
    for block in lifetimes:
        end = last if block.died is None else min(block.died, last)
        start = max(block.born, first)
        if start <= end:
            held = size(block.num_bytes)
            changes[block.role][start - first] += held
            changes[block.role][end - first + 1] -= held
    by_role = {role: tuple(accumulate(changes[role][:-1])) for role in ROLES}
    for role, extra in extras.items():
        by_role[role] = tuple(map(sum, zip(by_role[role], extra, strict=True)))
    return Timeline(total=tuple(map(sum, zip(*by_role.values(), strict=True))), by_role=by_role)


def kept_bytes(lifetimes: Iterable[Lifetime], first: int, last: int) -> tuple[int, ...]:
    """Return what the allocator keeps, during operations `first` to `last`, of small blocks that were let go [bytes].

    They come from one heap, which grows to the most that they ever took at once and does not shrink: what lives on
    lies between what went.

    Example:
        >>> kept_bytes([Lifetime(1000, "temporary", "", 0, 0)], 0, 1)
        (0, 1072)
    """
    small = [block for block in lifetimes if block.num_bytes < _OWN_PAGES_FROM_BYTES]
    held = timeline_of(small, 0, last, {}).total
    most = max(held)
    return tuple(most - now for now in held[first:])
