"""Two models of at least ten times the compute of a ladder's dearest run: was their loss foretold within 1%?

    python bench/ladders/forecast.py --folder runs/bench/forecast

    python bench/ladders/forecast.py --target-flops 3e14 --widths 32,48,64,96,128 --target-widths 224,304

A ladder of four widths, four horizons and three seeds is trained in steps of 512 tokens, `--form auto` is fitted to it
above a known floor, and both forecasts are written before their runs start: one of nearly twice the width and four times
the tokens of the dearest run, one wider still on fewer tokens. 5e13 takes about half an hour of two cores. What was
stopped goes on; the last line of stdout is one JSON document, with what single forms said beside.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import novels

from kleiber.models import resolve_spec
from kleiber.runs import Predicted, Recipe, Row, RunFolder
from kleiber.scaling import Forecast, Law, fit, fit_auto, forecast, verify
from kleiber.study.design import LadderDesign, rungs_of, target_recipe
from kleiber.study.ladder import prepare_data, run_ladder

FACTOR = 10.0
"""Compute of a target over that of the dearest run of the ladder, at least."""
WIDTHS, TARGET_WIDTHS = (32, 48, 64, 80), (144, 176)
HORIZON_FRACS = (0.25, 0.4, 0.63, 1.0)
_SMALL_STEPS = (
    "train.batch_size=2",
    "train.optimizer.lr=0.007",
    "train.optimizer.matrix_lr=0.00285",
    "train.schedule.warmup_steps=200",
)
"""A fourth of the tokens a step: at these horizons more of them cost 0.05 of loss."""
SINGLE = ("chinchilla", "tied", "quadratic", "kaplan")
"""Forms whose forecasts are shown beside: not what is judged."""


def main() -> None:
    parser = novels.parser(__doc__, "runs/bench/forecast")
    parser.add_argument("--target-flops", type=float, default=5e13, help="compute of each target")
    parser.add_argument("--widths", type=novels.numbers, default=WIDTHS)
    parser.add_argument("--target-widths", type=novels.numbers, default=TARGET_WIDTHS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--floor", type=float, default=novels.FLOOR_BITS_PER_BYTE, help="loss that remains [bits/byte]"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    names = "abcdefgh"[: len(arguments.target_widths)]
    designs = {name: prepare_data(design_of(arguments, name)) for name in names}
    dearest = max(_flops(designs["a"]))
    for name, design in designs.items():
        flops = _target_flops(design)
        print(
            f"target {name}: {flops:.3g} FLOP, {flops / dearest:.1f} times the dearest run of the ladder",
            flush=True,
        )
        if flops < FACTOR * dearest:
            raise SystemExit(f"target {name} takes less than {FACTOR:g} times the dearest run.")
    rows = run_ladder(designs["a"], folder, on_event=novels.tell)
    floor = novels.floor_of(folder / "ladder", arguments.floor)
    law = law_in(folder / "law.json", rows, floor)
    print("\n".join([law.shape.equation, *(f"- {note}" for note in law.notes)]), flush=True)
    foretold = {
        name: forecast_in(folder / f"forecast-{name}.json", law, design) for name, design in designs.items()
    }
    for name, said in foretold.items():
        low, high = said.interval_80
        print(f"target {name}: forecast {said.loss:.4f}, 80% from {low:.4f} to {high:.4f}", flush=True)
    scored = {}
    for name, design in designs.items():
        predicted = Predicted(forecast_hash=foretold[name].hash, at=foretold[name].created_at)
        run = novels.train_target(design, folder / f"target-{name}", predicted)
        scored[name] = score(name, foretold[name], run, rows, floor)
    checks = [
        novels.judged(
            f"target {name}", "within 1%", f"{one['error_frac']:+.2%}", holds=abs(one["error_frac"]) <= 0.01
        )
        for name, one in scored.items()
    ]
    novels.end(folder / "forecast-figures.json", {"num_rows": len(rows), "targets": scored, "checks": checks})


def design_of(arguments: argparse.Namespace, name: str) -> LadderDesign:
    """Return the ladder with one of its targets, all of the same compute; the widest rung fixes the horizons."""
    k = ord(name) - ord("a")
    # The dearest run takes a tenth of the targets' compute, less 4% so that rounding keeps the promise.
    longest = arguments.target_flops / FACTOR / 1.04 / _step_flops(arguments, arguments.widths[-1])
    width = arguments.target_widths[k]
    return novels.ladder(
        arguments,
        widths=arguments.widths,
        horizons=[round(frac * longest) for frac in HORIZON_FRACS],
        seeds=range(1, 1 + arguments.seeds),
        target_width=width,
        target_steps=round(arguments.target_flops / _step_flops(arguments, width)),
        target_seed=1000 + k,
        base_recipe=recipe_of(arguments),
    )


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return what all runs share."""
    return novels.base(arguments).with_values([] if arguments.recipe else _SMALL_STEPS)


