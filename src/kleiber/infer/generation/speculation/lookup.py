"""Drafts that are looked up in the text itself: where its last tokens have stood before, what stood after them may come again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kleiber.infer.generation.sampling import Sampling
from kleiber.infer.generation.speculation.drafter import Draft, Outlook

__all__ = ["PromptLookup"]

_RATES = {8: 0.8, 5: 0.6, 3: 0.4, 2: 0.25}
"""Tokens that must be the same, the most first: the more there are, the likelier the text goes on the same way."""


class PromptLookup:
    """Proposes what stood after the latest place where the text's last tokens stand, prompt and answer alike.

    Source:
        Saxena 2023, "Prompt lookup decoding"; Yang et al. 2023, arXiv:2304.04487.

    Example:
        >>> lookup, tokens = PromptLookup(), [7, 8, 9, 4, 7, 8]
        >>> lookup.begin()
        >>> lookup.occasion(tokens), lookup.propose(tokens, 5, Sampling(), np.random.default_rng(0)).tokens
        (2, (9, 4, 7, 8, 9))
    """

    is_free = True

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Make ready for another text."""
        self._after: dict[tuple[int, ...], int] = {}
        self._num_indexed = 0
        self._place: int | None = None

    def occasion(self, tokens: Sequence[int]) -> int | None:
        """Return how many last tokens have stood before, as one of a few lengths; None where not even two have."""
        self._index(tokens)
        for length in _RATES:
            self._place = self._after.get(tuple(tokens[-length:])) if length < len(tokens) else None
            if self._place is not None:
                return length
        return None

    def outlook(self, occasion: int, tokens: Sequence[int]) -> Outlook:  # noqa: ARG002 - the length says it
        """Return how likely a text goes on as it did after as many of the same tokens."""
        return Outlook(rate=_RATES[occasion])

    def propose(
        self,
        tokens: Sequence[int],
        num: int,
        sampling: Sampling,  # noqa: ARG002 - what is looked up is certain
        rng: np.random.Generator,  # noqa: ARG002 - the same
    ) -> Draft:
        """Return the `num` tokens that followed then; a text that repeats itself is taken to do so further."""
        if self._place is None:
            return Draft()
        drafted: list[int] = []
        for place in range(self._place, self._place + num):
            drafted.append(tokens[place] if place < len(tokens) else drafted[place - len(tokens)])
        return Draft(tuple(drafted))

    def _index(self, tokens: Sequence[int]) -> None:
        """Note where each sequence of tokens was last followed by another."""
        for end in range(max(1, self._num_indexed), len(tokens)):
            for length in _RATES:
                if length <= end:
                    self._after[tuple(tokens[end - length : end])] = end
        self._num_indexed = len(tokens)
