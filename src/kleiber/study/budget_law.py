"""A law of any form as a budget asks it: what a run would reach, which size is best, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kleiber.errors import UsageError
from kleiber.scaling import (
    Coefficients,
    Law,
    OptimalRun,
    Prediction,
    PublishedLaw,
    best_along,
    best_tokens,
)
from kleiber.scaling.forms import CHINCHILLA
from kleiber.scaling.law_optimum import LawCurve, best_near_rows
from kleiber.scaling.optimum import Curve, TokensOf, optimum_intervals
from kleiber.study.optimum import OptimumIntervals

__all__ = ["BudgetLaw"]

_HALF_STEP = 1e-3
"""Of a derivative in log N and log D."""
_DECADES = 4.0
"""How far from the rows' tokens those are looked for at which a size is best."""
_NUM_SCANNED = 97
_LOG_TOLERANCE = 1e-7
_FAR = 100.0
"""How far from the best size, as a factor, a form without a formula is believed to have one valley."""


@dataclass(frozen=True)
class BudgetLaw:
    """A published law, or a fitted one over size and tokens.

    A gpt of the dial is dense and its training tokens are taken as new: of a law of repeated data U is D, of one of
    mixtures of experts S is 1. Of an average of laws the best size is that of its heaviest member.
    """

    law: Law | PublishedLaw

    def __post_init__(self) -> None:
        """Refuse a law of which no size is best.

        Raises:
            UsageError: It is of accuracies or of one variable, or does not fall with size or with tokens.
        """
        if isinstance(self.law, Law):
            if self.law.loss_unit == "accuracy":
                raise UsageError(
                    "A budget is spent for the lowest loss, and this law is of accuracies.",
                    hint="--law besiroglu, or a law of losses",
                )
            if not {"N", "D"} <= set(self.law.shape.inputs):
                raise UsageError(
                    f"A law of form {self.law.form!r} does not weigh size against tokens: no size is best.",
                    hint="kleiber fit ROWS --form chinchilla -o law.json",
                )
        _ = self.curve  # a law of Chinchilla's form whose coefficients give no optimum

    @cached_property
    def formula(self) -> Coefficients | None:
        """Of Chinchilla's form, whose optimum has one; None of any other."""
        if isinstance(self.law, PublishedLaw):
            return self.law.coefficients
        return Coefficients.of(self.law) if self.law.form == CHINCHILLA.name else None

    @cached_property
    def curve(self) -> Curve:
        """The point estimate over size and tokens."""
        if self.formula is not None:
            return self.formula
        assert isinstance(self.law, Law)  # noqa: S101 - a published law has a formula
        return LawCurve(self.law, active_frac=1.0)

    def prediction(self, num_params: float, num_tokens: float) -> Prediction | None:
        """Return what is foretold of a run, with intervals; None of a published law, which has no refits."""
        if not isinstance(self.law, Law):
            return None
        return self.law.predict(num_params, num_tokens, unique_tokens=num_tokens, active_params=num_params)

    def best(self, tokens_of: TokensOf, bounds: tuple[float, float]) -> OptimalRun:
        """Return the run of the lowest loss on a budget.

        Args:
            tokens_of: Tokens that the budget buys at a size.
            bounds: Smallest and largest size.

        Raises:
            UsageError: The budget buys no token, or the law gives no best size near its rows.
        """
        if self.formula is not None:
            return best_along(self.formula, tokens_of, *bounds)
        return best_near_rows(self.curve, tokens_of, self._row_sizes, of="on this budget", bounds=bounds)

    def best_tokens(self, num_params: float, inference_tokens: float = 0.0) -> float | None:
        """Return the tokens for which a size is compute-optimal; None where the law gives none near its rows.

        That is where (1 + D_inference / (3 D)) dL/dlog D = dL/dlog N: a budget of 6 N D + 2 N D_inference exchanges
        size and tokens so.

        Args:
            num_params: N, > 0.
            inference_tokens: Tokens that will be served over the model's life.
        """
        if self.formula is not None:
            return best_tokens(self.formula, num_params, inference_tokens)

        def excess(log_d: float) -> float:
            tokens = math.exp(log_d)
            up, down = math.exp(_HALF_STEP), math.exp(-_HALF_STEP)
            of_tokens = self.curve.loss(num_params, tokens * down) - self.curve.loss(num_params, tokens * up)
            of_size = self.curve.loss(num_params * down, tokens) - self.curve.loss(num_params * up, tokens)
            return (1 + inference_tokens / (3 * tokens)) * of_tokens - of_size

        assert isinstance(self.law, Law)  # noqa: S101 - a published law has a formula
        middle = float(np.mean(np.log([row.num_tokens for row in self.law.rows])))
        away = _DECADES * math.log(10)
        grid = np.linspace(middle - away, middle + away, _NUM_SCANNED).tolist()
        signs = [excess(log_d) > 0 for log_d in grid]
        falls = [k for k in range(1, _NUM_SCANNED) if signs[k - 1] and not signs[k]]
        if not falls:
            return None
        nearest = min(falls, key=lambda k: abs(grid[k] - middle))
        low, high = grid[nearest - 1], grid[nearest]
        while high - low > _LOG_TOLERANCE:
            half = (low + high) / 2
            low, high = (half, high) if excess(half) > 0 else (low, half)
        return math.exp((low + high) / 2)

    def size_exponent(self, tokens_of: TokensOf, bounds: tuple[float, float]) -> float | None:
        """Return the a of N_opt ~ C^a: by the formula, or around this budget; None where there is none."""
        if self.formula is not None:
            return self.formula.size_exponent
        try:
            less, more = (
                self.best(lambda size, factor=factor: factor * tokens_of(size), bounds)  # type: ignore[misc]
                for factor in (0.5, 2.0)
            )
        except UsageError:
            return None
        return math.log(more.num_params / less.num_params) / math.log(4)

    def intervals(
        self, tokens_of: TokensOf, best: OptimalRun, bounds: tuple[float, float]
    ) -> OptimumIntervals | None:
        """Return where the best size and its tokens lie when the law is resampled; None of a published law."""
        if not isinstance(self.law, Law):
            return None
        low, high = self.valley(best, bounds)
        sizes, tokens = optimum_intervals(self.law.samples, tokens_of, low, high, form=self.law.shape)
        return OptimumIntervals(
            size_80=sizes["80"], size_95=sizes["95"], tokens_80=tokens["80"], tokens_95=tokens["95"]
        )

    def valley(self, best: OptimalRun, bounds: tuple[float, float]) -> tuple[float, float]:
        """Return the sizes around the best one within which the loss has one minimum."""
        if self.formula is not None:
            return bounds
        return max(bounds[0], best.num_params / _FAR), min(bounds[1], best.num_params * _FAR)

    @property
    def _row_sizes(self) -> list[float]:
        assert isinstance(self.law, Law)  # noqa: S101 - a published law has a formula
        return [float(row.num_params.by(self.law.convention)) for row in self.law.rows]
