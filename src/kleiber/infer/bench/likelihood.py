"""How likely a language model finds a text, given another.

Legend: T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.infer.text_model import TextModel

__all__ = ["Likelihood", "continuation_likelihood", "text_likelihood"]


@dataclass(frozen=True)
class Likelihood:
    """Of a text after another."""

    logprob: float
    """The sum over its tokens [nats]."""
    is_greedy: bool
    """Whether each token is the likeliest one."""


def continuation_likelihood(model: TextModel, context: str, continuation: str) -> Likelihood:
    """Return how likely a continuation is after a context.

    Both are read as one text, so that a token may not begin in one and end in the other; spaces at the end of the context belong
    to the continuation, as the tokens of most tokenizers have it. Without a context the text begins as texts do. Of a text longer
    than the model's context the last tokens are read.

    Args:
        model: That is asked.
        context: What stands before; may be empty.
        continuation: What is asked about.
    """
    num_spaces = len(context) - len(context.rstrip())
    if num_spaces:
        context, continuation = context[:-num_spaces], context[-num_spaces:] + continuation
    before = _tokens(model, context)
    whole = _tokens(model, context + continuation)
    asked = whole[len(before) :]
    if not asked:
        return Likelihood(0.0, is_greedy=True)
    return _scored(model, [*_start(model), *before] if context else _start(model), asked)


def text_likelihood(model: TextModel, text: str) -> Likelihood:
    """Return how likely a text is by itself: each token is asked about once, after as many before it as the context holds.

    Windows follow one another without overlap, each after the last token of the one before; the first after what texts begin
    with.

    Args:
        model: That is asked.
        text: Of any length.
    """
    tokens, last = _tokens(model, text), _start(model)[-1:]
    step, found = model.decoder.context, []
    for start in range(0, len(tokens), step):
        window = tokens[start : start + step]
        found.append(_scored(model, last, window))
        last = window[-1:]
    return Likelihood(sum(one.logprob for one in found), all(one.is_greedy for one in found))


def _tokens(model: TextModel, text: str) -> list[int]:
    return list(model.tokenizer.backend.encode(text, add_special_tokens=False).ids) if text else []


def _start(model: TextModel) -> list[int]:
    """Return what stands before a text: the model's own start, or the token that ended the text before."""
    return list(model.start_ids) or [model.tokenizer.end_id]


def _scored(model: TextModel, before: Sequence[int], asked: Sequence[int]) -> Likelihood:
    """Return the likelihood of tokens after others; of too many the first are forgotten, the asked ones last."""
    most = model.decoder.context
    read = [*before, *asked][:-1][-most:]
    num_asked = min(len(asked), len(read))
    logits_TV = _logits(model, np.array([read], np.int64))[-num_asked:]
    targets_T = np.array(asked[-num_asked:])
    top_T = logits_TV.max(1)
    logprobs_T = logits_TV[np.arange(num_asked), targets_T] - top_T
    logprobs_T = logprobs_T - np.log(np.exp(logits_TV - top_T[:, None]).sum(1))
    return Likelihood(float(logprobs_T.sum()), bool((logits_TV.argmax(1) == targets_T).all()))


def _logits(model: TextModel, tokens_1T: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the logits after each token, [T, V]."""
    first_1V = model.decoder.prefill(tokens_1T[:, :1]).astype(np.float64)
    if tokens_1T.shape[1] == 1:
        return first_1V
    rest_TV = model.decoder.extend(tokens_1T[:, 1:])[0].astype(np.float64)
    return np.concatenate((first_1V, rest_TV))
