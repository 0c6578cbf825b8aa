"""How many tokens to draft: as many as make the most tokens a second by what was measured, none where none do."""

from __future__ import annotations

from collections import deque
from statistics import median

__all__ = ["SIZES", "Pace"]

SIZES = (1, 2, 4, 8, 16)
"""Numbers of tokens to draft: few, for engines prepare anew for every number of tokens that they read at once."""

_MIN_GAIN = 1.05
"""Tokens a second with drafts, to those without, from which on there is a gain: less is within what measuring is off by."""
_NUM_TIMES = 9
"""Rounds of a size that its time is the median of; older ones are forgotten."""
_NUM_TO_KNOW = 3
"""Rounds after which a size's time is known; the first is left out, in which an engine prepares."""
_MEMORY = 0.98
"""What is left of the weight of an earlier proposal with each further one of its kind: 50 count."""
_FIRST_RATE = 0.5
"""Part of drafted tokens that is taken to be kept before any was judged."""
_FIRST_WAIT, _LAST_WAIT = 128, 2048
"""Rounds without drafts after which one is tried again; twice as many each time that it is no gain."""
_PLAIN_EVERY = 24
"""Rounds with drafts after which one without is measured again."""


class Pace:
    """Measures rounds: of one token that is written anyway, and as many drafted ones before it as were kept.

    Example:
        >>> pace = Pace()
        >>> for _ in range(3):
        ...     pace.timed(0, 1.0)
        >>> pace.choose(0, 16)  # a size that is not known yet is tried after the next smaller one
        1
        >>> for _ in range(3):
        ...     pace.timed(1, 1.9)
        ...     pace.judged(0, num_drafted=1, num_kept=0)
        >>> pace.choose(0, 16)
        0
    """

    def __init__(self) -> None:
        self._times_s: dict[int, _Times] = {size: _Times() for size in (0, *SIZES)}
        self._rates: dict[int, _Rates] = {}
        self._num_on = self._num_off = 0
        self._wait = _FIRST_WAIT

    def timed(self, num_drafted: int, time_s: float) -> None:
        """Count a round with so many drafted tokens, 0 or one of `SIZES`, and all that was done for them."""
        self._times_s[num_drafted].count(time_s)

    def judged(self, occasion: int, *, num_drafted: int, num_kept: int) -> None:
        """Count how many of the first drafted tokens were right, on an occasion of such a kind."""
        self._rates.setdefault(occasion, _Rates()).count(num_drafted, num_kept)

    def choose(self, occasion: int, most: int) -> int:
        """Return how many tokens to draft, one of `SIZES` up to `most`, or 0."""
        plain_s = self._times_s[0].median_s
        if most < SIZES[0] or plain_s is None or self._num_on >= _PLAIN_EVERY:
            self._num_on = 0
            return 0
        best, tokens_per_s = self._best(occasion, most, plain_s)
        if tokens_per_s * plain_s > _MIN_GAIN:
            self._num_on, self._num_off, self._wait = self._num_on + 1, 0, _FIRST_WAIT
            return best
        self._num_off += 1
        if self._num_off < self._wait:
            return 0
        self._num_off, self._wait = 0, min(2 * self._wait, _LAST_WAIT)
        return best

    def _best(self, occasion: int, most: int, plain_s: float) -> tuple[int, float]:
        """Return the size that promises the most tokens a second, and how many; of sizes not known yet only the first is asked."""
        expected = self._rates.setdefault(occasion, _Rates()).num_expected()
        promised: dict[int, float] = {}
        before, before_s, slope_s = 0, plain_s, 0.0
        for size in SIZES:
            if size > most:
                break
            time_s = self._times_s[size].median_s
            # What looks like a gain is tried: its time goes on as those of the two smaller sizes do.
            promised[size] = expected[size - 1] / (
                before_s + slope_s * (size - before) if time_s is None else time_s
            )
            if time_s is None:
                break
            slope_s = max(0.0, (time_s - before_s) / (size - before))
            before, before_s = size, time_s
        best = max(promised, key=promised.__getitem__)
        return best, promised[best]


class _Times:
    """Times of rounds of a size."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=_NUM_TIMES)
        self._num = 0
        self.median_s: float | None = None
        """None while it is not known."""

    def count(self, time_s: float) -> None:
        self._num += 1
        if self._num > 1:
            self._times_s.append(time_s)
        if self._num >= _NUM_TO_KNOW:
            self.median_s = median(self._times_s)


class _Rates:
    """How often the first, the second, ... drafted token is kept where those before it are."""

    def __init__(self) -> None:
        self._num_judged = [0.0] * max(SIZES)
        self._num_kept = [0.0] * max(SIZES)

    def count(self, num_drafted: int, num_kept: int) -> None:
        """Count a proposal; of its tokens those after the first wrong one say nothing."""
        self._num_judged = [_MEMORY * num for num in self._num_judged]
        self._num_kept = [_MEMORY * num for num in self._num_kept]
        for place in range(min(num_kept + 1, num_drafted)):
            self._num_judged[place] += 1
            self._num_kept[place] += place < num_kept

    def num_expected(self) -> list[float]:
        """Return the tokens that a round with 1, 2, ... drafted ones writes.

        Source:
            Leviathan et al. 2023, arXiv:2211.17192, equation 1, with a rate of its own for each place.
        """
        rate, reach, total = _FIRST_RATE, 1.0, 1.0
        totals = []
        for judged, kept in zip(self._num_judged, self._num_kept, strict=True):
            rate = (kept + rate) / (judged + 1)  # a place that nothing is known of is like the one before
            reach *= rate
            total += reach
            totals.append(total)
        return totals
