"""From logits to a token."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleiber.errors import KleiberError, UsageError

__all__ = ["Sampling", "pick"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Raises:
        UsageError: A value is outside its range.
    """

    temperature: float = 0.8
    """Divides the logits; 0 takes the likeliest token."""
    top_k: int = 0
    """Only so many likeliest tokens may be drawn; 0 is all."""
    top_p: float = 1.0
    """Only the likeliest tokens whose probabilities first add up to this may be drawn."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError("temperature must be 0 or more.", got=self.temperature, hint="--temperature 0.8")
        if self.top_k < 0:
            raise UsageError("top_k must be 0 (all tokens) or more.", got=self.top_k, hint="--top-k 50")
        if not 0 < self.top_p <= 1:
            raise UsageError("top_p must be above 0 and at most 1.", got=self.top_p, hint="--top-p 0.95")


def pick(logits: npt.NDArray[np.floating], sampling: Sampling, rng: np.random.Generator) -> int:
    """Return the token drawn from logits [vocabulary].

    Raises:
        KleiberError: The logits are not finite.

    Example:
        >>> pick(np.array([0.0, 3.0, 1.0]), Sampling(temperature=0), np.random.default_rng(0))
        1
    """
    if not np.isfinite(logits).all():
        raise KleiberError("the model's output is not finite: its weights are damaged or training diverged.")
    if sampling.temperature == 0:
        return int(logits.argmax())
    # Likeliest first, equal ones in the order of their numbers: the same seed draws the same everywhere.
    order = np.argsort(-logits, kind="stable")[: sampling.top_k or None]
    scaled = logits[order].astype(np.float64) / sampling.temperature
    weights = np.exp(scaled - scaled[0])
    cumulative = np.cumsum(weights / weights.sum())
    num_kept = int(np.searchsorted(cumulative, sampling.top_p, side="left")) + 1
    kept = cumulative[:num_kept]
    return int(order[min(np.searchsorted(kept, rng.random() * kept[-1], side="right"), len(kept) - 1)])
