"""Text that is written in rounds: what was drafted is read at once, and judged by the logits after each of its tokens.

Legend: B = 1 sequence, T tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from kleiber.infer.generation.reader import Reader
from kleiber.infer.generation.request import Piece
from kleiber.infer.generation.sampling import Logits, Sampling, draw, probabilities
from kleiber.infer.generation.speculation.accept import verified
from kleiber.infer.generation.speculation.drafter import Draft
from kleiber.infer.generation.speculation.speculator import Speculator
from kleiber.infer.generation.writing import Writing, allowed_next, recent

__all__ = ["speculate"]


def speculate(
    writing: Writing, reader: Reader, speculator: Speculator, sampling: Sampling
) -> Iterator[Piece]:
    """Return an iterator over the pieces of a text, spread as the model's own texts are; those of a round come together.

    Args:
        writing: A prompt, with nothing written yet.
        reader: Of the model.
        speculator: Of the draft.
        sampling: How the model's tokens are drawn, and the draft's.
    """
    speculator.begin()
    yield from _round(writing, Draft(), reader.read(np.array([writing.tokens])), sampling)
    while writing.is_open:
        if not reader.has_room:
            logits_TV = reader.read(recent([writing], reader.decoder.context))
            yield from _round(writing, Draft(), logits_TV, sampling)
            continue
        start_s, length = time.perf_counter(), reader.decoder.length
        most = min(reader.decoder.context - length, writing.num_left) - 1
        draft = speculator.draft(writing.tokens, most, sampling, writing.rng)
        logits_TV = reader.extend(np.array([[writing.tokens[-1], *draft.tokens]]))[0]
        pieces = _round(writing, draft, logits_TV, sampling)
        num_kept = _num_kept(pieces, draft)
        reader.rewind(length + 1 + num_kept)
        time_s = time.perf_counter() - start_s
        # Of a text that is over, what was drafted beyond its end is neither right nor wrong.
        speculator.judge(draft, num_kept, writing.tokens, time_s, num_judged=len(pieces))
        yield from pieces


def _round(writing: Writing, draft: Draft, logits_TV: Logits, sampling: Sampling) -> list[Piece]:
    """Write the drafted tokens that are kept, and one more, which is the model's own.

    Args:
        writing: Goes on.
        draft: Follows it.
        logits_TV: After its last token, and after each drafted one.
        sampling: How tokens are drawn.
    """
    pieces: list[Piece] = []
    for place, logits_V in enumerate(logits_TV):
        drafted = draft.tokens[place] if place < len(draft.tokens) else None
        allowed_1V = allowed_next([writing], len(logits_V))
        if drafted is None or draft.probs_KV is None:
            uniform_B = writing.rng.random(1)
            token = int(draw(logits_V[None], sampling, [writing.tokens], uniform_B, allowed_1V)[0])
        else:
            p_V = probabilities(logits_V[None], sampling, [writing.tokens], allowed_1V)[0]
            token = verified(p_V, drafted, draft.probs_KV[place], *writing.rng.random(2))
        pieces.append(writing.add(token, logits_V))
        if token != drafted or not writing.is_open:
            break
    return pieces


def _num_kept(pieces: list[Piece], draft: Draft) -> int:
    return sum(piece.token == drafted for piece, drafted in zip(pieces, draft.tokens, strict=False))
