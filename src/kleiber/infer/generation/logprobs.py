"""How probable a model holds what was written.

Legend: V vocabulary.
"""

from __future__ import annotations

import numpy as np

from kleiber.infer.generation.sampling import Logits

__all__ = ["logprobs"]


def logprobs(logits_V: Logits, token: int, num_likeliest: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return the logarithm of a token's probability, and the likeliest tokens with theirs, likeliest first [nats].

    Of equally likely tokens those with lower numbers come first.

    Example:
        >>> said, likeliest = logprobs(np.log([0.5, 0.25, 0.25]), 1, 2)
        >>> round(said, 4), [(token, round(value, 4)) for token, value in likeliest]
        (-1.3863, [(0, -0.6931), (1, -1.3863)])
    """
    shifted_V = logits_V.astype(np.float64) - logits_V.max()
    logprobs_V = shifted_V - np.log(np.exp(shifted_V).sum())
    num = min(num_likeliest, len(logprobs_V))
    if not num:
        return float(logprobs_V[token]), ()
    least = np.partition(logprobs_V, -num)[-num]
    tokens = np.flatnonzero(
        logprobs_V >= least
    )  # the few that a sort is worth: ties in the order of their numbers
    order = tokens[np.argsort(-logprobs_V[tokens], kind="stable")][:num]
    return float(logprobs_V[token]), tuple((int(one), float(logprobs_V[one])) for one in order)
