"""Which data a family reads, and what it says of other data."""

from __future__ import annotations

from collections.abc import Collection

from kleiber.errors import RecipeError
from kleiber.runs import DataShape
from kleiber.runs.data_shape import InputKind

__all__ = ["require_readable"]

_READERS: dict[InputKind, str] = {
    "tokens": "--set model.family=encoder",
    "images": "--set model.family=resnet",
    "features": "--set model.family=mlp",
    "series": "--set model.family=rnn",
    "pairs": "--set model.family=seq2seq",
    "captions": "--set model.family=dual",
}
"""A family that reads each kind."""


def require_readable(family: str, shape: DataShape, kinds: Collection[str]) -> None:
    """Raise if a family cannot read data of a shape, or has nothing to predict from it.

    Raises:
        RecipeError: Saying what the family reads.
    """
    if shape.inputs not in kinds:
        raise RecipeError(
            f"{family} reads {' or '.join(kinds)}.", got=shape.inputs, hint=_READERS[shape.inputs]
        )
    if shape.num_outputs is None:
        raise RecipeError(
            f"{family} predicts classes or values, and the data says none: num_outputs is missing.",
            hint="--set task.name=classification",
        )
