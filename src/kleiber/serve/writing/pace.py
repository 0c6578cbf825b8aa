"""How fast a model ends texts: when to ask again."""

from __future__ import annotations

import math

__all__ = ["Pace"]

_MAX_WAIT_S = 300
_NEW_FRAC = 0.2
"""Of the mean that the newest text makes up: it follows a change within a dozen texts."""


class Pace:
    """The measured throughput of one model.

    Args:
        max_running: Texts that are written at once.

    Example:
        >>> pace = Pace(max_running=4)
        >>> pace.ended(num_tokens=100, time_s=2.0)
        >>> pace.wait_s(num_places=8, max_tokens=100)
        4
    """

    def __init__(self, max_running: int) -> None:
        self._max_running = max_running
        self._token_s: float | None = None
        self._num_tokens: float | None = None

    def ended(self, *, num_tokens: int, time_s: float) -> None:
        """Learn from a text that is over: its tokens, and from its first sign of life to its end [s]."""
        if num_tokens < 1:
            return
        self._token_s = _mean(self._token_s, time_s / num_tokens)
        self._num_tokens = _mean(self._num_tokens, num_tokens)

    def wait_s(self, *, num_places: int, max_tokens: int) -> int:
        """Return in how many seconds so many texts will have ended, at least 1.

        Args:
            num_places: Texts that must end first.
            max_tokens: Of one text; taken until one has ended.
        """
        if self._token_s is None:
            return 1
        text_s = self._token_s * min(self._num_tokens or max_tokens, max_tokens)
        return min(_MAX_WAIT_S, max(1, math.ceil(num_places * text_s / self._max_running)))


def _mean(old: float | None, new: float) -> float:
    return new if old is None else (1 - _NEW_FRAC) * old + _NEW_FRAC * new
