"""Gadre et al. 2024 (arXiv:2403.08540): the large runs of each group foretold from far cheaper ones.

    python bench/laws/gadre.py ../shared/data/scaling_laws

The form is the paper's, exponents tied. First the paper's own five rows, with its estimator and with ours, and how many times
cheaper they are by every way to count. Then rows at least 300 times cheaper than the run to be foretold: which of them are fitted, by tokens per
parameter (M), is one rule for all groups, and it is the rule that foretold best inside these cheap rows: their dear part
from what is ten times cheaper still. The runs to be foretold are not looked at before it is chosen; what other ways to backtest
would have chosen is printed too.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit

from kleiber.runs import Row
from kleiber.scaling import fit_auto, read_groups, rule_of_thumb_flops
from kleiber.scaling.bootstrap import estimate
from kleiber.scaling.cuts import cuts_at
from kleiber.scaling.forms import FORMS, Array, Design
from kleiber.scaling.points import points_of
from kleiber.scaling.scores import geometric_mean

LARGEST_FITTED, LEAST_TARGET = 1e9, 5e20
ASKED, FACTOR = 0.012, 300.0
LOWEST_M, HIGHEST_M = (5.0, 10.0, 20.0), (320.0, 640.0)
TRIED_FACTORS = (48.0, 19.2, 10.0, 7.68, 3.07)
CHOSEN_FACTOR = 10.0
"""What `auto` and `backtest` take where nothing else is asked."""
_ROUNDING = 1.05
_LEAST_ROWS = 6

Law = Callable[[Sequence[Row]], Array]
"""Log losses of rows."""


def flops(row: Row) -> float:
    return rule_of_thumb_flops(row.num_params.total, row.num_tokens)


def per_param(row: Row) -> float:
    return row.num_tokens / row.num_params.total


@dataclass(frozen=True)
class Rule:
    """Which rows are fitted, by tokens per parameter, and by what form."""

    lowest: float
    highest: float
    form: str = "tied"

    def keeps(self, row: Row) -> bool:
        return self.lowest / _ROUNDING <= per_param(row) <= self.highest * _ROUNDING

    def __str__(self) -> str:
        return f"{self.form}, M from {self.lowest:g} to {self.highest:g}"


@dataclass(frozen=True)
class Task:
    """A large run and what may be fitted."""

    group: str
    target: Row
    small: tuple[Row, ...]

    @property
    def cheap(self) -> list[Row]:
        return [row for row in self.small if flops(row) * FACTOR <= flops(self.target)]

    @property
    def five(self) -> list[Row]:
        """The rows of the paper's table 2: every small size at M = 20, and the smallest at M = 320."""
        return [
            row
            for row in self.small
            if abs(per_param(row) / 20 - 1) < 0.05
            or (abs(per_param(row) / 320 - 1) < 0.05 and row.num_params.total < 2e7)
        ]

    def __str__(self) -> str:
        return f"{self.group} {self.target.num_params.total / 1e9:.1f} B at M = {per_param(self.target):.0f}"


def tasks(folder: Path) -> list[Task]:
    found = []
    for group, rows in read_groups([folder / "gadre_overtraining.csv"], "group").items():
        small = tuple(row for row in rows if row.num_params.total < LARGEST_FITTED)
        found += [Task(group, row, small) for row in rows if row not in small and flops(row) > LEAST_TARGET]
    return found


def law(rows: Sequence[Row], form: str) -> Law:
    """Return the tool's fit, Huber on log loss, without a bootstrap."""
    shape = FORMS[form]
    design = Design.of(points_of(rows, shape, "total"))
    theta, _ = estimate(shape, design, np.log([row.loss for row in rows]))
    point = shape.coefficients_of(theta, design)
    return lambda others: np.log(shape.value(point, points_of(others, shape, "total"))[0])


def paper_law(rows: Sequence[Row]) -> Law:
    """Return the paper's fit: least squares of the loss itself from its 128 starts."""

    def value(x: Array, a: float, b: float, power: float, floor: float) -> Array:
        return a * x[0] ** power + b * x[1] ** power + floor

    def inputs(some: Sequence[Row]) -> Array:  # D is counted as sqrt(6) M N there
        return np.array(
            [[row.num_params.total, math.sqrt(6) * row.num_tokens] for row in some], dtype=float
        ).T

    loss, best, best_error = np.array([row.loss for row in rows]), None, math.inf
    for start in itertools.product(
        (1e2, 3e2, 1e3, 3e3), (1e2, 3e2, 1e3, 3e3), (-0.1, -0.3), (0.0, 1.0, 2.0, 10.0)
    ):
        try:
            theta, _ = curve_fit(value, inputs(rows), loss, p0=start, maxfev=10_000)
        except RuntimeError:  # this start does not converge
            continue
        off = float(((value(inputs(rows), *theta) - loss) ** 2).sum())
        if off < best_error:
            best, best_error = theta, off
    assert best is not None
    return lambda others: np.log(value(inputs(others), *best))


