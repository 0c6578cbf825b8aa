"""The size that a route takes to a loss, and the lowest loss that it reaches for a budget.

Shapes: P sizes of a grid.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kleiber.errors import UsageError
from kleiber.scaling import Law, PublishedLaw
from kleiber.scaling.forms import Array
from kleiber.study.advice.losses import Losses
from kleiber.study.advice.meter import Meter
from kleiber.study.advice.served import Served
from kleiber.study.advice.token_cost import Costs, Sized
from kleiber.study.advice.ways import Way

__all__ = ["Plan", "Search", "sizes_of"]

_NUM_GRID = 129
_FARTHER = (3.0, 30.0, 1e4)
"""How far beyond the law's sizes, as a factor, a size is sought, first near them, as for the optimum of a law."""
_NUM_HALVINGS = 30
_FEW_TOKENS = 1e6
"""With which nothing much is learnt."""


@dataclass(frozen=True)
class Plan:
    """A route with its size."""

    way: Way
    sized: Sized
    tokens: float
    """From scratch, without recovery after compression."""
    saving_frac: float
    """Of them, that a grown model is spared."""
    train_amount: float
    """Of a token of training, in the meter's unit."""
    serve_amount: float
    """Of a served token, likewise."""

    @property
    def trained_tokens(self) -> float:
        """All that are paid for."""
        return self.tokens * (1 - self.saving_frac) * self.way.train_factor

    def total(self, served_tokens: float) -> float:
        """Return what training and serving so many tokens cost."""
        return self.trained_tokens * self.train_amount + served_tokens * self.serve_amount


