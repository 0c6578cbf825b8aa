"""Which parameters an optimizer treats alike."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HiddenMatrix", "ParamGroups"]


@dataclass(frozen=True)
class HiddenMatrix:
    """A weight matrix between embedding and head, possibly several fused along their rows."""

    name: str
    """As in `named_parameters`."""
    row_splits: tuple[int, ...]
    """Rows of each matrix that is fused into this one, in order: they add up to all rows."""


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
    """Gains of norms."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, group after group."""
        return tuple(matrix.name for matrix in self.hidden) + self.embedding + self.head + self.norms
