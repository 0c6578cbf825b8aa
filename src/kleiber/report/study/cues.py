"""Whether growing helps or costs: which way a quantity had better go."""

from __future__ import annotations

from typing import Literal

from kleiber.report.words import Words
from kleiber.study.growing.document import Curve, Quantity

__all__ = ["cue_of"]

_HIGHER_IS_BETTER: tuple[Quantity, ...] = ("onset_epoch", "highest_rate")
_NEITHER: tuple[Quantity, ...] = ("noise_scale", "spike_frac")


def cue_of(curve: Curve, words: Words) -> dict[str, str] | None:
    """Return the cue's class, `good` or `bad`, and its words; None without a trend, or where neither way is better."""
    whole = curve.trend("both")
    trend = whole.leading if whole else None
    if trend is None or trend.is_empty or not trend.has_trend or curve.quantity in _NEITHER:
        return None
    is_good = (trend.slope.value > 0) == (curve.quantity in _HIGHER_IS_BETTER)
    kind: Literal["good", "bad"] = "good" if is_good else "bad"
    return {"kind": kind, "says": words(f"cue_{kind}")}
