"""What is asked of a spec of any family: its data and what that is usually for, its blocks, its cache."""

from __future__ import annotations

from kleiber.cost.layouts import BlockShape
from kleiber.models import Spec
from kleiber.models.gpt.blocks import block_shape
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.hf.spec import HFSpec
from kleiber.runs import DataShape, TaskName

__all__ = ["blocks_of", "is_modelled", "keeps_cache", "seen_by", "usual_task"]


def seen_by(spec: Spec) -> DataShape:
    """Return the shape of the data that a spec was made for.

    Example:
        >>> seen_by(GPTSpec.from_dial({"depth": 2}, vocab_size=300, context=64)).context
        64
    """
    if isinstance(spec, GPTSpec):
        return DataShape(inputs="tokens", vocab_size=spec.vocab_size, context=spec.context)
    return spec.shape


def usual_task(shape: DataShape) -> TaskName:
    """Return what data of a shape is usually for.

    Example:
        >>> usual_task(DataShape(inputs="images", channels=3, height=8, width=8, num_outputs=10))
        'classification'
    """
    if is_modelled(shape):
        return "lm"
    if shape.inputs == "pairs":
        return "seq2seq"
    if shape.inputs == "captions":
        return "contrastive"
    return "regression" if shape.inputs == "series" else "classification"


def is_modelled(shape: DataShape) -> bool:
    """Return whether it is text whose next token is predicted.

    Example:
        >>> is_modelled(DataShape(inputs="tokens", vocab_size=9, context=8, num_outputs=2))
        False
    """
    return shape.inputs == "tokens" and shape.num_outputs is None


def blocks_of(spec: Spec) -> BlockShape | None:
    """Return what layouts must divide; None of a family that layouts do not know from inside."""
    if isinstance(spec, GPTSpec):
        return block_shape(spec)
    return spec.blocks() if isinstance(spec, HFSpec) else None


def keeps_cache(spec: Spec) -> bool:
    """Return whether a model writes token by token and keeps keys and values of what it read."""
    return isinstance(spec, GPTSpec) or (isinstance(spec, HFSpec) and is_modelled(spec.shape))
