"""Branches that cool down from one trunk beside whole runs of every horizon: the same law, and what it saves.

    python bench/ladders/horizons.py --folder runs/horizons

The ladder trains a trunk and three branches for each of four widths and two seeds. Beside it each of the 24 runs is trained
from its start, with a seed of its own, as without branches; and one of them with its branch's seed, which must
come to the very loss of the branch. The law is Kaplan's above a known floor. Half an hour of two cores; a run that was stopped goes on; the last
line of stdout is one JSON document.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import novels

from kleiber.models import resolve_spec
from kleiber.runs import Recipe, Row, RunFolder, row_of
from kleiber.scaling import Law
from kleiber.study.design import LadderDesign, rungs_of, target_recipe
from kleiber.study.ladder import prepare_data, run_ladder

WIDTHS, HORIZONS, SEEDS = (32, 48, 64, 96), (600, 1000, 1700), (1, 2)
TARGET_WIDTH, TARGET_STEPS = 224, 5000
"""Where the two laws are compared: some ten times the compute of the dearest run."""


def main() -> None:
    parser = novels.parser(__doc__, "runs/bench/horizons")
    parser.add_argument("--scale", type=float, default=1.0, help="of all horizons")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    horizons = [round(arguments.scale * steps) for steps in HORIZONS]
    design = prepare_data(
        novels.ladder(
            arguments,
            widths=WIDTHS,
            horizons=horizons,
            seeds=SEEDS,
            target_width=TARGET_WIDTH,
            target_steps=round(arguments.scale * TARGET_STEPS),
        )
    )
    branch_rows = run_ladder(design, folder / "branches", on_event=novels.tell)
    whole = {name: (recipe, None) for name, recipe in whole_runs(design).items()}
    runs = novels.train_side_by_side(whole, folder / "whole", arguments.workers)
    whole_rows = [row for run in runs.values() if (row := row_of(run.read_record())) is not None]
    same = same_seed(design, folder)
    form: dict[str, Any] = {"form": "kaplan", "floor": novels.floor_of(folder / "whole")}
    laws = {
        "branches": novels.law_in(folder / "branches.json", branch_rows, **form),
        "whole": novels.law_in(folder / "whole.json", whole_rows, **form),
    }
    found = {
        **compare(laws["branches"], laws["whole"], design),
        **saved(design, folder, runs.values(), branch_rows, whole_rows),
        "same_seed": same,
    }
    found["checks"] = checks(found)
    novels.end(folder / "horizons.json", found)


def whole_runs(design: LadderDesign) -> dict[str, Recipe]:
    """Return a run from its start for each branch, each with a seed of its own."""
    branches = [branch for rung in rungs_of(design) for branch in rung.branches]
    return {
        name: recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": 100 + k})})
        for k, (name, recipe) in enumerate(branches)
    }


def same_seed(design: LadderDesign, folder: Path) -> dict[str, Any]:
    """Return the loss of the shortest branch of the smallest rung, and of the whole run with its seed."""
    name, recipe = rungs_of(design)[0].branches[0]
    run = novels.train_side_by_side({name: (recipe, None)}, folder / "same", 1)[name]
    return {
        "run": name,
        "branch": _loss(RunFolder(folder / "branches" / "ladder" / name)),
        "whole": _loss(run),
    }


def _loss(run: RunFolder) -> float:
    row = row_of(run.read_record())
    if row is None:
        raise SystemExit(f"{run.path} has not finished.")
    return row.loss


def compare(branches: Law, whole: Law, design: LadderDesign) -> dict[str, Any]:
    """Return coefficients and forecasts of both laws, and the gap of the forecasts in units of its own deviation."""
    print(f"\n{'':12s}  {'branches':>32s}  {'whole runs':>32s}")
    coefficients = {}
    for name in branches.coefficients:
        pair = [(law.coefficients[name], *law.intervals[name]["95"]) for law in (branches, whole)]
        coefficients[name] = {
            "branches": pair[0],
            "whole": pair[1],
            "overlap": _overlap(pair[0][1:], pair[1][1:]),
        }
        print(f"{name:12s}  {_said(pair[0]):>32s}  {_said(pair[1]):>32s}")
    recipe = target_recipe(design)
    size, tokens = resolve_spec(recipe).count().total, recipe.num_tokens
    said = [law.predict(size, tokens) for law in (branches, whole)]
    forecasts = [(one.loss, *one.interval_80) for one in said]
    print(
        f"{'forecast':12s}  {_said(forecasts[0]):>32s}  {_said(forecasts[1]):>32s}   (80%, of {size:,} on {tokens:,})"
    )
    return {
        "coefficients": coefficients,
        "forecasts": {"branches": forecasts[0], "whole": forecasts[1]},
        "gap_frac": said[0].loss / said[1].loss - 1,
        "forecasts_overlap": _overlap(said[0].interval_80, said[1].interval_80),
        "noise_frac": {"branches": branches.noise.seed_frac, "whole": whole.noise.seed_frac},
    }


def _said(values: Sequence[float]) -> str:
    return f"{values[0]:.4g} ({values[1]:.4g} to {values[2]:.4g})"


def _overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]


def saved(
    design: LadderDesign, folder: Path, runs: Any, branch_rows: Sequence[Row], whole_rows: Sequence[Row]
) -> dict[str, Any]:
    """Return tokens, operations and measured seconds of both ways, and the mean gap of their losses."""
    rungs = rungs_of(design)
    names = [name for rung in rungs for name in (rung.trunk, *(name for name, _ in rung.branches))]
    branch_s = sum(_time_s(RunFolder(folder / "branches" / "ladder" / name)) for name in names)
    whole_s = sum(_time_s(run) for run in runs)
    per_step = {rung.trunk: float(rung.spec.flops(design.base.train.batch_size).total) for rung in rungs}
    branch_flops = sum(rung.num_steps * per_step[rung.trunk] for rung in rungs)
    whole_flops = sum(
        recipe.train.num_steps * per_step[rung.trunk] for rung in rungs for _, recipe in rung.branches
    )
    gap = sum(one.loss for one in branch_rows) / sum(one.loss for one in whole_rows) - 1
    print(
        f"training: {branch_s:.0f} s in branches, {whole_s:.0f} s in whole runs; losses differ by {gap:+.3%} in the mean"
    )
    return {
        "branch_s": branch_s,
        "whole_s": whole_s,
        "saved_time_frac": 1 - branch_s / whole_s,
        "saved_flops_frac": 1 - branch_flops / whole_flops,
        "mean_loss_gap_frac": gap,
    }


def _time_s(run: RunFolder) -> float:
    result = run.read_record().result
    if result is None:
        raise SystemExit(f"{run.path} has not finished.")
    return result.total_time_s


def checks(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Print and return what was asked beside what was found."""
    apart = [name for name, one in found["coefficients"].items() if not one["overlap"]]
    same = found["same_seed"]
    return [
        novels.judged(
            "coefficients", "95% intervals that overlap", "all do" if not apart else f"not {', '.join(apart)}", holds=not apart
        ),
        novels.judged(
            "forecast", "80% intervals that overlap", f"{found['gap_frac']:+.2%} apart", holds=found["forecasts_overlap"]
        ),
        novels.judged(
            "saving", "as much time as the operations say, within 10 points",
            f"{found['saved_time_frac']:.0%} of the time, {found['saved_flops_frac']:.0%} of the operations",
            holds=abs(found["saved_time_frac"] - found["saved_flops_frac"]) <= 0.1,
        ),
        novels.judged(
            "same seed", "equal losses", f"{same['branch']!r} and {same['whole']!r}", holds=same["branch"] == same["whole"]
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
