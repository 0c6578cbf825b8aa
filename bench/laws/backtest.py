"""Forecasts of runs at least ten times dearer, on four public sources: `auto` beside single forms, and its intervals.

    python bench/laws/backtest.py ../shared/data/scaling_laws

A source's cuts count alike, and the sources too. Nothing that a source is scored with was chosen or calibrated on it: the power of the
rows that trials count by, how much the public prior counts beside a ladder's own trials, and how wide intervals are come from the
other three. The family of rules itself (one form leads, variances add up) was settled with all four in sight.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kleiber.scaling.auto import PUBLIC_RATIO, PUBLIC_REST, PUBLIC_UNTRIED
from kleiber.scaling.average import Z_80, Z_95
from kleiber.scaling.choice import Choice, Rule, quantile
from kleiber.scaling.forms import Array
from kleiber.scaling.scores import geometric_mean
from tasks import SINGLES, Said, Task, tasks

ROWS_POWERS = (0.0, 1.0, 2.0, 4.0)
PRIOR_CUTS = (0.5, 1.0, 2.0, 3.0, 10.0, 1e9)
"""The last leaves a ladder's own trials out."""
ASKED_COVERAGE = (0.72, 0.88)
_ALPHA = 0.2

Answers = dict[str, list[Said]]
"""By source, one a cut."""


def error(answers: Sequence[Said]) -> float:
    return geometric_mean([geometric_mean(one.error_R.tolist()) for one in answers])


def score(said: Said, half_R: Array) -> float:
    """Return the mean interval score of a cut, in log loss."""
    missed = np.maximum(0.0, said.error_R - half_R)
    return float(np.mean(2 * half_R + 2 / _ALPHA * missed))


def held(answers: Sequence[Said], halves: Sequence[Array], *, of_cells: bool = False) -> float:
    """Return the part that intervals held: the cuts of a source count alike, or its cells do."""
    inside = [one.error_R <= half for one, half in zip(answers, halves, strict=True)]
    return (
        float(np.mean(np.concatenate(inside))) if of_cells else float(np.mean([one.mean() for one in inside]))
    )


@dataclass(frozen=True)
class Public:
    """What other sources say of intervals."""

    ratio: float
    rest: float
    prior_cuts: float
    untried: float

    @classmethod
    def of(cls, sources: Sequence[list[Said]], prior_cuts: float) -> Public:
        """Calibrate, each source alike."""
        untried = quantile_of(
            [[one.untried for one in source if one.untried] for source in sources], lambda one: one.half_R
        )
        tried = [[one for one in source if one.num_trials] for source in sources]
        ratio = quantile_of(tried, lambda one: one.half_R)
        bare = cls(ratio, 1.0, prior_cuts, untried)
        return cls(ratio, quantile_of(tried, bare.half), prior_cuts, untried)

    def half(self, said: Said) -> Array:
        """Return half of the 80% intervals, log loss."""
        if not said.num_trials:
            return self.untried * said.half_R
        rule = Rule(prior_cuts=self.prior_cuts)
        choice = Choice(lead="", rivals=(), errors={}, reckoned={}, ratio=said.ratio)
        return self.rest * choice.widening(self.ratio, said.num_trials, rule) * said.half_R


def quantile_of(sources: Sequence[list[Said]], half: Callable[[Said], Array]) -> float:
    values = [one.error_R / half(one) for source in sources for one in source]
    weights = [
        np.full(len(one.error_R), 1 / len(one.error_R) / len(source)) for source in sources for one in source
    ]
    return quantile(np.concatenate(values), np.concatenate(weights))


def mean_score(answers: Sequence[Said], half: Callable[[Said], Array]) -> float:
    return float(np.mean([score(one, half(one)) for one in answers]))


def prior_chosen(answers: Answers) -> float:
    """Return the weight of the prior that scores best when each of these sources is calibrated on the others."""

    def left_out(prior_cuts: float) -> float:
        return math.fsum(
            mean_score(
                answers[name], Public.of([answers[one] for one in answers if one != name], prior_cuts).half
            )
            for name in answers
        )

    return min(PRIOR_CUTS, key=left_out)


def print_errors(found: dict[str, list[Task]]) -> dict[str, object]:
    """Print the errors of single forms, of auto as the tool has it, and of auto with a rule from the other three sources."""
    by_power: dict[float, dict[str, float]] = {
        power: {
            name: error([task.auto(Rule(rows_power=power)) for task in each]) for name, each in found.items()
        }
        for power in ROWS_POWERS
    }
    methods = {
        "auto": by_power[Rule().rows_power],
        **{
            one: {name: error([task.single(one) for task in each]) for name, each in found.items()}
            for one in SINGLES
        },
    }
    left_out: dict[str, dict[str, float]] = {"rule of the other three": {}, "single of the other three": {}}
    for name in found:
        rest = [other for other in found if other != name]
        power = min(ROWS_POWERS, key=lambda p: geometric_mean([by_power[p][other] for other in rest]))
        single = min(SINGLES, key=lambda one: geometric_mean([methods[one][other] for other in rest]))
        left_out["rule of the other three"][name] = by_power[power][name]
        left_out["single of the other three"][name] = methods[single][name]
        print(f"{name:13s} the other three choose rows^{power:g} for auto, and {single} as a single form")
    methods |= left_out
    methods |= {f"auto, rows^{power:g}": errors for power, errors in by_power.items()}
    overall = {method: geometric_mean(list(errors.values())) for method, errors in methods.items()}
    for method, errors in methods.items():
        shown = ", ".join(f"{name} {value:.2%}" for name, value in errors.items())
        print(f"{method:26s} geometric mean of the error {overall[method]:.2%} ({shown})")
    return {"errors": methods, "overall": overall}


