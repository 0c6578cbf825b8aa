"""Which parameters an optimizer treats alike."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["HiddenMatrix", "ParamGroups", "TransferMarks", "groups_of"]


@dataclass(frozen=True)
class HiddenMatrix:
    """A weight matrix between embedding and head, possibly several fused along their rows."""

    name: str
    """As in `named_parameters`."""
    row_splits: tuple[int, ...]
    """Rows of each matrix that is fused into this one, in order: they add up to all rows."""


@dataclass(frozen=True)
class TransferMarks:
    """What a rule for rates over widths and depths must know of a module's parameters beside their groups."""

    width: int
    """Features of the residual stream."""
    depth: int
    """Blocks, each of which adds to the stream."""
    to_stream: tuple[str, ...]
    """What is added to the residual stream comes out of these, and out of nothing else."""
    output_gain: str
    """The gain of the norm before the head."""
    fixed_inputs: tuple[str, ...] = ()
    """Hidden matrices that read as many features whatever the width, such as pixels of a patch."""
    fixed_outputs: tuple[str, ...] = ()
    """Hidden matrices that write as many features whatever the width, such as a router."""
    on_stream: tuple[str, ...] = ()
    """Gains of blocks that multiply the stream itself, or what is added to it beside a branch."""
    is_fan_in_scaled: bool = True
    """Whether hidden matrices start with a deviation that falls with the root of their inputs; otherwise it is the same at all."""
    is_depth_scaled: bool = False
    """Whether what ends a branch starts with a deviation that falls with the root of the depth."""


@dataclass(frozen=True)
class ParamGroups:
    """Names of all parameters of a module, each in one group."""

    hidden: tuple[HiddenMatrix, ...]
    """Matrices that Muon may take; the ones that weight decay may reach."""
    embedding: tuple[str, ...]
    """Look-up tables, tied head included."""
    head: tuple[str, ...]
    """An untied output projection."""
    norms: tuple[str, ...]
    """Gains of norms, biases, and all else of one dimension."""
    transfer: TransferMarks | None = None
    """None where no rule for rates over widths and depths has been worked out for the family."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, group after group."""
        return tuple(matrix.name for matrix in self.hidden) + self.embedding + self.head + self.norms


def groups_of(
    module: nn.Module,
    *,
    embedding: Collection[str] = (),
    head: Collection[str] = (),
    row_splits: Callable[[str], tuple[int, ...] | None] = lambda _: None,
) -> ParamGroups:
    """Return the groups of a module whose other weights of two and more dimensions are hidden matrices.

    Args:
        module: Its `named_parameters` are grouped, tied ones once.
        embedding: Names of look-up tables and positions.
        head: Names of the output projection's weights.
        row_splits: Rows of each matrix fused into a parameter; None of one that is whole.

    Example:
        >>> from torch import nn
        >>> groups = groups_of(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), head=["2.weight"])
        >>> groups.hidden, groups.head, groups.norms
        ((HiddenMatrix(name='0.weight', row_splits=(8,)),), ('2.weight',), ('0.bias', '2.bias'))
    """
    params = dict(module.named_parameters())
    if unknown := {*embedding, *head} - params.keys():
        raise ValueError(f"the module has no parameters {sorted(unknown)}")
    rest = [name for name in params if name not in embedding and name not in head]
    return ParamGroups(
        hidden=tuple(
            HiddenMatrix(name, row_splits(name) or (params[name].shape[0],))
            for name in rest
            if params[name].ndim > 1
        ),
        embedding=tuple(name for name in params if name in embedding),
        head=tuple(name for name in params if name in head),
        norms=tuple(name for name in rest if params[name].ndim <= 1),
    )
