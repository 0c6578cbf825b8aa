"""How many tokens to draft: as many as make the most tokens a second by what was measured, none where none do.

What is not known must be tried, and trying may lose. So a part of the time that is written in is saved up, and a trial is made when
what it may lose has been saved; what drafts gain and lose goes into the same savings.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from kleiber.infer.generation.speculation.drafter import Outlook

__all__ = ["SIZES", "Pace"]

_UNKNOWN = Outlook()

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
_TRIAL_PART = 0.02
"""Of the time of rounds without drafts that trials may lose."""
_MOST_SAVED = 8.0
"""Rounds without drafts that savings hold at most: what was gained yesterday is no reason to lose it again."""
_DEAR = 1.5
"""What a round of a size that is not known may take, over what is hoped."""
_SURE_GAIN = 1.25
"""Gain from which on drafts are used although they have lost more than was saved."""
_FIRST_WAIT, _LAST_WAIT = 128, 2048
"""Rounds without drafts after which one is tried again; twice as many each time that it is no gain."""
_LONG, _ASK_EVERY = 32, 8
"""Rounds without a gain from which on drafts are asked about in one round of a few: asking takes time, too."""
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
        self._num_on = self._num_off = self._num_idle = 0
        self._wait = _FIRST_WAIT
        self._saved_s = 0.0

    @property
    def saved_s(self) -> float:
        """What trials may lose now; below 0 where drafts have lost more than was saved [s]."""
        return self._saved_s

    def timed(self, num_drafted: int, time_s: float, *, num_written: int = 1) -> None:
        """Count a round.

        Args:
            num_drafted: Tokens, 0 or one of `SIZES`.
            time_s: Of the round, with all that was done for its draft.
            num_written: Tokens, the model's own included.
        """
        plain_s, is_first = self._times_s[0].median_s, not self._times_s[num_drafted].num
        self._times_s[num_drafted].count(time_s)
        if not num_drafted:
            self._saved_s += _TRIAL_PART * time_s
        elif plain_s is not None:
            gained_s = num_written * plain_s - time_s
            # In the first round of a size an engine prepares, once for all texts: it says nothing of what drafts are worth.
            self._saved_s += max(gained_s, -plain_s) if is_first else gained_s
        if plain_s is not None:
            self._saved_s = min(self._saved_s, _MOST_SAVED * plain_s)

    def judged(self, occasion: int, *, num_drafted: int, num_kept: int) -> None:
        """Count how many of the first drafted tokens were right, on an occasion of such a kind."""
        self._rates_of(occasion, _UNKNOWN).count(num_drafted, num_kept)

    def rests(self) -> bool:
        """Return whether a round goes by without asking for a draft, since none has been a gain for long; count it then."""
        self._num_idle += 1
        if self._num_idle < _LONG or self._num_idle % _ASK_EVERY == 0:
            return False
        self._num_off += 1
        return True

    def choose(self, occasion: int, most: int, outlook: Outlook = _UNKNOWN) -> int:
        """Return how many tokens to draft, one of `SIZES` up to `most`, or 0.

        Args:
            occasion: Its kind.
            most: Tokens that may still be written.
            outlook: What is known of a proposal without having made one.
        """
        plain_s = self._times_s[0].median_s
        if most < SIZES[0] or plain_s is None or self._num_on >= _PLAIN_EVERY:
            self._num_on = 0
            return 0
        plans = self._plans(occasion, most, plain_s, outlook)
        for plan in plans:
            if self._is_worth(plan, most, plain_s, outlook):
                self._num_on, self._wait = self._num_on + 1, _FIRST_WAIT
                self._num_off = self._num_idle = 0
                return plan.size
        plan = plans[0]
        self._num_off += 1
        if self._num_off < self._wait or plan.loss_s(plain_s, outlook) > self._saved_s:
            return 0
        is_hopeless = plan.is_known and (plan.size + 1) * plain_s < plan.time_s  # if all of it were kept
        if is_hopeless and self._num_off < _LAST_WAIT:
            return 0
        self._num_off, self._wait = 0, min(2 * self._wait, _LAST_WAIT)
        return plan.size

    def _is_worth(self, plan: _Plan, most: int, plain_s: float, outlook: Outlook) -> bool:
        """Return whether a plan promises enough: of what is not known what it may lose must be saved, too."""
        gain = plan.num_expected * plain_s / plan.time_s
        if not plan.is_known:
            return gain > _MIN_GAIN and plan.loss_s(plain_s, outlook) <= self._saved_s
        if gain <= (_MIN_GAIN if self._saved_s >= 0 else _SURE_GAIN):
            return False
        return outlook.behind_s <= (1 - 1 / gain) * most * plain_s

    def _plans(self, occasion: int, most: int, plain_s: float, outlook: Outlook) -> list[_Plan]:
        """Return rounds of all sizes, the most tokens a second first; of sizes not known yet only the first is asked."""
        expected = self._rates_of(occasion, outlook).num_expected()
        plans: list[_Plan] = []
        before, before_s, slope_s = 0, plain_s, 0.0
        for size in SIZES:
            if size > most:
                break
            time_s = self._times_s[size].median_s
            if time_s is None:
                # Its time goes on as those of the two smaller sizes do, and no less than drafting takes.
                slope_s = max(slope_s, outlook.each_s)
                hoped_s = before_s + slope_s * (size - before)
                plans.append(_Plan(size, expected[size - 1], hoped_s, is_known=False))
                break
            plans.append(_Plan(size, expected[size - 1], time_s, is_known=True))
            slope_s = max(0.0, (time_s - before_s) / (size - before))
            before, before_s = size, time_s
        return sorted(plans, key=lambda plan: -plan.num_expected / plan.time_s)

    def _rates_of(self, occasion: int, outlook: Outlook) -> _Rates:
        if occasion not in self._rates:
            self._rates[occasion] = _Rates(outlook.rate)
        return self._rates[occasion]


@dataclass(frozen=True)
class _Plan:
    """A round that may be made."""

    size: int
    num_expected: float
    """Tokens that it writes."""
    time_s: float
    """Measured, or hoped for."""
    is_known: bool

    def loss_s(self, plain_s: float, outlook: Outlook) -> float:
        """Return what it may take longer than to write its tokens without a draft [s]."""
        time_s = self.time_s if self.is_known else _DEAR * self.time_s
        return max(0.0, time_s + outlook.behind_s - self.num_expected * plain_s)


class _Times:
    """Times of rounds of a size."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=_NUM_TIMES)
        self.num = 0
        self.median_s: float | None = None
        """None while it is not known."""

    def count(self, time_s: float) -> None:
        self.num += 1
        if self.num > 1:
            self._times_s.append(time_s)
        if self.num >= _NUM_TO_KNOW:
            self.median_s = median(self._times_s)


class _Rates:
    """How often the first, the second, ... drafted token is kept where those before it are."""

    def __init__(self, first_rate: float) -> None:
        self._first_rate = first_rate
        self._num_judged = [0.0] * max(SIZES)
        self._num_kept = [0.0] * max(SIZES)
        self._totals: list[float] = []

    def count(self, num_drafted: int, num_kept: int) -> None:
        """Count a proposal; of its tokens those after the first wrong one say nothing."""
        self._totals = []
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
        if self._totals:
            return self._totals
        rate, reach, total = self._first_rate, 1.0, 1.0
        for judged, kept in zip(self._num_judged, self._num_kept, strict=True):
            rate = (kept + rate) / (judged + 1)  # a place that nothing is known of is like the one before
            reach *= rate
            total += reach
            self._totals.append(total)
        return self._totals
