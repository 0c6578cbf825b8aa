"""What a step costs before it is known where it runs: counted or traced, one form for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kleiber.cost.layouts import BlockShape
from kleiber.cost.memory import StepMemory
from kleiber.cost.module_cost import ModuleCost
from kleiber.cost.operations import Operation, OperationKind, Phase
from kleiber.runs import ParamCount

__all__ = ["Moment", "StepCost"]


@dataclass(frozen=True)
class Moment:
    """What is held at one moment of a step [bytes]."""

    name: str
    """Phase and module."""
    held_bytes: Mapping[str, int]
    """By role, a key of `kleiber.cost.trace.lifetimes.ROLES`."""


@dataclass(frozen=True)
class StepCost:
    """Of one device with its share of the batch; the model is whole."""

    num_params: ParamCount
    num_trainable: int
    num_active: int
    """Parameters that a token meets: fewer than all in a mixture of experts."""
    operations: tuple[Operation, ...]
    memory: StepMemory
    modules: ModuleCost
    blocks: BlockShape | None
    """None of what is not known to be a Transformer."""
    tokens_per_sample: int | None
    """None where samples are counted."""
    gradients_at: Mapping[str, int] | None = None
    """How much of each of the memory's moments is gradients [bytes]; None where that is not known."""
    moments: tuple[Moment, ...] = ()
    """In order; none of a closed form, which knows the fullest moments alone."""
    says: tuple[str, ...] = ()
    """How the figures came about, a sentence each."""

    def flops(self, phase: Phase) -> int:
        """Return the operations of one phase [FLOP]."""
        return sum(operation.total_flops for operation in self.operations if operation.phase == phase)

    def flops_by_kind(self) -> dict[OperationKind, int]:
        """Return the operations of a step by kind, most first [FLOP]."""
        totals: dict[OperationKind, int] = {}
        for operation in self.operations:
            if operation.flops:
                totals[operation.kind] = totals.get(operation.kind, 0) + operation.total_flops
        return dict(sorted(totals.items(), key=lambda item: -item[1]))
