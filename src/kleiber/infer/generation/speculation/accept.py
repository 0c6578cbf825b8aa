"""Whether a drafted token is kept, so that what is written is spread as the model alone would spread it.

A draft from q is kept with probability min(1, p/q), else the token is drawn from the rest, max(0, p - q): together that is p.

A draft that is certain (q is 1 for one token x, as of one that is looked up or of greedy drafting) needs no rule of its own: draw
from p, and keep the draft where it is what was drawn. That is the same rule, for x comes with probability p(x) and anything else
as p without x has it, and it draws exactly what would be drawn without a draft.

Legend: V vocabulary; p the model's probabilities, q those that the draft was drawn from.
"""

from __future__ import annotations

import numpy as np

from kleiber.infer.generation.sampling import Probabilities, pick

__all__ = ["rest", "verified"]


def verified(
    p_V: Probabilities, drafted: int, q_V: Probabilities, uniform: float, uniform_rest: float
) -> int:
    """Return the token to write where `drafted` was proposed; it is kept where that is the one.

    Args:
        p_V: Of the model, after all of `Sampling`; they add up to 1.
        drafted: Drawn from q.
        q_V: Of the draft, whose vocabulary may be longer or shorter at its end.
        uniform: A number of [0, 1).
        uniform_rest: Another, that nothing else depends on.

    Source:
        Leviathan et al. 2023, arXiv:2211.17192, section 2.3; Chen et al. 2023, arXiv:2302.01318, algorithm 2.

    Example:
        >>> p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.0, 0.75])
        >>> verified(p, 0, q, 0.9, 0.0), verified(p, 2, q, 0.9, 0.4)
        (0, 1)
    """
    if drafted < len(p_V) and uniform * q_V[drafted] < p_V[drafted]:
        return drafted
    return int(pick(rest(p_V, q_V)[None], np.array([uniform_rest]))[0])


def rest(p_V: Probabilities, q_V: Probabilities) -> Probabilities:
    """Return what a draft from q leaves of p, [V], not normalized; p where rounding leaves nothing.

    Example:
        >>> rest(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.0, 0.75])).tolist()
        [0.25, 0.5, 0.0]
    """
    num = min(len(p_V), len(q_V))
    left_V = p_V.copy()
    left_V[:num] = np.maximum(p_V[:num] - q_V[:num], 0.0)
    return left_V if left_V.any() else p_V
