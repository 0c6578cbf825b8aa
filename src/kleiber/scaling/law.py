"""A fitted law: its coefficients, how sure they are, and what it predicts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from kleiber.runs import Convention, Document, Excluded, Row, hash_of
from kleiber.scaling.average import Z_80, Z_95, Average
from kleiber.scaling.forms import FORMS, Array, Form, Points, form_of
from kleiber.scaling.noise import Noise
from kleiber.scaling.points import Values, points_at

__all__ = ["Interval", "Intervals", "Law", "LossUnit", "Prediction", "Predictions", "intervals_of"]

LossUnit = Literal["nats/token", "accuracy"]
"""Of what a law says."""
Interval = tuple[float, float]
Intervals = dict[Literal["80", "95"], Interval]

_NUM_QUANTILES = 101
_NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / _NUM_QUANTILES) for k in range(_NUM_QUANTILES)])
"""A standard normal as equally likely values: intervals need no random numbers."""
_LEVELS = (0.025, 0.1, 0.9, 0.975)
_SINCE_2 = {"estimator", "chance", "undetermined"}
_ROWS_SINCE_2 = {"active_params"}
_SINCE_3 = {"average"}
_WITH_AVERAGE = 3


@dataclass(frozen=True)
class Prediction:
    """The loss of one new run [nats/token], with intervals that count seed noise and misfit."""

    loss: float
    interval_80: Interval
    interval_95: Interval


@dataclass(frozen=True)
class Predictions:
    """Those of many runs, each array [P]."""

    loss: Array
    low_80: Array
    high_80: Array
    low_95: Array
    high_95: Array


class Law(Document):
    """A loss as a function of size and tokens, as `law.json`."""

    version: Literal[1, 2, 3] = 2
    """1 knew only the Chinchilla form; 3 are those with an `average`."""
    form: str = "chinchilla"
    """A key of `FORMS`."""
    estimator: str = "projection"
    """How the coefficients were found."""
    chance: float = 0.0
    """Accuracy of guessing, for laws of accuracies."""
    floor: float = Field(default=0.0, ge=0)
    """Loss that remains [nats/token], of the form `kaplan`: given, not fitted."""
    convention: Convention
    """Which parameters N counts."""
    loss_unit: LossUnit = "nats/token"
    coefficients: dict[str, float]
    """By the names of the form."""
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
    undetermined: tuple[str, ...] = ()
    """Coefficients that the rows do not tell."""
    notes: tuple[str, ...]
    """What a reader must know before using the law."""
    rows: tuple[Row, ...]
    """What it was fitted to."""
    excluded: tuple[Excluded, ...] = ()
    """Runs of the same ladder that diverged, each with its reason."""
    samples: tuple[tuple[float, ...], ...]
    """Coefficients of the bootstrap's refits, in the order of `coefficients`."""
    average: Average | None = None
    """Of `--form auto`: predictions are the average's, and everything above is of its heaviest member."""

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if self.form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {self.form!r}")
        names = FORMS[self.form].names
        if set(self.coefficients) != set(names):
            raise ValueError(
                f"a law of form {self.form} has the coefficients {' '.join(names)}, got {' '.join(self.coefficients)}"
            )
        if any(len(sample) != len(names) for sample in self.samples):
            raise ValueError(f"every sample must have {len(names)} numbers, one a coefficient")
        if (self.average is not None) != (self.version == _WITH_AVERAGE):
            raise ValueError(f"a law of version {_WITH_AVERAGE}, and no other, has an average")
        return self

    @property
    def hash(self) -> str:
        """Of the whole document, as its version knew it."""
        # Laws without one of these keep the hash that they had before there was the key.
        absent = {key for key in ("excluded", "floor") if not getattr(self, key)}
        if self.version == _WITH_AVERAGE:
            return hash_of(self.model_dump(mode="json", exclude=absent))
        if self.version > 1:
            return hash_of(self.model_dump(mode="json", exclude=_SINCE_3 | absent))
        since: Any = {**dict.fromkeys(_SINCE_2 | _SINCE_3 | absent, True), "rows": {"__all__": _ROWS_SINCE_2}}
        return hash_of(self.model_dump(mode="json", exclude=since))

    @cached_property
    def shape(self) -> Form:
        """The form's maths."""
        return form_of(self.form, chance=self.chance, floor=self.floor)

    @cached_property
    def point(self) -> Array:
        """The point estimate [1, K]."""
        return np.array([[self.coefficients[name] for name in self.shape.names]])

    @cached_property
    def refits(self) -> Array:
        """The bootstrap's refits [B, K]."""
        return np.array(self.samples)

    def losses(self, points: Points) -> Array:
        """Return the law's own losses [P], without the refits that intervals need."""
        losses: Array = self.shape.value(self.point, points)[0]
        return losses

    def predict(
        self,
        num_params: float,
        num_tokens: float,
        *,
        unique_tokens: float | None = None,
        active_params: float | None = None,
        flops: float | None = None,
    ) -> Prediction:
        """Return the loss of one new run.

        Args:
            num_params: N, counted by the law's convention.
            num_tokens: D, repeats included.
            unique_tokens: Different tokens, which a law of form `repeated` needs.
            active_params: Of a mixture of experts, which a law of form `mixture` needs.
            flops: Training compute, for a law of form `power_C`; None takes 6 N D.

        Raises:
            UsageError: A number is not positive and finite, or one that the form needs is missing.
        """
        active_frac = None if active_params is None else active_params / num_params
        found = self.predictions(
            num_params, num_tokens, unique_tokens=unique_tokens, active_frac=active_frac, flops=flops
        )
        return Prediction(
            loss=float(found.loss[0]),
            interval_80=(float(found.low_80[0]), float(found.high_80[0])),
            interval_95=(float(found.low_95[0]), float(found.high_95[0])),
        )

    def predictions(
        self,
        num_params: Values,
        num_tokens: Values,
        *,
        unique_tokens: Values | None = None,
        active_frac: Values | None = None,
        flops: Values | None = None,
    ) -> Predictions:
        """Return the losses of many new runs, as `predict` does of one.

        Raises:
            UsageError: A number is not positive and finite, or one that the form needs is missing.
        """
        inputs: dict[str, Any] = {
            "num_params": num_params,
            "num_tokens": num_tokens,
            "unique_tokens": unique_tokens,
            "active_frac": active_frac,
            "flops": flops,
        }
        if self.average is not None:
            mean, deviation = self.average.log_losses(inputs)
            ends = (np.exp(mean + z * deviation) for z in (-Z_80, Z_80, -Z_95, Z_95))
            return Predictions(np.exp(mean), *ends)
        points = points_at(self.shape, **inputs)
        response_BP = self.shape.response_of(self.shape.value(self.refits, points))
        spread = self.noise.total_frac * _NORMAL
        quantiles = np.stack(
            [
                np.quantile(self.shape.value_of(response[:, None] + spread), _LEVELS)
                for response in response_BP.T
            ]
        )
        low_95, low_80, high_80, high_95 = quantiles.T
        return Predictions(self.losses(points), low_80, high_80, low_95, high_95)

    def to_json(self) -> str:
        """Return indented JSON; a sample stands in one line, for there are hundreds."""
        document = json.loads(self.model_dump_json())
        samples = document.pop("samples")
        lines = ",\n".join(f"    {json.dumps(sample)}" for sample in samples)
        text = json.dumps(document, indent=2, ensure_ascii=False)
        body = re.sub(r"\n\}$", "", text)
        return f'{body},\n  "samples": [\n{lines}\n  ]\n}}\n'


def intervals_of(values: Array) -> Intervals:
    """Return the central intervals that hold 80% and 95% of the values.

    Example:
        >>> intervals_of(np.arange(81.0))["80"]
        (8.0, 72.0)
    """
    low_95, low_80, high_80, high_95 = np.quantile(values, _LEVELS).tolist()
    return {"80": (low_80, high_80), "95": (low_95, high_95)}
