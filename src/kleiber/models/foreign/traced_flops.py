"""Operations of a step of a module that does not count itself: traced on fake tensors, or counted while it runs on real ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from kleiber.cost.flops import FlopConvention
from kleiber.cost.trace.operation_flops import Call, call_flops
from kleiber.cost.trace.step import trace_step
from kleiber.cost.usage import Usage
from kleiber.models import Spec
from kleiber.models.foreign.failures import explained
from kleiber.models.foreign.family import subject_of
from kleiber.models.foreign.packing import nothing_packed
from kleiber.models.traced_spec import TRACED_BATCH

__all__ = ["counted_flops", "traced_flops"]


def traced_flops(spec: Spec, name: str, convention: FlopConvention) -> tuple[int, int]:
    """Return the operations forward and backward on `TRACED_BATCH` samples; nothing of their size is allocated.

    Args:
        spec: The model, on its data.
        name: As typed.
        convention: Which part of causal attention is counted.

    Raises:
        RecipeError: The module does not take the data, or its forward depends on the values in its tensors.
    """
    subject = subject_of(spec, name)
    with nothing_packed():
        traced = trace_step(
            subject.build,
            partial(subject.inputs, TRACED_BATCH),
            subject.loss,
            Usage(batch_size=TRACED_BATCH, optimizer="sgd"),
            convention=convention,
            has_workspaces=False,
            around=explained,
        )
    sums = {"forward": 0, "backward": 0}
    for operation in traced.operations:
        if operation.phase in sums:
            sums[operation.phase] += operation.total_flops
    return sums["forward"], sums["backward"]


def counted_flops(module: nn.Module, spec: Spec, convention: FlopConvention) -> tuple[int, int]:
    """Return the operations forward and backward on `TRACED_BATCH` samples, of a step that is run.

    Args:
        module: On the CPU; its gradients are as they were afterwards.
        spec: Of the module.
        convention: Which part of causal attention is counted.

    Raises:
        RecipeError: The module does not take the data.
    """
    subject = subject_of(spec, type(module).__name__)
    example = subject.inputs(TRACED_BATCH)
    forward, backward = _Counter(convention), _Counter(convention)
    with explained(module, example):
        with forward:
            loss = subject.loss(module(*example.args))
        with backward:
            loss.backward()  # type: ignore[no-untyped-call] # torch's
    module.zero_grad()
    return forward.flops, backward.flops


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's
    """Adds up what runs inside."""

    def __init__(self, convention: FlopConvention) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's
        self.flops = 0
        self._convention = convention

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.flops += call_flops(Call(func, args, kwargs or {}, out), self._convention)
        return out