def _step_flops(arguments: argparse.Namespace, width: int) -> float:
    recipe = recipe_of(arguments).with_values(
        [f"model.{key}={value}" for key, value in novels.size(width).items()]
    )
    return float(resolve_spec(recipe).flops(recipe.train.batch_size).total)


def _flops(design: LadderDesign) -> list[float]:
    """Return the training compute of each run that becomes a row."""
    return [
        float(rung.spec.flops(recipe.train.batch_size).total * recipe.train.num_steps)
        for rung in rungs_of(design)
        for _, recipe in rung.branches
    ]


def _target_flops(design: LadderDesign) -> float:
    recipe = target_recipe(design)
    return float(resolve_spec(recipe).flops(recipe.train.batch_size).total * recipe.train.num_steps)


def law_in(path: Path, rows: Sequence[Row], floor: float) -> Law:
    """Return the law at `path` when it was chosen from these rows, or choose and write it."""
    if path.is_file() and (known := Law.read(path)).rows == tuple(rows) and known.average is not None:
        return known
    law = fit_auto(rows, for_factor=FACTOR, floor=floor)
    law.write(path)
    return law


def forecast_in(path: Path, law: Law, design: LadderDesign) -> Forecast:
    """Return the forecast at `path` when it is of this law, or write it: before the target starts."""
    if path.is_file() and (known := Forecast.read(path)).law_hash == law.hash:
        return known
    name = path.stem.rpartition("-")[2]
    if (path.parent / f"target-{name}").exists():
        raise SystemExit(
            f"target-{name} has started, and the law has changed since: remove it, or mend the law."
        )
    recipe = target_recipe(design)
    said = forecast(law, resolve_spec(recipe).count(), recipe.num_tokens)
    said.write(path)
    return said


def score(name: str, said: Forecast, run: RunFolder, rows: Sequence[Row], floor: float) -> dict[str, Any]:
    """Return what became of a forecast, the naive ones and single forms beside it."""
    record = run.read_record()
    ledger = {entry.method: entry for entry in verify(said, record)}
    law = ledger["law"]
    measured = law.measured
    size, tokens = record.num_params.total, record.result.num_tokens if record.result else math.nan
    singles = {}
    for form in SINGLE:
        one = fit(rows, form=form, floor=floor if form == "kaplan" else 0.0).predict(size, tokens)
        singles[form] = {"error_frac": one.loss / measured - 1, "interval_80": one.interval_80}
    found = {
        "num_params": size,
        "num_tokens": tokens,
        "train_flops": record.train_flops,
        "forecast": said.loss,
        "interval_80": said.interval_80,
        "forecast_at": said.created_at,
        "started_at": record.started_at,
        "measured": measured,
        "error_frac": said.loss / measured - 1,
        "is_inside": law.is_inside,
        "skill": law.skill,
        "last_rung_error_frac": ledger["last_rung"].predicted / measured - 1,
        "log_log_line_error_frac": ledger["log_log_line"].predicted / measured - 1,
        "single_forms": singles,
    }
    print(
        f"target {name}: forecast {said.loss:.4f}, measured {measured:.4f} ({found['error_frac']:+.2%}, "
        f"{'inside' if law.is_inside else 'outside'}); last rung {found['last_rung_error_frac']:+.1%}, log-log line "
        f"{found['log_log_line_error_frac']:+.1%}; "
        + ", ".join(f"{form} {one['error_frac']:+.2%}" for form, one in singles.items()),
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
