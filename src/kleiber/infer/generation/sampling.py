"""From logits to a token.

Legend: B sequences, V vocabulary, S tokens of a sequence so far; in `pick` P parts of the vocabulary of S tokens each,
L likeliest tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.errors import KleiberError, UsageError
from kleiber.infer.generation.constraint import Allowed

__all__ = ["Logits", "Probabilities", "Sampling", "draw", "pick", "probabilities", "require_finite"]

_LIKELIEST = 1024
"""Tokens that are sorted first."""
_PART = 64
"""Tokens whose probabilities are added up before it is known which of them is drawn."""

Logits = npt.NDArray[np.floating]
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn; what is given here is applied in the order in which it stands, as transformers does.

    Raises:
        UsageError: A value is outside its range.
    """

    repetition_penalty: float = 1.0
    """Divides positive logits of tokens that have occurred, prompt included, and multiplies negative ones; 1 leaves them."""
    temperature: float = 0.8
    """Divides the logits; 0 takes the likeliest token, and what follows has no effect."""
    top_k: int = 0
    """Only so many likeliest tokens may be drawn, and those as likely as the last of them; 0 is all."""
    top_p: float = 1.0
    """Only the likeliest tokens whose probabilities first add up to this may be drawn."""
    min_p: float = 0.0
    """Only tokens that are at least so probable, as a part of the likeliest, may be drawn; 0 is all."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise UsageError(
                "repetition_penalty must be above 0; 1 is none.",
                got=self.repetition_penalty,
                hint="--repetition-penalty 1.1",
            )
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError("temperature must be 0 or more.", got=self.temperature, hint="--temperature 0.8")
        if self.top_k < 0:
            raise UsageError("top_k must be 0 (all tokens) or more.", got=self.top_k, hint="--top-k 50")
        if not 0 < self.top_p <= 1:
            raise UsageError("top_p must be above 0 and at most 1.", got=self.top_p, hint="--top-p 0.95")
        if not 0 <= self.min_p <= 1:
            raise UsageError("min_p must be from 0 to 1.", got=self.min_p, hint="--min-p 0.05")

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature == 0


def require_finite(logits: Logits) -> None:
    """Refuse what a damaged model says.

    Raises:
        KleiberError: The logits are not finite.
    """
    if not np.isfinite(logits).all():
        raise KleiberError("the model's output is not finite: its weights are damaged or training diverged.")


def draw(
    logits_BV: Logits,
    sampling: Sampling,
    seen_B: Sequence[Sequence[int]],
    uniform_B: Probabilities,
    allowed_BV: Allowed | None = None,
) -> npt.NDArray[np.int64]:
    """Return the next token of each sequence, [B].

    Args:
        logits_BV: Of the model.
        sampling: How it is drawn.
        seen_B: Tokens of each sequence so far, prompt included.
        uniform_B: A number of [0, 1) a sequence; the same ones draw the same tokens.
        allowed_BV: Which tokens may be drawn, at least one of each sequence; None is all.

    Raises:
        KleiberError: The logits are not finite.

    Example:
        >>> draw(np.array([[0.0, 3.0, 1.0]]), Sampling(temperature=0), [[2]], np.zeros(1)).tolist()
        [1]
    """
    if sampling.is_greedy:
        require_finite(logits_BV)
        likeliest_B: npt.NDArray[np.int64] = _scores(logits_BV, sampling, seen_B, allowed_BV).argmax(1)
        return likeliest_B
    return pick(probabilities(logits_BV, sampling, seen_B, allowed_BV), uniform_B)


def probabilities(
    logits_BV: Logits,
    sampling: Sampling,
    seen_B: Sequence[Sequence[int]],
    allowed_BV: Allowed | None = None,
) -> npt.NDArray[np.float64]:
    """Return how probable each token is to be drawn, [B, V]; those that may not be are 0 exactly.

    Args:
        logits_BV: Of the model.
        sampling: How tokens are drawn: of those that are allowed, as if there were no others.
        seen_B: Tokens of each sequence so far, prompt included.
        allowed_BV: Which tokens may be drawn, at least one of each sequence; None is all.

    Raises:
        KleiberError: The logits are not finite.

    Example:
        >>> logits = np.log([[0.5, 0.25, 0.15, 0.1]])
        >>> probabilities(logits, Sampling(temperature=1, top_p=0.7), [[]]).round(3).tolist()
        [[0.667, 0.333, 0.0, 0.0]]
    """
    require_finite(logits_BV)
    scores_BV: Probabilities = _scores(logits_BV, sampling, seen_B, allowed_BV).astype(np.float64)
    if sampling.is_greedy:
        certain_BV = np.zeros_like(scores_BV)
        np.put_along_axis(certain_BV, scores_BV.argmax(1)[:, None], 1.0, 1)
        return certain_BV
    scores_BV -= scores_BV.max(1, keepdims=True)
    scores_BV /= sampling.temperature
    if 0 < sampling.top_k < scores_BV.shape[1]:
        least_B1 = np.partition(scores_BV, -sampling.top_k, axis=1)[:, -sampling.top_k, None]
        scores_BV[scores_BV < least_B1] = -np.inf
    probs_BV = _normalized(np.exp(scores_BV, out=scores_BV))
    if sampling.top_p < 1:
        probs_BV = _normalized(np.where(_is_in_top_p(probs_BV, sampling.top_p), probs_BV, 0.0))
    if sampling.min_p:
        least_B1 = sampling.min_p * probs_BV.max(1, keepdims=True)
        probs_BV = _normalized(np.where(probs_BV >= least_B1, probs_BV, 0.0))
    return probs_BV


def pick(probs_BV: Probabilities, uniform_B: Probabilities) -> npt.NDArray[np.int64]:
    """Return the token of each sequence at which the sum of probabilities, in the order of tokens, passes a number, [B].

    Args:
        probs_BV: From 0 up; they need not add up to 1.
        uniform_B: Numbers of [0, 1): where they are uniform, tokens are drawn as they are probable.

    Example:
        >>> pick(np.array([[0.25, 0.0, 0.75]] * 3), np.array([0.2, 0.25, 0.99])).tolist()
        [0, 2, 2]
    """
    B, num_more = len(probs_BV), -probs_BV.shape[1] % _PART
    if num_more:
        probs_BV = np.concatenate((probs_BV, np.zeros((B, num_more))), 1)
    parts_BPS = probs_BV.reshape(B, -1, _PART)
    # Sums of parts first, then one part: a running sum over all tokens is several times as slow as a sum.
    cumulative_BP = parts_BPS.sum(2).cumsum(1)
    # Below 1 is at most 1 - 2**-53: times the total that is rounded to less than the total, which some sum passes.
    passed_B = uniform_B * cumulative_BP[:, -1]
    part_B = (cumulative_BP <= passed_B[:, None]).sum(1)
    each_B = np.arange(B)
    before_B = np.where(part_B, cumulative_BP[each_B, part_B - 1], 0.0)
    cumulative_BS = parts_BPS[each_B, part_B].cumsum(1)
    # Sums in another order are rounded otherwise: what is left must be less than the part.
    left_B = np.minimum(passed_B - before_B, np.nextafter(cumulative_BS[:, -1], 0.0))
    tokens_B: npt.NDArray[np.int64] = part_B * _PART + (cumulative_BS <= left_B[:, None]).sum(1)
    return tokens_B


def _scores(
    logits_BV: Logits, sampling: Sampling, seen_B: Sequence[Sequence[int]], allowed_BV: Allowed | None
) -> Logits:
    """Return the logits that are drawn by; those of tokens that are not allowed are minus infinity."""
    scores_BV = _penalized(logits_BV, sampling, seen_B)
    return scores_BV if allowed_BV is None else np.where(allowed_BV, scores_BV, -np.inf)


def _penalized(logits_BV: Logits, sampling: Sampling, seen_B: Sequence[Sequence[int]]) -> Logits:
    """Return logits with those of tokens that have occurred moved down.

    Source:
        Keskar et al. 2019, arXiv:1909.05858, section 4.1; by the sign of the logit, as transformers does it.
    """
    penalty = sampling.repetition_penalty
    if penalty == 1:
        return logits_BV
    penalized_BV = logits_BV.copy()
    for row, seen in enumerate(seen_B):
        tokens_S = np.asarray(seen, np.int64)
        said_S = logits_BV[row, tokens_S]
        penalized_BV[row, tokens_S] = np.where(said_S < 0, said_S * penalty, said_S / penalty)
    return penalized_BV


def _is_in_top_p(probs_BV: Probabilities, top_p: float) -> npt.NDArray[np.bool_]:
    """Return which tokens are the likeliest that together reach `top_p`; of equal ones those with lower numbers."""
    least_B1, num_kept_B1 = _last_in_top_p(probs_BV, top_p)
    is_in_BV: npt.NDArray[np.bool_] = probs_BV >= least_B1
    if (is_in_BV.sum(1, keepdims=True) > num_kept_B1).any():  # as likely as the last, and too many
        is_least_BV = probs_BV == least_B1
        num_left_B1 = num_kept_B1 - (probs_BV > least_B1).sum(1, keepdims=True)
        is_in_BV &= ~is_least_BV | (is_least_BV.cumsum(1) <= num_left_B1)
    return is_in_BV


def _last_in_top_p(probs_BV: Probabilities, top_p: float) -> tuple[Probabilities, npt.NDArray[np.int64]]:
    """Return how probable the last of the likeliest tokens is that together reach `top_p`, and how many they are, [B, 1] each."""
    V = probs_BV.shape[1]
    for num in (min(V, _LIKELIEST), V):  # mostly they are few, and sorting all takes several times as long
        sorted_BL = -np.sort(-np.partition(probs_BV, V - num, axis=1)[:, V - num :], axis=1)
        likelier_BL = sorted_BL.cumsum(1) - sorted_BL
        if num == V or (likelier_BL[:, -1] >= top_p).all():
            break
    num_kept_B1 = np.maximum((likelier_BL < top_p).sum(1, keepdims=True), 1)
    return np.take_along_axis(sorted_BL, num_kept_B1 - 1, 1), num_kept_B1


def _normalized(weights_BV: Probabilities) -> Probabilities:
    """Return them as parts of their sum, in the same memory."""
    weights_BV /= weights_BV.sum(1, keepdims=True)
    return weights_BV