def print_intervals(found: dict[str, list[Task]], single: str) -> dict[str, dict[str, float]]:
    """Print what intervals hold, calibrated on three sources and scored on the fourth."""
    answers = {name: [task.auto(Rule()) for task in each] for name, each in found.items()}
    bootstraps = {name: [task.single(single) for task in each] for name, each in found.items()}
    table: dict[str, dict[str, float]] = {}
    for name, mine in answers.items():
        rest = {other: one for other, one in answers.items() if other != name}
        row = {"prior_cuts": prior_chosen(rest)}
        for label, prior_cuts in (
            ("", Rule().prior_cuts),
            ("_chosen", row["prior_cuts"]),
            ("_without_own", PRIOR_CUTS[-1]),
        ):
            public = Public.of(list(rest.values()), prior_cuts)
            halves = [public.half(one) for one in mine]
            row[f"held_80{label}"] = held(mine, halves)
            row[f"cells_80{label}"] = held(mine, halves, of_cells=True)
            row[f"held_95{label}"] = held(mine, [Z_95 / Z_80 * half for half in halves])
            row[f"score{label}"] = mean_score(mine, public.half)
        row["bootstrap"] = mean_score(bootstraps[name], lambda one: one.half_R)
        row["held_80_bootstrap"] = held(bootstraps[name], [one.half_R for one in bootstraps[name]])
        print(
            f"{name:13s} 80% held {row['held_80']:.0%} (95%: {row['held_95']:.0%}; of cells {row['cells_80']:.0%}), score {row['score']:.3f}; "
            f"prior counts as {row['prior_cuts']:g} cuts by the others: {row['held_80_chosen']:.0%}, {row['score_chosen']:.3f}; "
            f"without own trials {row['held_80_without_own']:.0%}, {row['score_without_own']:.3f}; bootstrap of {single} "
            f"{row['held_80_bootstrap']:.0%}, {row['bootstrap']:.3f}"
        )
        table[name] = row
    means = {key: float(np.mean([row[key] for row in table.values()])) for key in next(iter(table.values()))}
    print(
        f"mean          80% held {means['held_80']:.0%} (95%: {means['held_95']:.0%}; of cells {means['cells_80']:.0%}), score "
        f"{means['score']:.3f}; prior by the others {means['held_80_chosen']:.0%}, {means['score_chosen']:.3f}; without own trials "
        f"{means['held_80_without_own']:.0%}, {means['score_without_own']:.3f}; bootstrap {means['held_80_bootstrap']:.0%}, {means['bootstrap']:.3f}"
    )
    every = Public.of(list(answers.values()), Rule().prior_cuts)
    print(
        f"all four sources give the ratio {every.ratio:.3f}, the rest {every.rest:.3f} and, untried, {every.untried:.3f}; "
        f"the tool has {PUBLIC_RATIO}, {PUBLIC_REST} and {PUBLIC_UNTRIED}"
    )
    return table | {
        "mean": means,
        "public": {"ratio": every.ratio, "rest": every.rest, "untried": every.untried},
    }


def main(folder: Path) -> dict[str, object]:
    found = tasks(folder)
    for name, each in found.items():
        for task in each:
            average, said = task.average(Rule()), task.auto(Rule())
            print(
                f"{name:13s}{task.group:13s}{len(task.dear):4d} dear rows: {average.members[0].candidate} beside "
                f"{', '.join(one.candidate for one in average.rivals) or 'none'}; off by {geometric_mean(said.error_R.tolist()):.2%}"
            )
    errors = print_errors(found)
    overall = errors["overall"]
    best = min(SINGLES, key=overall.__getitem__)  # type: ignore[attr-defined,index] # a dict of numbers
    intervals = print_intervals(found, best)
    mean = intervals["mean"]
    met = {
        "error": overall["auto"] <= overall[best],  # type: ignore[index] # the same
        "error_by_other_three": overall["rule of the other three"] <= overall[best],  # type: ignore[index] # the same
        "coverage": ASKED_COVERAGE[0] <= mean["held_80"] <= ASKED_COVERAGE[1],
        "coverage_of_cells": ASKED_COVERAGE[0] <= mean["cells_80"] <= ASKED_COVERAGE[1],
        "coverage_each": all(
            ASKED_COVERAGE[0] <= intervals[name]["held_80"] <= ASKED_COVERAGE[1] for name in found
        ),
        "interval_score": mean["score"] < mean["bootstrap"],
    }
    print(f"best single predictor, chosen afterwards: {best}")
    print("backtest:", *(f"{name} {'met' if is_met else 'NOT MET'}" for name, is_met in met.items()))
    return errors | {"intervals": intervals, "met": met}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
