"""A transformers architecture as a subject."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from kleiber.models.foreign.inputs import InputShape, make_inputs
from kleiber.models.foreign.losses import find_loss
from kleiber.models.foreign.transformers_config import open_config
from kleiber.models.foreign.transformers_inputs import (
    default_context,
    has_own_loss,
    make_example,
    reads_text,
)
from kleiber.models.subject import Subject

__all__ = ["open_transformers"]

_BATCH_SIZE = 8


def open_transformers(
    text: str,
    path: Path,
    *,
    shapes: Sequence[InputShape] = (),
    batch_size: int | None = None,
    context: int | None = None,
    mode: Literal["train", "infer"] = "train",
    loss: str | None = None,
) -> Subject:
    """Return the architecture of a `config.json` as a subject; nothing is built yet.

    Args:
        text: As typed.
        path: The file, or a folder with it.
        shapes: What the module takes, where it is not what its config says.
        batch_size: Samples; without it those of `shapes`, or 8.
        context: Tokens of a sequence; without it the largest power of two up to 1,024 that fits the config.
        mode: Training carries labels, and keeps no keys and values for decoding.
        loss: A name of `LOSSES`; without it the head's own, where it has one.

    Raises:
        RecipeError: As `open_config`; too long a context; an unknown loss.
        MissingExtraError: transformers is not installed.
    """
    minimized, loss_name = find_loss(loss)
    architecture = open_config(path)
    class_name = architecture.model_class.__name__
    is_training = mode == "train"
    if is_training:
        architecture.text_config.use_cache = False
    is_own = loss is None and has_own_loss(architecture) and not shapes
    tokens = default_context(architecture, context)
    example = partial(make_example, architecture, context=tokens, has_labels=is_training and is_own)
    return Subject(
        name=text,
        build=architecture.build,
        inputs=partial(make_inputs, shapes) if shapes else example,
        loss=minimized,
        loss_name=f"the loss of {class_name}" if is_own else loss_name,
        batch_size=batch_size or (shapes[0].size[0] if shapes else _BATCH_SIZE),
        tokens_per_sample=tokens if reads_text(architecture) else None,
        has_cache="ForCausalLM" in class_name,
        blocks=architecture.blocks(),
        num_experts=architecture.num_experts(),
        notes=architecture.notes,
    )
