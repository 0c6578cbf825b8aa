"""Which form foretold best, which others did nearly as well, and how far errors reached beyond what was said of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kleiber.scaling.average import deviation
from kleiber.scaling.forms import Array
from kleiber.scaling.trials import Trial, Trials

__all__ = ["Choice", "Rule", "choose", "quantile"]

_LEAST_ERROR = 1e-4
"""A smaller error is luck."""
_LEAST_RATIO = 0.05
"""The same of an error over its deviation."""


@dataclass(frozen=True)
class Rule:
    """How to choose; bench/laws/backtest.py tries others."""

    rows_power: float = 1.0
    """Trials count by this power of the rows that were fitted: the task to come has all of them."""
    alike: float = 2.5
    """A form is a rival whose reckoned error is at most so many times that of the best."""
    prior_cells: float = 2.0
    """As how many more forecasts of a trial the usual form's error counts, where an error is reckoned."""
    prior_cuts: float = 1.0
    """As how many trials what public ladders showed counts, where the interval is widened by the ladder's own."""


@dataclass(frozen=True)
class Choice:
    """What the trials say."""

    lead: str
    """The candidate with the least typical error."""
    rivals: tuple[str, ...]
    """Those nearly as good, the best first."""
    errors: Mapping[str, float]
    """Typical error of each candidate that could be fitted at half of the cuts or more."""
    reckoned: Mapping[str, float]
    """The same with what other forms were off by counted in: what to expect, for a few forecasts may be right by luck."""
    ratio: float
    """80% quantile of |error| / deviation in the trials."""

    def widening(self, public_ratio: float, num_trials: int, rule: Rule) -> float:
        """Return the geometric mean of the ladder's own ratio, once a trial, and of the public one, `prior_cuts` times."""
        own = num_trials / (num_trials + rule.prior_cuts)
        return math.exp(own * math.log(self.ratio) + (1 - own) * math.log(public_ratio))


def choose(trials: Trials, rule: Rule | None = None, *, lead: str | None = None) -> Choice | None:
    """Return the choice; None where there were no trials.

    Args:
        trials: Of a ladder.
        rule: None takes the tool's.
        lead: Who leads, whatever these trials say; None lets them choose.
    """
    rule = rule or Rule()
    errors = _errors(trials.each, rule.rows_power)
    reckoned = _errors(trials.each, rule.rows_power, rule.prior_cells)
    if not errors or (lead is not None and lead not in errors):
        return None
    lead = lead or min(errors, key=errors.__getitem__)
    others = sorted((name for name in errors if name != lead), key=reckoned.__getitem__)
    # A law of repeated tokens asks more of a forecast: it leads or is out.
    rivals = tuple(
        name for name in others if reckoned[name] <= rule.alike * reckoned[lead] and name != "repeated"
    )
    return Choice(lead, rivals, errors, reckoned, _ratio(trials.each, lead, rivals, reckoned[lead]))


def quantile(values: Array, weights: Array, level: float = 0.8) -> float:
    """Return the least value that at least `level` of the weight does not exceed.

    Example:
        >>> quantile(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), 0.7)
        2.0
    """
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(weights[order]) / weights.sum(), level))
    return float(values[order][min(place, len(values) - 1)])


def _errors(each: Sequence[Trial], power: float, prior_cells: float = 0.0) -> dict[str, float]:
    """Return the typical error of each candidate that could be fitted at half of the cuts or more.

    A form that needs more rows misses the first, hardest cuts: it is placed by its ratio to the form with the most
    cuts over those that both have.
    """
    by_name: dict[str, dict[int, float]] = {}
    for k, trial in enumerate(each):
        for name in trial.said:
            by_name.setdefault(name, {})[k] = trial.error(name, prior_cells)
    usual = {name: found for name, found in by_name.items() if 2 * len(found) >= len(each)}
    if not usual:
        return {}
    reference = max(usual.values(), key=len)
    rows = [trial.num_rows**power for trial in each]

    def typical(errors: Mapping[int, float], cuts: Iterable[int]) -> float:
        logs = {k: math.log(max(errors[k], _LEAST_ERROR)) for k in cuts}
        return math.exp(
            math.fsum(rows[k] * log for k, log in logs.items()) / math.fsum(rows[k] for k in logs)
        )

    found = {}
    for name, errors in usual.items():
        both = errors.keys() & reference.keys()
        if both:
            ratio = typical(errors, both) / typical(reference, both)
            found[name] = ratio * typical(reference, reference)
    return found


def _ratio(each: Sequence[Trial], lead: str, rivals: Sequence[str], error: float) -> float:
    """Return the 80% quantile of |error| / deviation, every trial counting by its rows."""
    values, weights = [], []
    for trial in each:
        if lead in trial.said:
            mean, variance = trial.said[lead]
            others = [trial.said[name][0] for name in rivals if name in trial.said]
            off = np.abs(trial.log_loss_R - mean)
            values.append(off / deviation(mean, variance, np.stack([mean, *others]), error))
            weights.append(np.full(len(mean), trial.num_rows / len(mean)))
    return max(quantile(np.concatenate(values), np.concatenate(weights)), _LEAST_RATIO)
