"""What routes cost in each draw of all that is not known: the law, the devices' speed, compression, growth.

Shapes: B draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kleiber.scaling.forms import Array
from kleiber.study.advice.document import Amount, Cost
from kleiber.study.advice.losses import Losses
from kleiber.study.advice.meter import Meter, Unit
from kleiber.study.advice.search import Plan
from kleiber.study.advice.spread import normals
from kleiber.study.advice.token_cost import TokenCost

__all__ = ["Drawn", "Speeds", "amount_of", "cost_of", "drawn_of"]

_LEVELS = {"80": (0.1, 0.9), "95": (0.025, 0.975)}
_ALIKE = 1e-9
_TRAIN, _SERVE, _RISE, _SAVING, _RATIO = 1, 2, 3, 4, 5
"""Seeds of the orders: what two routes share is drawn alike for both."""


@dataclass(frozen=True)
class Speeds:
    """How sure times are: standard deviations of their logarithms, the same for all routes."""

    train_deviation: float
    serve_deviation: float
    says: str

    def train_factors(self, num_draws: int) -> Array:
        """Return what training takes over what was foretold [B]."""
        return np.exp(self.train_deviation * normals(num_draws, _TRAIN))

    def serve_factors(self, num_draws: int) -> Array:
        """Return what serving takes over what was foretold [B]."""
        return np.exp(self.serve_deviation * normals(num_draws, _SERVE))


@dataclass(frozen=True)
class Drawn:
    """One route with its plan's size, in each draw."""

    plan: Plan
    tokens_B: Array
    """To train on until the loss is reached; infinite where this size never does."""
    saving_B: Array
    rise_B: Array
    train_flops_B: Array
    train_s_B: Array
    """Of one device."""
    serve_flops_B: Array
    """Of one served token."""
    serve_s_B: Array

    @property
    def unreached_frac(self) -> float:
        """Part of the draws in which this size never reaches the loss."""
        return float(np.mean(~np.isfinite(self.tokens_B)))

    def amounts(self, meter: Meter) -> tuple[Array, Array]:
        """Return the cost of training and of a served token in the meter's unit [B] each."""
        train = TokenCost(self.train_flops_B, self.train_s_B)  # type: ignore[arg-type] # its maths takes arrays too
        serve = TokenCost(self.serve_flops_B, self.serve_s_B)  # type: ignore[arg-type]
        return np.asarray(meter.amount(train)), np.asarray(meter.amount(serve))


def drawn_of(plan: Plan, losses: Losses, loss: float, speeds: Speeds) -> Drawn:
    """Return what a plan costs in each draw: its size stays, and it is trained until the loss is reached.

    Args:
        plan: With its size.
        losses: The law.
        loss: Of what is served.
        speeds: Of the devices.
    """
    way, size, B = plan.way, plan.sized.num_params, losses.num_draws
    rise_B = way.rise.draws(B, _RISE)
    tokens_B = losses.drawn_tokens(size, loss - rise_B)
    saving_B = np.zeros(B)
    if way.start is not None:
        with np.errstate(invalid="ignore"):
            most_B = losses.drawn_tokens(size, way.start.loss) / tokens_B
        saving_B = np.where(np.isfinite(tokens_B), np.minimum(way.saving.draws(B, _SAVING), most_B), 0.0)
    trained_B = tokens_B * (1 - saving_B) * way.train_factor
    serving = plan.sized.serving(way.served)
    serve_s_B = serving.device_s * speeds.serve_factors(B) * way.serve_factor.draws(B, _RATIO)
    return Drawn(
        plan=plan,
        tokens_B=trained_B,
        saving_B=saving_B,
        rise_B=rise_B,
        train_flops_B=trained_B * plan.sized.training.flops,
        train_s_B=trained_B * plan.sized.training.device_s * speeds.train_factors(B),
        serve_flops_B=np.full(B, serving.flops),
        serve_s_B=serve_s_B,
    )


def amount_of(value: float, draws_B: Array) -> Amount:
    """Return a number with the intervals that its draws give; none where all draws are alike.

    Example:
        >>> amount_of(2.0, np.array([1.0, 2.0, np.inf])).interval_80
        (1.0, None)
    """
    if np.isfinite(draws_B).all() and np.ptp(draws_B) <= _ALIKE * abs(value):
        return Amount(value=value)
    ends = {
        name: tuple(
            float(end) if math.isfinite(end) else None
            for end in np.quantile(draws_B, levels, method="inverted_cdf")
        )
        for name, levels in _LEVELS.items()
    }
    return Amount(value=value, interval_80=ends["80"], interval_95=ends["95"])


def cost_of(drawn: Drawn, meter: Meter, *, trains: bool, served_tokens: float) -> Cost:
    """Return a route's cost in every unit.

    Args:
        drawn: The route.
        meter: Of devices and their price.
        trains: Whether training counts.
        served_tokens: That count; 0 of training alone.
    """
    found: dict[str, Amount | None] = {}
    units: dict[Unit, str] = {"flops": "flops", "s": "time_s", "usd": "usd"}
    plan = drawn.plan
    tokens = plan.trained_tokens
    serving = plan.sized.serving(plan.way.served)
    for unit, key in units.items():
        if unit == "usd" and meter.usd_per_hour is None:
            found[key] = None
            continue
        own = Meter(unit, meter.num_devices, meter.usd_per_hour)
        train_B, serve_B = drawn.amounts(own)
        value = trains * tokens * own.amount(plan.sized.training) + served_tokens * own.amount(serving)
        draws_B = served_tokens * serve_B + (train_B if trains else 0.0)
        found[key] = amount_of(value, draws_B)
    return Cost.model_validate(found)
