"""A step of a subject, traced: what a model that somebody brings will do and hold."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kleiber.cost.flops import FlopConvention
from kleiber.cost.usage import Usage

if TYPE_CHECKING:
    from kleiber.cost.trace.step import StepTrace
    from kleiber.models.subject import Subject

__all__ = ["trace"]


def trace(subject: Subject, usage: Usage, *, convention: FlopConvention = "causal") -> StepTrace:
    """Return what a step of `subject` does and holds; nothing of its size is allocated.

    Args:
        subject: The model.
        usage: A micro-batch is `batch_size / accumulation` samples.
        convention: Which part of causal attention is counted.

    Raises:
        RecipeError: The model does not take its inputs; the error names the layer.
    """
    from kleiber.cost.trace.step import trace_step  # noqa: PLC0415 - torch takes a second to import
    from kleiber.train.muon import Muon  # noqa: PLC0415 - the same

    return trace_step(
        subject.build,
        partial(subject.inputs, usage.batch_size // usage.accumulation),
        subject.loss,
        usage,
        convention=convention,
        muon=Muon,
    )
