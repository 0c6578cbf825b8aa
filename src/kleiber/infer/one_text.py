"""Text that goes on from a prompt, as it is sampled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kleiber.data.passages import END_OF_TEXT
from kleiber.errors import UsageError
from kleiber.infer.engine import Engine
from kleiber.infer.generation.sampling import Sampling, draw
from kleiber.infer.generation.text import TextStream

__all__ = ["generate"]


def generate(
    engine: Engine,
    prompt: str,
    *,
    max_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[str]:
    """Return an iterator over the text after `prompt`, one piece a token.

    A piece is empty while a character is incomplete. It ends at the end-of-text token or after `max_tokens`.
    When the context is full the model starts afresh from the later half of what it has read and written.

    Args:
        engine: The model.
        prompt: What the text begins with; at least one token, at most the context.
        max_tokens: Most tokens to sample.
        temperature: 0 takes the likeliest token each time.
        top_k: Draw from so many likeliest tokens; 0 is all.
        top_p: Draw from the likeliest tokens that together are so probable.
        seed: The same seed gives the same text.

    Raises:
        UsageError: The prompt is empty or longer than the context, or an option is out of range. Raised by
            this call, before the first piece is asked for.
    """
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    if max_tokens < 1:
        raise UsageError("max_tokens must be 1 or more.", got=max_tokens, hint="--max-tokens 200")
    tokens = engine.tokenizer.encode(prompt, add_special_tokens=False).ids
    if not tokens:
        raise UsageError(
            "the prompt is empty: the model needs something to go on from.", hint='--prompt "def "'
        )
    if len(tokens) > engine.context:
        raise UsageError(
            f"the prompt is {len(tokens)} tokens long; the model reads at most {engine.context}.",
            hint="a shorter prompt",
        )
    return _sample(engine, tokens, max_tokens, sampling, np.random.default_rng(seed))


def _sample(
    engine: Engine, tokens: list[int], max_tokens: int, sampling: Sampling, rng: np.random.Generator
) -> Iterator[str]:
    stream = TextStream(engine.tokenizer)
    end_of_text = engine.tokenizer.token_to_id(END_OF_TEXT)
    logits, num_read = engine.prefill(tokens), len(tokens)
    for index in range(max_tokens):
        token = int(draw(logits[None], sampling, [tokens], rng.random(1))[0])
        if token == end_of_text:
            break
        tokens.append(token)
        yield stream.push(token)
        if index == max_tokens - 1:
            break
        if num_read < engine.context:
            logits, num_read = engine.decode(token), num_read + 1
        else:
            recent = tokens[-max(1, engine.context // 2) :]
            logits, num_read = engine.prefill(recent), len(recent)
    if left := stream.finish():
        yield left
