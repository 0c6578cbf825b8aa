"""What a model is given to go on from."""

from __future__ import annotations

from collections.abc import Sequence

from kleiber.errors import UsageError
from kleiber.infer.text_model import TextModel

__all__ = ["Prompt", "prompt_tokens"]

Prompt = str | Sequence[int]
"""A text, or its tokens as they are."""


def prompt_tokens(model: TextModel, prompt: Prompt) -> list[int]:
    """Return the tokens of a prompt; before those of a text stand the ones that the model's texts begin with.

    A special token that a text spells is read as the text that it is.

    Raises:
        UsageError: The prompt is empty, longer than the context, or a token is none of the vocabulary.
    """
    tokens = _encoded(model, prompt) if isinstance(prompt, str) else list(prompt)
    if not prompt or not tokens:
        raise UsageError(
            "the prompt is empty: the model needs something to go on from.", hint='--prompt "def "'
        )
    context, vocab_size = model.decoder.context, model.tokenizer.vocab_size
    if len(tokens) > context:
        raise UsageError(
            f"the prompt is {len(tokens)} tokens long; the model reads at most {context}.",
            hint="a shorter prompt",
        )
    for token in tokens:
        if not 0 <= token < vocab_size:
            raise UsageError(f"a token of this model is from 0 to {vocab_size - 1}.", got=token)
    return tokens


def _encoded(model: TextModel, text: str) -> list[int]:
    backend = model.tokenizer.backend
    if backend.encode_special_tokens:  # not set anew: another thread may be reading with it
        tokens = backend.encode(text, add_special_tokens=False).ids
    else:
        backend.encode_special_tokens = True
        try:
            tokens = backend.encode(text, add_special_tokens=False).ids
        finally:
            backend.encode_special_tokens = False
    return [*model.start_ids, *tokens] if tokens else []
