"""A tape of what is made and let go during a step: the memory of a model's closed form, without torch."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Tape"]


class Tape:
    """Follows named memory through the moments of a step; a name made twice holds both.

    Example:
        >>> tape = Tape()
        >>> tape.enter("forward")
        >>> tape.make(x=10, y=5)
        >>> tape.drop("x")
        >>> tape.held_bytes, tape.moments
        (5, {'forward': 15})
    """

    def __init__(self) -> None:
        self.held_bytes = 0
        self.moments: dict[str, int] = {}
        """The most that each moment held [bytes], in their order."""
        self._bytes: dict[str, int] = {}
        self._moment = ""

    def enter(self, moment: str) -> None:
        """Begin a moment: it holds what is held now, at least."""
        self._moment = moment
        self._note()

    def make(self, **num_bytes: int) -> None:
        """Hold all of these at once, beside what is held."""
        for name, size in num_bytes.items():
            self._bytes[name] = self._bytes.get(name, 0) + size
            self.held_bytes += size
        self._note()

    def drop(self, *names: str) -> None:
        """Let go; a name that is not held is an error.

        Raises:
            KeyError: A name that is not held.
        """
        for name in names:
            self.held_bytes -= self._bytes.pop(name)

    def rename(self, old: str, new: str) -> None:
        """Count what is held under another name."""
        self._bytes[new] = self._bytes.get(new, 0) + self._bytes.pop(old)

    def repeat(self, layer: Callable[[], object], times: int, *, first: str, last: str) -> None:
        """Run `layer` once and reckon with `times` of it: each later one does the same from where the former ended.

        As each changes what is held by the same amount, the fullest of them is the first or the last.

        Args:
            layer: Makes and drops; what it leaves is what the last one leaves.
            times: At least 1.
            first: Name of the first one's moment.
            last: Name of the last one's; it may be the same.
        """
        start = self.held_bytes
        self.enter(first)
        layer()
        change = (times - 1) * (self.held_bytes - start)
        self.held_bytes += change
        self.moments[last] = max(self.moments.get(last, 0), self.moments[first] + change)
        self._moment = last

    def _note(self) -> None:
        self.moments[self._moment] = max(self.moments.get(self._moment, 0), self.held_bytes)