class Search:
    """Sizes for routes under one law at one device's costs.

    Args:
        losses: The law's point estimate is sought along.
        costs: By size.
        meter: What is to be least.
        sizes: Smallest and largest N that the law was fitted to.
    """

    def __init__(self, losses: Losses, costs: Costs, meter: Meter, sizes: tuple[float, float]) -> None:
        self._losses, self._costs, self._meter, self._sizes = losses, costs, meter, sizes
        self._grid = functools.cache(self._make_grid)
        self._lowest = functools.cache(lambda: losses.lowest(self._grid(_FARTHER[-1])))
        self._serving = functools.cache(self._make_serving)
        self._training = functools.cache(self._make_training)

    def plan(self, way: Way, loss: float, served_tokens: float, sized: Sized | None = None) -> Plan | None:
        """Return the cheapest size of a route to a loss; None where it has none.

        Args:
            way: The route.
            loss: Of what is served [nats/token].
            served_tokens: Over the model's life.
            sized: A size to take in place of the cheapest.

        Raises:
            UsageError: The cost still falls at the largest or smallest size that is looked at.
        """
        if sized is None:
            found = self.sought(way, loss, served_tokens)
            if found is None:
                return None
            sized = self._costs.chosen(found[0])
        tokens = float(self._losses.tokens_at(np.array([sized.num_params]), loss - way.rise.value)[0])
        if not math.isfinite(tokens):  # the size that exists is a little smaller than the one that was found
            return None
        saving = self._saving(way, np.array([sized.num_params]), np.array([tokens]))
        return Plan(
            way,
            sized,
            tokens,
            float(saving[0]),
            train_amount=self._meter.amount(sized.training),
            serve_amount=self._meter.amount(sized.serving(way.served)),
        )

    def bought(self, way: Way, budget: float, served_tokens: float) -> tuple[float, Sized] | None:
        """Return the lowest loss that a route reaches for a budget of training and serving, and the size; None where it has none.

        Args:
            way: The route.
            budget: In the meter's unit.
            served_tokens: Over the model's life.
        """
        low, high = self.lowest_loss(), self._highest()
        if self.least_total(way, served_tokens) > budget:
            return None
        for _ in range(_NUM_HALVINGS):
            middle = (low + high) / 2
            is_paid = self._total(way, middle, served_tokens) <= budget
            low, high = (low, middle) if is_paid else (middle, high)
        plan = self.plan(way, high, served_tokens)
        if plan is None:
            return None
        # A size that exists may cost a little more or less than what lies between sizes said: its tokens are those that are paid.
        left = budget - served_tokens * plan.serve_amount
        if left <= 0:
            return high, plan.sized
        a_token = plan.train_amount * plan.trained_tokens / plan.tokens
        loss = self._losses.point(np.array([plan.sized.num_params]), np.array([left / a_token]))
        return float(loss[0]) + way.rise.value, plan.sized

    def lowest_loss(self) -> float:
        """Return the lowest loss that the law gives to any size and tokens that are looked at."""
        return self._lowest()

    def _highest(self) -> float:
        """Return a loss that is hardly one: of the smallest size near the law's, with few tokens."""
        few = max(self._losses.tokens[0], min(_FEW_TOKENS, self._losses.tokens[1]))
        return float(self._losses.point(self._grid(_FARTHER[0])[:1], few)[0])

    def least_total(self, way: Way, served_tokens: float) -> float:
        """Return what a route costs to a loss that is hardly one: mostly serving."""
        return self._total(way, self._highest(), served_tokens)

    def _total(self, way: Way, loss: float, served_tokens: float) -> float:
        found = self.sought(way, loss, served_tokens, is_strict=False)
        return math.inf if found is None else found[1]

    def sought(
        self, way: Way, loss: float, served_tokens: float, *, is_strict: bool = True
    ) -> tuple[float, float] | None:
        """Return the best N, as if there were every size, and its cost of training and serving; None where there is none.

        Args:
            way: The route.
            loss: Of what is served.
            served_tokens: Over the model's life.
            is_strict: Whether a size at the end of those that are looked at is refused.

        Raises:
            UsageError: The cost still falls at the largest or smallest size that is looked at.
        """
        for far in _FARTHER:
            sizes_P = self._grid(far)
            train_P, serve_P = self._amounts(way, loss, far)
            total_P = train_P + served_tokens * serve_P
            sought_P = np.where(
                sizes_P <= way.least_params, np.inf, train_P if way.is_trained_alone else total_P
            )
            k = int(sought_P.argmin())
            # Next to sizes that cannot take the route nothing says that the valley is here.
            is_inside = 0 < k < len(sizes_P) - 1 and sizes_P[k - 1] > way.least_params
            if is_inside and math.isfinite(sought_P[k]):
                part, near = _vertex(np.log(sought_P[k - 1 : k + 2])), slice(k - 1, k + 2)
                return _between(sizes_P[near], part), _between(total_P[near], part)
        if not math.isfinite(sought_P[k]):
            return None
        if sizes_P[k] in (self._costs.low, self._costs.high) or not is_strict:
            return float(sizes_P[k]), float(total_P[k])
        if way.least_params and sizes_P[k - 1] <= way.least_params:
            return None
        raise UsageError(
            f"Under this law no size is best for a loss of {loss:.4g}: the cost still falls at {sizes_P[k]:.3g} parameters, too far "
            "from the rows.",
            hint="--loss nearer to the losses of the rows, or a law of --form chinchilla",
        )

    def _amounts(self, way: Way, loss: float, far: float) -> tuple[Array, Array]:
        """Return the cost of training and that of a served token at each size [P]."""
        sizes_P = self._grid(far)
        tokens_P = self._losses.tokens_at(sizes_P, loss - way.rise.value)
        trained_P = tokens_P * (1 - self._saving(way, sizes_P, tokens_P)) * way.train_factor
        return trained_P * self._training(far), self._serving(far, way.served)

    def _saving(self, way: Way, sizes_P: Array, tokens_P: Array) -> Array:
        """Return the part of the tokens that a grown model is spared [P]."""
        if way.start is None:
            return np.zeros(len(sizes_P))
        to_donor_P = self._losses.tokens_at(sizes_P, way.start.loss)
        with np.errstate(invalid="ignore"):
            spared = np.minimum(way.saving.value, to_donor_P / tokens_P)
        return np.where(np.isfinite(tokens_P), spared, 0.0)

    def _make_grid(self, far: float) -> Array:
        low = max(self._costs.low, self._sizes[0] / far)
        high = min(self._costs.high, self._sizes[1] * far)
        if low >= high:
            raise UsageError(
                f"The sizes of a gpt here, {self._costs.low:.3g} to {self._costs.high:.3g} parameters, are not those of the law, "
                f"{self._sizes[0]:.3g} to {self._sizes[1]:.3g}.",
                hint="--vocab-size 1024 --context 128   (as the law's runs had)",
            )
        grid: Array = np.geomspace(low, high, _NUM_GRID)
        grid[[0, -1]] = low, high
        return grid

    def _make_training(self, far: float) -> Array:
        return np.array([self._meter.amount(self._costs.training(size)) for size in self._grid(far)])

    def _make_serving(self, far: float, served: Served) -> Array:
        return np.array([self._meter.amount(self._costs.serving(size, served)) for size in self._grid(far)])


def _vertex(logs_3: Array) -> float:
    """Return where the parabola through three points is lowest, in steps from the middle one."""
    left, middle, right = logs_3.tolist()
    bend = left - 2 * middle + right
    if not (math.isfinite(bend) and bend > 0):
        return 0.0
    return float(np.clip((left - right) / (2 * bend), -1, 1))


def _between(values_3: Array, part: float) -> float:
    """Return the value so many steps from the middle one, by the parabola of logarithms; the middle one beside an infinite one."""
    left, middle, right = np.log(values_3).tolist()
    if not math.isfinite(left + right):
        return math.exp(middle)
    return math.exp(middle + part * (right - left) / 2 + part**2 * (left - 2 * middle + right) / 2)


def sizes_of(law: Law | PublishedLaw) -> tuple[float, float]:
    """Return the smallest and the largest N that a law was fitted to."""
    if isinstance(law, PublishedLaw):
        return law.fitted_params
    sizes: Iterable[float] = [float(row.num_params.by(law.convention)) for row in law.rows]
    return min(sizes), max(sizes)
