"""Four public sources cut into what is cheap and what is at least ten times dearer: each cut a task for a law."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kleiber.errors import DataError
from kleiber.runs import Row
from kleiber.scaling import read_groups, read_rows
from kleiber.scaling.auto import composed
from kleiber.scaling.average import Average, Member, foretold
from kleiber.scaling.candidates import CANDIDATES, fit_member, inputs_of
from kleiber.scaling.choice import Rule, choose
from kleiber.scaling.cuts import cuts_at
from kleiber.scaling.forms import Array
from kleiber.scaling.points import flops_of
from kleiber.scaling.suspects import without_duplicates
from kleiber.scaling.trials import Trials, asked_of, trials_of

FACTOR = 10.0
SINGLES = ("chinchilla", "quadratic", "frontier")
_NORMAL_80 = 1.2816


def sources(folder: Path) -> dict[str, dict[str, list[Row]]]:
    """Return rows by source and group: Epoch's without the five highest losses, Porian's tuned runs."""
    return {
        "epoch": {"massivetext": read_rows([folder / "epoch_chinchilla.csv"], drop_highest=5)},
        "gadre": read_groups([folder / "gadre_overtraining.csv"], "group"),
        "datablations": read_groups([folder / "datablations.csv"], "group"),
        "porian": read_groups([folder / "porian.csv"], "group", where='hparams == "tuned"'),
    }


@dataclass(frozen=True)
class Said:
    """What a method says of a task's dear rows, [R] each; intervals in log loss."""

    error_R: Array
    """|log foretold over measured|."""
    half_R: Array
    """Of an 80% interval; of `auto` the deviation before it is widened."""
    ratio: float = 1.0
    """Of the ladder's own trials, see `Choice`."""
    num_trials: int = 0
    untried: Said | None = None
    """What `auto` would say if the ladder could not be cut."""


@dataclass(frozen=True)
class Task:
    """A cut with everything that was fitted below it: rules are tried without another fit."""

    group: str
    dear: tuple[Row, ...]
    trials: Trials
    fitted: dict[str, Member]

    @classmethod
    def of(cls, group: str, cheap: list[Row], dear: list[Row]) -> Task:
        fitted = {}
        for name in asked_of(cheap):
            try:
                fitted[name] = fit_member(CANDIDATES[name], cheap, "total", num_bootstrap=100)
            except DataError:  # too few rows for this form
                continue
        return cls(group, tuple(dear), trials_of(cheap, FACTOR, "total"), fitted)

    def auto(self, rule: Rule) -> Said:
        """Return what the tool would say by a rule, not yet widened."""
        average = self.average(rule)
        untried = Said(*self._foretold(composed(self.trials, None, self.fitted, for_factor=FACTOR)))
        return Said(*self._foretold(average), average.trial_ratio or 1.0, average.num_cuts, untried)

    def average(self, rule: Rule) -> Average:
        return composed(self.trials, choose(self.trials, rule), self.fitted, for_factor=FACTOR, rule=rule)

    def single(self, name: str) -> Said:
        """Return what one form says, with the interval of its bootstrap."""
        mean, variance = foretold(self.fitted[name], inputs_of(self.dear, "total"))
        return Said(self._off(mean), _NORMAL_80 * np.sqrt(variance))

    def _foretold(self, average: Average) -> tuple[Array, Array]:
        mean, deviation = average.model_copy(update={"widening": 1.0}).log_losses(
            inputs_of(self.dear, "total")
        )
        return self._off(mean), deviation

    def _off(self, log_loss_R: Array) -> Array:
        return np.abs(np.log([row.loss for row in self.dear]) - log_loss_R)


def tasks(folder: Path) -> dict[str, list[Task]]:
    """Return the tasks by source; cuts where one of the single predictors cannot be fitted are left out for all."""
    found: dict[str, list[Task]] = {}
    for source, groups in sources(folder).items():
        for group, rows in groups.items():
            kept, _ = without_duplicates(rows)
            for cut in cuts_at(np.array([flops_of(row, "total") for row in kept]), FACTOR):
                task = Task.of(group, [kept[k] for k in cut.cheap], [kept[k] for k in cut.dear])
                if set(SINGLES) <= task.fitted.keys():
                    found.setdefault(source, []).append(task)
    return found
