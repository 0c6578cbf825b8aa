"""A fitted law: its coefficients, how sure they are, and what it predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from kleiber.errors import UsageError
from kleiber.runs import Convention, Document, Row, hash_of
from kleiber.scaling.form import COEFFICIENTS, Array, predict_loss
from kleiber.scaling.noise import Noise

__all__ = ["Interval", "Intervals", "Law", "Prediction", "intervals_of"]

Interval = tuple[float, float]
Intervals = dict[Literal["80", "95"], Interval]

_NUM_QUANTILES = 101
_NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / _NUM_QUANTILES) for k in range(_NUM_QUANTILES)])
"""A standard normal as equally likely values: intervals need no random numbers."""


@dataclass(frozen=True)
class Prediction:
    """The loss of one new run [nats/token], with intervals that count seed noise and misfit."""

    loss: float
    interval_80: Interval
    interval_95: Interval


class Law(Document):
    """L(N, D) = E + A / N^alpha + B / D^beta, as `law.json`."""

    version: Literal[1] = 1
    form: Literal["chinchilla"] = "chinchilla"
    convention: Convention
    """Which parameters N counts."""
    loss_unit: Literal["nats/token"] = "nats/token"
    coefficients: dict[str, float]
    """`E A B alpha beta`."""
    intervals: dict[str, Intervals]
    """Of each coefficient."""
    objective: float
    """Huber loss of log loss with delta 0.001, summed over the rows."""
    num_rows: int
    noise: Noise
    eval_hash: str | None
    """Of the rows' evaluation set; None when the rows do not say."""
    e_determined: bool
    """Whether the rows tell E; when they do not, L - E means nothing and is not shown."""
    notes: tuple[str, ...]
    """What a reader must know before using the law."""
    rows: tuple[Row, ...]
    """What it was fitted to."""
    samples: tuple[tuple[float, float, float, float, float], ...]
    """Coefficients of the bootstrap's refits."""

    @property
    def hash(self) -> str:
        """Of the whole document."""
        return hash_of(self)

    def predict(self, num_params: float, num_tokens: float) -> Prediction:
        """Return the loss of one new run.

        Args:
            num_params: N, counted by the law's convention.
            num_tokens: D, repeats included.

        Raises:
            UsageError: A number is not positive and finite.
        """
        for name, value in (("num_params", num_params), ("num_tokens", num_tokens)):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(
                    f"{name} must be a positive number.", got=value, hint="--params 1.2e9 --tokens 30e9"
                )
        point = np.array([[self.coefficients[name] for name in COEFFICIENTS]])
        log_loss_B = np.log(predict_loss(np.array(self.samples), num_params, num_tokens)[:, 0])
        new_runs = np.exp(log_loss_B[:, None] + self.noise.total_frac * _NORMAL)
        intervals = intervals_of(new_runs)
        return Prediction(
            loss=float(predict_loss(point, num_params, num_tokens)[0, 0]),
            interval_80=intervals["80"],
            interval_95=intervals["95"],
        )


def intervals_of(values: Array) -> Intervals:
    """Return the central intervals that hold 80% and 95% of the values.

    Example:
        >>> intervals_of(np.arange(81.0))["80"]
        (8.0, 72.0)
    """
    low_95, low_80, high_80, high_95 = np.quantile(values, [0.025, 0.1, 0.9, 0.975]).tolist()
    return {"80": (low_80, high_80), "95": (low_95, high_95)}
