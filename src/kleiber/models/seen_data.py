"""What a spec sees of its data, and what such data is usually for where no recipe says it."""

from __future__ import annotations

from kleiber.models import Spec
from kleiber.models.gpt.spec import GPTSpec
from kleiber.runs import DataShape, TaskName

__all__ = ["is_modelled", "seen_by", "usual_task"]


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
