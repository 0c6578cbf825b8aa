"""What proposes tokens before the model is asked.

Legend: K drafted tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kleiber.infer.generation.sampling import Probabilities, Sampling

__all__ = ["Draft", "Drafter", "Outlook"]


@dataclass(frozen=True)
class Draft:
    """Tokens that may come next."""

    tokens: tuple[int, ...] = ()
    """K of them."""
    probs_KV: tuple[Probabilities, ...] | None = None
    """What each was drawn from; None where each is certain, as of a draft that is looked up."""


@dataclass(frozen=True)
class Outlook:
    """What is known of a proposal before any was made."""

    rate: float = 0.5
    """Part of drafted tokens that is taken to be kept before any was judged."""
    each_s: float = 0.0
    """To draft a token."""
    behind_s: float = 0.0
    """To read what the draft has not read of the text yet."""


class Drafter(Protocol):
    """Proposes tokens of one text at a time."""

    @property
    def is_free(self) -> bool:
        """Whether proposing takes next to no time."""
        ...

    def begin(self) -> None:
        """Make ready for another text."""
        ...

    def occasion(self, tokens: Sequence[int]) -> int | None:
        """Return of what kind a proposal after these tokens would be; None where there is none to make.

        Proposals of one kind are kept about as often as each other.
        """
        ...

    def outlook(self, occasion: int, tokens: Sequence[int]) -> Outlook:
        """Return what a proposal of a kind after these tokens is like."""
        ...

    def propose(self, tokens: Sequence[int], num: int, sampling: Sampling, rng: np.random.Generator) -> Draft:
        """Return at most `num` tokens that may follow these, on an occasion."""
        ...
