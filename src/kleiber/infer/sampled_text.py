"""Texts that a language model writes itself: what to learn from where there are no others.

Legend: B sequences, T tokens of each, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kleiber.data.text_tokenizer import TextTokenizer
from kleiber.errors import KleiberError, UsageError
from kleiber.infer.decoding.decoder import Decoder
from kleiber.runs.files import write_text

__all__ = ["sampled_text"]

_BATCH = 64


def sampled_text(
    decoder: Decoder,
    tokenizer: TextTokenizer,
    path: Path,
    num_tokens: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
) -> None:
    """Write texts drawn from a model, one a line, as `data.source=text:PATH` with `data.field=text` reads them.

    Each begins where a text begins and ends where the model ends it, or where its context does. At temperature 1 and with all
    tokens to choose from they are spread as the model's own distribution is. A file that is there stays as it is.

    Args:
        decoder: Of the model.
        tokenizer: The model's own.
        path: A `.jsonl` file; written whole or not at all.
        num_tokens: At least so many are drawn.
        seed: The same seed gives the same texts.
        temperature: Divides the logits.

    Raises:
        UsageError: `num_tokens` or the temperature is not positive.
        KleiberError: The model's output is not finite.
        StorageError: The disk refused.

    Source:
        Kim and Rush 2016, arXiv:1606.07947, section 3.2, with samples in place of the likeliest sequences.
    """
    if num_tokens < 1 or temperature <= 0:
        raise UsageError(
            "sampled text takes 1 token or more and a temperature above 0.", got=(num_tokens, temperature)
        )
    if not path.is_file():
        rng = np.random.default_rng(seed)
        texts = _texts(decoder, tokenizer, num_tokens, temperature=temperature, rng=rng)
        write_text(path, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))


def _texts(
    decoder: Decoder,
    tokenizer: TextTokenizer,
    num_tokens: int,
    *,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Yield texts until so many tokens are drawn."""
    bounds = [tokenizer.end_id]
    if (first := (tokenizer.given or {}).get("bos_token")) is not None:
        bounds.insert(0, tokenizer.backend.get_vocab()[first])
    num_drawn = 0
    while num_drawn < num_tokens:
        num = min(_BATCH, -(-(num_tokens - num_drawn) // decoder.context))
        tokens_BT = _draw(decoder, bounds[0], num, temperature, rng)
        num_drawn += tokens_BT.size
        for tokens_T in tokens_BT:
            ends = np.flatnonzero(np.isin(tokens_T, bounds))
            for piece in np.split(tokens_T, ends):
                kept = piece[~np.isin(piece, bounds)].tolist()
                if text := tokenizer.backend.decode(kept):
                    yield text


def _draw(
    decoder: Decoder, first: int, num: int, temperature: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return sequences that fill the context, after the token that texts begin with, [B, T]."""
    last_B = np.full(num, first, np.int64)
    logits_BV, drawn = decoder.prefill(last_B[:, None]), []
    for _ in range(decoder.context):
        if not np.isfinite(logits_BV).all():
            raise KleiberError(
                "the model's output is not finite: its weights are damaged or training diverged."
            )
        # The largest of log-probabilities, each with Gumbel noise of its own, is a draw from them (Gumbel 1954).
        last_B = (logits_BV / temperature + rng.gumbel(size=logits_BV.shape)).argmax(1)
        drawn.append(last_B)
        if decoder.length == decoder.context:
            break
        logits_BV = decoder.decode(last_B)
    return np.stack(drawn, 1)
