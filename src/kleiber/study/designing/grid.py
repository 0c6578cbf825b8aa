"""What a ladder may be made of: sizes and horizons, and what training on them costs.

A state is what a designer changes: for each size its trunks, each the set of horizons at which a branch leaves it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from kleiber.runs import ModelRecipe
from kleiber.scaling.forms import Array

__all__ = ["Grid", "Guard", "Size", "State", "Trunks", "rows_of"]

_MOST_UNLIKE = 10.0
"""Between the tokens a parameter of a run and of the target, as a factor."""

Trunks: TypeAlias = tuple[frozenset[int], ...]
"""Those of one size: of each the indices of its horizons."""
State: TypeAlias = tuple[Trunks, ...]


@dataclass(frozen=True)
class Size:
    """A model that a rung may train."""

    model: ModelRecipe
    num_params: float
    """N by the law's convention."""
    step_cost: float
    """Of one step, in the unit of the budget."""
    run_cost: float = 0.0
    """Of one run beside its steps: its validation."""
    step_flops: float = 0.0


@dataclass(frozen=True)
class Guard:
    """What a ladder must have whatever the design's own law says: that law may be wrong, and noise must be measured."""

    num_sizes: int = 4
    num_horizons: int = 3
    num_repeats: int = 2
    """Trunks of one size beside the first, over all sizes."""
    span: float = 10.0
    """Compute of the dearest run over that of the cheapest, so that the law can be backtested."""


@dataclass(frozen=True)
class Grid:
    """Sizes and horizons, smallest first, of one unit of cost."""

    sizes: tuple[Size, ...]
    horizons: tuple[int, ...]
    """Steps."""
    branch_steps: tuple[int, ...]
    """Step at which the branch of each horizon leaves its trunk."""
    tokens_per_step: int
    num_workers: int = 1
    """Trunks trained side by side: what the costs of all are divided by."""
    most_flops: float = math.inf
    """Of one run from its start [FLOP]."""
    tokens_per_param: float | None = None
    """Of the target."""
    _trunk_costs: dict[tuple[int, frozenset[int]], float] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Known ones: a search asks for them hundreds of thousands of times."""

    def trunk_steps(self, trunk: frozenset[int]) -> int:
        """Return the steps of a trunk and its cool-downs: branches share the trunk."""
        cooldowns = sum(self.horizons[h] - self.branch_steps[h] for h in trunk)
        return self.branch_steps[max(trunk)] + cooldowns

    def trunk_cost(self, i: int, trunk: frozenset[int]) -> float:
        """Return what a trunk of size `i` costs with its branches."""
        if (i, trunk) not in self._trunk_costs:
            size = self.sizes[i]
            steps = self.trunk_steps(trunk) * size.step_cost
            self._trunk_costs[i, trunk] = steps + (len(trunk) + 1) * size.run_cost
        return self._trunk_costs[i, trunk]

    def cost(self, state: State) -> float:
        """Return what a state costs: the costs of all trunks over the workers, at least that of the dearest trunk."""
        each = [self.trunk_cost(i, trunk) for i, trunks in enumerate(state) for trunk in trunks]
        if self.num_workers == 1 or not each:
            return sum(each)
        return max(sum(each) / self.num_workers, *each)

    def flops(self, i: int, h: int) -> float:
        """Return the compute of one run from its start [FLOP]."""
        return self.sizes[i].step_flops * self.horizons[h]

    def allows(self, i: int, h: int) -> bool:
        """Return whether a run is not too dear for a ladder of this target, and its tokens a parameter not too unlike.

        A form in two terms says that tokens help all sizes alike, which holds the less the further a size's tokens are
        from its own best.
        """
        ratio = self.horizons[h] * self.tokens_per_step / self.sizes[i].num_params
        away = 1.0 if self.tokens_per_param is None else ratio / self.tokens_per_param
        return self.flops(i, h) <= self.most_flops and 1 / _MOST_UNLIKE <= away <= _MOST_UNLIKE

    def log_points(self) -> tuple[Array, Array]:
        """Return log N and log D of every size and horizon, [S, H] each."""
        log_size = np.log([size.num_params for size in self.sizes])
        log_tokens = np.log([steps * float(self.tokens_per_step) for steps in self.horizons])
        shape = (len(log_size), len(log_tokens))
        return np.broadcast_to(log_size[:, None], shape), np.broadcast_to(log_tokens, shape)

    def holds(self, state: State, guard: Guard) -> bool:
        """Return whether a state has what the guard asks for."""
        used = [i for i, trunks in enumerate(state) if trunks]
        horizons = {h for trunks in state for trunk in trunks for h in trunk}
        repeats = sum(max(0, len(trunks) - 1) for trunks in state)
        if len(used) < guard.num_sizes or len(horizons) < guard.num_horizons or repeats < guard.num_repeats:
            return False
        flops = [self.flops(i, h) for i, h, _ in rows_of(state)]
        return max(flops) >= guard.span * min(flops)

    def check(self) -> None:
        """Refuse what is not ordered.

        Raises:
            ValueError: Sizes or horizons do not rise.
        """
        for values in ([size.num_params for size in self.sizes], self.horizons):
            if any(a >= b for a, b in pairwise(values)):
                raise ValueError(f"sizes and horizons must rise, got {values}")


def rows_of(state: State) -> list[tuple[int, int, int]]:
    """Return size, horizon and trunk of every run that becomes a row.

    Example:
        >>> rows_of(((frozenset({0, 2}),), (frozenset({1}), frozenset({1}))))
        [(0, 0, 0), (0, 2, 0), (1, 1, 0), (1, 1, 1)]
    """
    return [
        (i, h, k) for i, trunks in enumerate(state) for k, trunk in enumerate(trunks) for h in sorted(trunk)
    ]
