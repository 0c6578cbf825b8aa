"""The search for a ladder: from a few small starts, rung by rung what narrows the interval most for its cost, then exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice, pairwise

from kleiber.study.designing.grid import Grid, Guard, State
from kleiber.study.designing.information import Information

__all__ = ["Search", "spread"]

_MOST_TRUNKS = 8
"""Of one size."""
_LEAST_GAIN = 1e-5
"""A relative gain in width that is none."""
_MOST_EXCHANGES = 60
_START_FRACS = (0.3, 0.5, 0.7, 1.0)
"""Of the budget, that starts may take."""
_NUM_STARTS = 2
"""Of each."""
_NUM_EXCHANGED = 3
"""Of the ladders that the starts grow to, how many are searched for exchanges."""


@dataclass(frozen=True)
class Search:
    """Looks for the state that tells most within a budget."""

    grid: Grid
    information: Information
    budget: float
    guard: Guard

    def best(self) -> State | None:
        """Return the best state found; None when the budget holds none that satisfies the guard.

        What is fixed in the information counts for the guard, and costs nothing here.
        """
        filled = sorted(map(self._filled, self._best_starts()), key=self.information.half_width_frac)
        return min(
            map(self._exchanged, filled[:_NUM_EXCHANGED]), key=self.information.half_width_frac, default=None
        )

    def _best_starts(self) -> list[State]:
        """Return the best of the small ladders of each part of the budget: sizes and horizons evenly spread, two sizes repeated.

        What follows from the best start alone is often not the best: a rung where the fitted form is wrong pulls the forecast away.
        """
        nothing: State = ((),) * len(self.grid.sizes)
        if self._holds(nothing):
            return [nothing]
        found = sorted(self.starts(), key=self.information.half_width_frac)
        best: list[State] = []
        for part in _START_FRACS:
            affordable = (state for state in found if self.grid.cost(state) <= part * self.budget)
            best += [state for state in islice(affordable, _NUM_STARTS) if state not in best]
        return best

    def _holds(self, state: State) -> bool:
        return self.grid.holds(self.information.whole(state), self.guard)

    def starts(self) -> Iterator[State]:
        """Yield the small ladders that have what the guard asks for."""
        return (state for state in self._small() if self._holds(state))

    def _small(self) -> Iterator[State]:
        num_sizes, num_horizons = len(self.grid.sizes), len(self.grid.horizons)
        for chosen in spread(num_sizes, self.guard.num_sizes):
            for horizons in spread(num_horizons, self.guard.num_horizons):
                # Of each size the horizons that it may be trained to.
                own = {i: frozenset(h for h in horizons if self.grid.allows(i, h)) for i in chosen}
                if not all(own.values()):
                    continue
                # The smallest are repeated: they cost least, and tell as much of how runs scatter.
                repeated = chosen[: self.guard.num_repeats]
                yield tuple(
                    (own[i],) * (2 if i in repeated else 1) if i in chosen else () for i in range(num_sizes)
                )

    def _filled(self, state: State) -> State:
        """Return a state with what pays most for its cost added, until nothing more fits."""
        width = self.information.half_width_frac(state)
        while True:
            best, best_rate = None, 0.0
            spent = self.grid.cost(state)
            for other in self._more(state):
                cost = self.grid.cost(other)
                if cost > self.budget:
                    continue
                gain = width - self.information.half_width_frac(other)
                # A trunk that hides behind a dearer one costs no time; it still must gain.
                rate = gain / max(cost - spent, 1e-3 * self.budget)
                if gain > _LEAST_GAIN * width and rate > best_rate:
                    best, best_rate = other, rate
            if best is None:
                return state
            state, width = best, self.information.half_width_frac(best)

    def _exchanged(self, state: State) -> State:
        """Return a state of which no single rung or branch is better spent elsewhere."""
        width = self.information.half_width_frac(state)
        num_tried = 0
        is_better = True
        while is_better and num_tried < _MOST_EXCHANGES:
            is_better = False
            for less in self._less(state):
                num_tried += 1
                other = self._filled(less)
                found = self.information.half_width_frac(other)
                if found < width * (1 - _LEAST_GAIN) and self._holds(other):
                    state, width, is_better = other, found, True
                    break
        return state

    def _more(self, state: State) -> Iterator[State]:
        """Yield the states with one branch, or one trunk of one branch, more."""
        horizons = range(len(self.grid.horizons))
        for i, trunks in enumerate(state):
            for h in horizons:
                if not self.grid.allows(i, h):
                    continue
                if len(trunks) < _MOST_TRUNKS:
                    yield _with(state, i, (*trunks, frozenset({h})))
                for k in range(len(trunks)):
                    if h not in trunks[k] and trunks[k] not in trunks[:k]:
                        yield _with(state, i, (*trunks[:k], trunks[k] | {h}, *trunks[k + 1 :]))

    def _less(self, state: State) -> Iterator[State]:
        """Yield the states with one trunk, or one branch, less."""
        for i, trunks in enumerate(state):
            for k, trunk in enumerate(trunks):
                if trunk in trunks[:k]:
                    continue
                rest = (*trunks[:k], *trunks[k + 1 :])
                yield _with(state, i, rest)
                if len(trunk) > 1:
                    for h in sorted(trunk):
                        yield _with(state, i, (*trunks[:k], trunk - {h}, *trunks[k + 1 :]))


def _with(state: State, i: int, trunks: tuple[frozenset[int], ...]) -> State:
    return (*state[:i], trunks, *state[i + 1 :])


def spread(num: int, num_chosen: int) -> Iterator[tuple[int, ...]]:
    """Yield choices of indices whose gaps differ by one at most.

    Example:
        >>> list(spread(4, 3))
        [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]
    """
    for chosen in combinations(range(num), num_chosen):
        gaps = [b - a for a, b in pairwise(chosen)]
        if not gaps or max(gaps) - min(gaps) <= 1:
            yield chosen