def error(found: Law, target: Row) -> float:
    """Return the foretold loss over the measured one, less 1."""
    return math.expm1(float(found([target])[0]) - math.log(target.loss))


def trials(each: Sequence[Task], rule: Rule, factor: float) -> Iterator[tuple[tuple[str, int], float]]:
    """Yield the errors inside the cheap rows, by task and cut; the dear part is all of it, whatever the rule keeps."""
    for task in each:
        rows = task.cheap
        cuts = cuts_at(np.array([flops(row) for row in rows]), factor, most=3, least_rows=10)
        for k, cut in enumerate(cuts):
            kept = [rows[i] for i in cut.cheap if rule.keeps(rows[i])]
            if len(kept) >= _LEAST_ROWS:
                dear = [rows[i] for i in cut.dear]
                off = law(kept, rule.form)(dear) - np.log([row.loss for row in dear])
                yield (str(task), k), geometric_mean(np.abs(off).tolist())


def chosen(each: Sequence[Task], forms: Sequence[str], factor: float) -> tuple[Rule, float, int]:
    """Return the rule with the least geometric mean error inside the cheap rows, that error and the number of cuts."""
    rules = [Rule(*ends, form) for *ends, form in itertools.product(LOWEST_M, HIGHEST_M, forms)]
    by_rule = {rule: dict(trials(each, rule, factor)) for rule in rules}
    most = max(len(found) for found in by_rule.values())
    usual = {
        rule: geometric_mean(list(found.values()))
        for rule, found in by_rule.items()
        if found and 2 * len(found) > most
    }
    best = min(usual, key=usual.__getitem__)
    return best, usual[best], most


def print_five(each: Sequence[Task]) -> dict[str, dict[str, float]]:
    found = {}
    for task in each:
        rows, compute = task.five, flops(task.target)
        row = {
            "paper_estimator": error(paper_law(rows), task.target),
            "tool": error(law(rows, "tied"), task.target),
            "times_dearest": compute / max(flops(one) for one in rows),
            "times_total": compute / math.fsum(flops(one) for one in rows),
        }
        found[str(task)] = row
        print(
            f"the paper's five rows: {task!s:32s} {row['tool']:+.2%} (by the paper's least squares {row['paper_estimator']:+.2%}); "
            f"{row['times_dearest']:.0f} times the dearest of the five, {row['times_total']:.0f} times all together"
        )
    return found


def main(folder: Path) -> dict[str, object]:
    each = tasks(folder)
    five = print_five(each)
    found: dict[str, dict[str, float]] = {}
    for forms, factor in [
        *((("tied",), factor) for factor in TRIED_FACTORS),
        (("tied", "chinchilla"), CHOSEN_FACTOR),
    ]:
        rule, inside, num_cuts = chosen(each, forms, factor)
        errors = {
            str(task): error(law([row for row in task.cheap if rule.keeps(row)], rule.form), task.target)
            for task in each
        }
        name = f"{' or '.join(forms)}, backtests at {factor:g}"
        found[name] = errors
        shown = ", ".join(f"{task} {value:+.2%}" for task, value in errors.items())
        print(f"{name}: {num_cuts} cuts choose {rule} (off by {inside:.2%} there): {shown}")
    auto = {}
    for task in each:
        best = fit_auto(task.cheap, for_factor=FACTOR, num_bootstrap=100)
        said = best.predict(task.target.num_params.total, task.target.num_tokens)
        auto[str(task)] = said.loss / task.target.loss - 1
        low, high = (end / said.loss - 1 for end in said.interval_80)
        print(
            f"--form auto --for-factor 300: {task!s:32s} {auto[str(task)]:+.2%} by {best.form}, 80% {low:+.1%} to {high:+.1%}"
        )

    def is_met(errors: dict[str, float]) -> bool:
        return all(abs(value) <= ASKED for task, value in errors.items() if task.startswith("rpj"))

    met = {
        "paper_rows": is_met({task: row["tool"] for task, row in five.items()}),
        "chosen_inside": is_met(found[f"tied, backtests at {CHOSEN_FACTOR:g}"]),
        "auto": is_met(auto),
    }
    print(
        "gadre, both runs of rpj within 1.2%:",
        *(f"{name} {'met' if ok else 'NOT MET'}" for name, ok in met.items()),
    )
    return {"five": five, "chosen": found, "auto": auto, "met": met}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
