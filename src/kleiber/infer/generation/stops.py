"""Strings that end a text, found in pieces as they come."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopStrings"]


class StopStrings:
    """Lets a text through up to the first of some strings.

    What may still become one is held back, so that nothing has to be taken back.

    Args:
        stops: None of them empty.

    Example:
        >>> stops = StopStrings(["END"])
        >>> stops.push("one E"), stops.push("ND two"), stops.has_stopped
        ('one ', '', True)
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.has_stopped = False

    def push(self, text: str) -> str:
        """Return what of the text so far cannot be part of a stop string any more; nothing after one."""
        if self.has_stopped:
            return ""
        held = self._held + text
        found = [place for stop in self._stops if (place := held.find(stop)) >= 0]
        if found:
            self.has_stopped, self._held = True, ""
            return held[: min(found)]
        num_held = max((_num_begun(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - num_held :]
        return held[: len(held) - num_held]

    def finish(self) -> str:
        """Return what was held back, for it became no stop string."""
        held, self._held = self._held, ""
        return held


def _num_begun(text: str, stop: str) -> int:
    """Return how many characters at the end of a text begin a stop string."""
    return next(num for num in range(min(len(stop) - 1, len(text)), -1, -1) if text.endswith(stop[:num]))
