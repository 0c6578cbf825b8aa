"""A built-in family with its size, as a subject: so that what is traced can be checked against its closed form."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from torch import Tensor

from kleiber.errors import RecipeError
from kleiber.models import parse_size, resolve_spec
from kleiber.models.foreign.inputs import whole_numbers
from kleiber.models.foreign.losses import find_loss
from kleiber.models.gpt.blocks import block_shape
from kleiber.models.gpt.module import GPT
from kleiber.models.gpt.spec import GPTSpec
from kleiber.models.subject import Inputs, Subject
from kleiber.runs import DataRecipe, Recipe

__all__ = ["open_family", "subject_of"]

_BATCH_SIZE = 8


def open_family(
    text: str,
    *,
    batch_size: int | None = None,
    context: int | None = None,
    vocab_size: int | None = None,
    loss: str | None = None,
) -> Subject:
    """Return the model that a size such as `gpt:depth=12` names; what is not given is as in a recipe.

    Raises:
        RecipeError: An unknown family, key or loss, or an absurd number.
    """
    given = {
        key: value for key, value in (("context", context), ("vocab_size", vocab_size)) if value is not None
    }
    data = DataRecipe.of(given, "the data", RecipeError)
    spec = resolve_spec(Recipe(model=parse_size(text), data=data))
    return subject_of(spec, text, batch_size=batch_size or _BATCH_SIZE, loss=loss)


def subject_of(spec: GPTSpec, name: str, *, batch_size: int, loss: str | None = None) -> Subject:
    """Return a family's spec as a subject on sequences of its full context.

    Args:
        spec: The model.
        name: What the user typed.
        batch_size: Sequences.
        loss: A name of `LOSSES`; None is the next token's cross-entropy, as in training.
    """
    minimized, loss_name = find_loss(loss) if loss else (_next_token, "cross-entropy of the next token")
    return Subject(
        name=name,
        build=partial(_build, spec),
        inputs=partial(_tokens, spec),
        loss=minimized,
        loss_name=loss_name,
        batch_size=batch_size,
        tokens_per_sample=spec.context,
        has_cache=True,
        blocks=block_shape(spec),
    )


def _build(spec: GPTSpec) -> GPT:
    return GPT(spec, device=torch.get_default_device()).init_weights_(0)


def _tokens(spec: GPTSpec, batch_size: int) -> Inputs:
    # As in training: a view of sequences that are one token longer, for the last target.
    return Inputs(args=(whole_numbers((batch_size, spec.context + 1), spec.vocab_size)[:, :-1],))


def _next_token(logits_BTV: Tensor) -> Tensor:
    rows = logits_BTV.flatten(0, 1)
    return F.cross_entropy(rows, whole_numbers((len(rows),), rows.shape[1]))
