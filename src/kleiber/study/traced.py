"""A step of a subject, traced: what a model that somebody brings will do and hold."""

from __future__ import annotations

from functools import partial

from kleiber.cost.flops import FlopConvention
from kleiber.cost.trace.step import StepTrace, trace_step
from kleiber.cost.usage import Usage
from kleiber.models.foreign.failures import explained
from kleiber.models.foreign.packing import nothing_packed
from kleiber.models.subject import Subject
from kleiber.train.muon import Muon

__all__ = ["trace"]


def trace(
    subject: Subject, usage: Usage, *, convention: FlopConvention = "causal", has_workspaces: bool = True
) -> StepTrace:
    """Return what a step of `subject` does and holds; nothing of its size is allocated.

    Args:
        subject: The model.
        usage: A micro-batch is `batch_size / accumulation` samples.
        convention: Which part of causal attention is counted.
        has_workspaces: Whether to count what this kind of CPU's libraries hold beside tensors.

    Raises:
        RecipeError: The model does not take its inputs, or its code fails; the error names the layer.
    """
    with nothing_packed():
        return trace_step(
            subject.build,
            partial(subject.inputs, usage.micro_batch_size),
            subject.loss,
            usage,
            convention=convention,
            has_workspaces=has_workspaces,
            muon=Muon,
            around=explained,
        )
