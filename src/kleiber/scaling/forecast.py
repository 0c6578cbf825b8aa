"""A prediction that is written before the run it is about."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from kleiber.errors import UsageError
from kleiber.runs import Convention, Document, ParamCount, Row, hash_of, now
from kleiber.scaling.forms import rule_of_thumb_flops
from kleiber.scaling.law import Interval, Law, LossUnit

__all__ = ["Forecast", "Naive", "forecast", "naive_forecasts"]


_FAR = 50.0
"""Through rungs of one budget a line may be as good as vertical; e^50 says as much as infinity."""


_SAME_BUDGET = 1e-6
"""Rungs whose log compute differs by less show no slope."""


class Naive(Document):
    """What one would say without a law [nats/token]."""

    last_rung_loss: float
    """The lowest loss of the largest size: "it will be as good"."""
    log_log_line_loss: float
    """A straight line of log loss against log compute through the best rung of each size; compute is 6 N D with the
    law's own N, for the rungs and for the run to come alike."""


class Forecast(Document):
    """The loss of one run to come, as `forecast.json`."""

    version: Literal[1, 2] = 2
    """1 knew only laws in N and D."""
    loss: float
    """In `loss_unit`, on the law's evaluation set."""
    interval_80: Interval
    interval_95: Interval
    loss_unit: LossUnit = "nats/token"
    num_params: float
    """N, by `convention`."""
    param_count: ParamCount | None
    """By group, when the model is known exactly."""
    num_tokens: float
    """D, repeats included."""
    unique_tokens: float | None = None
    """Different tokens among them, where the law asks for them."""
    active_params: float | None = None
    """Of a mixture of experts, where the law asks for them."""
    convention: Convention
    law_hash: str
    eval_hash: str | None
    best_rung_loss: float
    """The lowest loss (the highest accuracy) among the law's rows."""
    naive: Naive
    created_at: str
    hash: str
    """Of everything above: it shows an altered forecast, and stands in the record of the run."""

    def expected_hash(self) -> str:
        """Return the hash that the other keys give; it equals `hash` unless one was altered."""
        since_2 = set() if self.version > 1 else {"unique_tokens", "active_params"}
        return hash_of(self.model_dump(mode="json", exclude={"hash", *since_2}))


def forecast(
    law: Law,
    num_params: ParamCount | float,
    num_tokens: float,
    *,
    unique_tokens: float | None = None,
    active_params: float | None = None,
) -> Forecast:
    """Return what `law` says of a run, dated and sealed.

    Args:
        law: Fitted to smaller runs.
        num_params: The model's count by group, or N by the law's convention.
        num_tokens: D, repeats included.
        unique_tokens: Different tokens, which a law of form `repeated` needs.
        active_params: Of a mixture of experts, which a law of form `mixture` needs.

    Raises:
        UsageError: A number is not positive and finite, is missing for the law's form, or has no effect on it.
    """
    _check_effect(law, unique_tokens, active_params)
    count = num_params if isinstance(num_params, ParamCount) else None
    size = float(num_params.by(law.convention) if isinstance(num_params, ParamCount) else num_params)
    prediction = law.predict(size, num_tokens, unique_tokens=unique_tokens, active_params=active_params)
    losses = [row.loss for row in law.rows]
    unsealed = Forecast(
        loss=prediction.loss,
        interval_80=prediction.interval_80,
        interval_95=prediction.interval_95,
        loss_unit=law.loss_unit,
        num_params=size,
        param_count=count,
        num_tokens=num_tokens,
        unique_tokens=unique_tokens,
        active_params=active_params,
        convention=law.convention,
        law_hash=law.hash,
        eval_hash=law.eval_hash,
        best_rung_loss=max(losses) if law.loss_unit == "accuracy" else min(losses),
        naive=naive_forecasts(
            law.rows, law.convention, size, num_tokens, is_accuracy=law.loss_unit == "accuracy"
        ),
        created_at=now(),
        hash="",
    )
    return unsealed.model_copy(update={"hash": unsealed.expected_hash()})


def _check_effect(law: Law, unique_tokens: float | None, active_params: float | None) -> None:
    for name, value, key in (("unique_tokens", unique_tokens, "U"), ("active_params", active_params, "S")):
        if value is not None and key not in law.shape.inputs:
            raise UsageError(f"{name} has no effect on a law of form {law.form!r}.", got=value)


def naive_forecasts(
    rows: tuple[Row, ...],
    convention: Convention,
    num_params: float,
    num_tokens: float,
    *,
    is_accuracy: bool = False,
) -> Naive:
    """Return the forecasts that a law has to beat.

    The line goes through the horizon of the lowest loss of each size, seeds averaged; where there is one size, through
    its horizons. Compute is 6 N D: of the run to come no more than N and D is known, and its compute must be counted
    as the rungs' is. Of accuracies the highest counts, and the line ends at 1.
    """
    best = max if is_accuracy else min
    sizes = sorted({row.num_params.by(convention) for row in rows})
    by_size = {size: _means([row for row in rows if row.num_params.by(convention) == size]) for size in sizes}
    if len(sizes) > 1:
        rungs = [(size, *best(means.items(), key=lambda one: one[1])) for size, means in by_size.items()]
    else:
        rungs = [(sizes[0], tokens, mean) for tokens, mean in by_size[sizes[0]].items()]
    log_compute = np.log([rule_of_thumb_flops(size, tokens) for size, tokens, _ in rungs])
    log_value = np.log([value for _, _, value in rungs])
    away = log_compute - log_compute.mean()
    slope = float(away @ log_value / (away @ away)) if np.ptp(away) > _SAME_BUDGET else 0.0
    ahead = math.log(rule_of_thumb_flops(num_params, num_tokens)) - float(log_compute.mean())
    log_line = float(log_value.mean()) + slope * ahead
    line = math.exp(max(-_FAR, min(_FAR, log_line)))
    return Naive(
        last_rung_loss=best(row.loss for row in rows if row.num_params.by(convention) == sizes[-1]),
        log_log_line_loss=min(line, 1.0) if is_accuracy else line,
    )


def _means(rows: list[Row]) -> dict[float, float]:
    """Return the loss of each horizon, averaged over seeds."""
    horizons: dict[float, list[float]] = {}
    for row in rows:
        horizons.setdefault(row.num_tokens, []).append(row.loss)
    return {tokens: math.fsum(losses) / len(losses) for tokens, losses in horizons.items()}
