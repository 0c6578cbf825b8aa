"""A designed ladder beside the best even grid of the same cost: width of the forecast's interval and its error.

    python bench/ladders/designed.py --folder runs/bench/designed

For five draws of seeds both ladders forecast a target of at least ten times the compute of their dearest run. What both
train is trained once: each draws its rows from one pool. The target is trained with three seeds, and errors are
against their mean. About a quarter of an hour of two cores; what was stopped goes on; the last line of stdout is one
JSON document.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import novels

from kleiber.models import resolve_spec
from kleiber.runs import Recipe, Row, row_of
from kleiber.scaling import Law, fit, fit_auto
from kleiber.study.design import LadderDesign, RungDesign, target_recipe
from kleiber.study.designing.beliefs import beliefs_of
from kleiber.study.designing.candidates import grid_of
from kleiber.study.designing.even import best_even_grid
from kleiber.study.designing.grid import Grid, Guard, State
from kleiber.study.designing.information import Information
from kleiber.study.designing.search import Search
from kleiber.study.ladder import ladder_rows, prepare_data, run_ladder

Fit: TypeAlias = Callable[[Sequence[Row]], Law]
FACTOR = 10.0
WAYS = ("designed", "even")
SEEDS_A_DRAW = 20


def main() -> None:
    parser = novels.parser(__doc__, "runs/bench/designed")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--width", type=int, default=64, help="of the target")
    parser.add_argument("--steps", type=int, default=4000, help="of the target")
    parser.add_argument("--budget", type=float, default=0.5, help="of each ladder, over the target's compute")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    asked = prepare_data(
        novels.ladder(
            arguments,
            base_recipe=_recipe(arguments),
            head_dim=8,
            widths=[arguments.width],
            horizons=[arguments.steps],
            seeds=[0],
            target_width=arguments.width,
            target_steps=arguments.steps,
        )
    )
    recipe = target_recipe(asked)
    grid = grid_of(recipe, factor=FACTOR, unit="flops")
    size, tokens = resolve_spec(recipe).count().total, recipe.num_tokens
    budget = (
        arguments.budget * resolve_spec(recipe).flops(recipe.train.batch_size).total * recipe.train.num_steps
    )
    information = Information(beliefs_of(grid, (float(size), float(tokens))))
    even = best_even_grid(grid, information, budget)
    # The design gets what the even grid costs, which is less than the budget.
    designed = even and Search(grid, information, grid.cost(even), Guard()).best()
    if even is None or designed is None:
        raise SystemExit("The budget holds no such ladders: more of it, or a larger target.")
    states, foreseen = {"designed": designed, "even": even}, {}
    for way, state in states.items():
        foreseen[way] = information.half_width_frac(state)
        print(f"{way}: {grid.cost(state):.3g} of {budget:.3g} FLOP, foreseen ±{foreseen[way]:.2%}")
        print("\n".join(f"  {line}" for line in _said(grid, state)), flush=True)
    pool = pool_of(asked, grid, list(states.values()), arguments.draws)
    run_ladder(pool, folder / "pool", on_event=novels.tell)
    by_name = {row.run: row for row in ladder_rows(pool, folder / "pool")}
    measured = targets(asked, folder, arguments.workers)
    laws = laws_above(novels.floor_of(folder / "pool"))
    found = [
        one_draw(
            laws,
            drawn(grid, state, by_name, draw),
            (size, tokens),
            statistics.fmean(measured),
            draw=draw,
            way=way,
        )
        for draw in range(arguments.draws)
        for way, state in states.items()
    ]
    summary = summarized(found)
    novels.end(
        folder / "designed.json",
        {
            "foreseen": foreseen,
            "measured": measured,
            "draws": found,
            "summary": summary,
            "checks": checks(summary),
        },
    )


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """Return the recipe of all runs: shorter sequences and warm-up than the other benches', for smaller models."""
    recipe = novels.base(arguments)
    if arguments.recipe:
        return recipe
    return recipe.with_values(
        [
            "data.context=128",
            "data.val_tokens=65536",
            "train.batch_size=4",  # small models need many steps
            "train.optimizer.lr=0.012",
            "train.optimizer.matrix_lr=0.004",
            "train.parametrization.base_tokens=null",
            "train.schedule.warmup_steps=50",
        ]
    )


def _said(grid: Grid, state: State) -> list[str]:
    return [
        f"N = {grid.sizes[i].num_params:,.0f}: "
        + ", ".join("+".join(str(grid.horizons[h]) for h in sorted(trunk)) for trunk in trunks)
        for i, trunks in enumerate(state)
        if trunks
    ]


def pool_of(asked: LadderDesign, grid: Grid, states: Sequence[State], num_draws: int) -> LadderDesign:
    """Return the ladder of all trunks that any draw of any state takes rows from."""
    rungs = []
    for i, size in enumerate(grid.sizes):
        for k in range(max(len(state[i]) for state in states)):
            steps = sorted(
                {grid.horizons[h] for state in states for trunk in state[i][k : k + 1] for h in trunk}
            )
            rungs += [
                RungDesign(model=size.model, seeds=(_seed(draw, k),), horizons=tuple(steps))
                for draw in range(num_draws)
            ]
    raw = asked.model_dump(mode="json", exclude={"sizes", "horizons", "seeds", "rungs"})
    return LadderDesign.model_validate({**raw, "rungs": [rung.model_dump(mode="json") for rung in rungs]})


def _seed(draw: int, k: int) -> int:
    return SEEDS_A_DRAW * draw + k + 1


def drawn(grid: Grid, state: State, by_name: dict[str, Row], draw: int) -> list[Row]:
    """Return the rows of one draw of a state."""
    names: dict[tuple[float, int | None, float], str] = {
        (row.num_params.total, row.seed, row.num_tokens): name for name, row in by_name.items()
    }
    keys = [
        (grid.sizes[i].num_params, _seed(draw, k), grid.horizons[h] * grid.tokens_per_step)
        for i, trunks in enumerate(state)
        for k, trunk in enumerate(trunks)
        for h in sorted(trunk)
    ]
    return [by_name[names[key]] for key in keys if key in names]  # what diverged twice has no row


def targets(asked: LadderDesign, folder: Path, num_workers: int) -> list[float]:
    """Return the losses of the target with three seeds."""
    runs = {}
    for seed in (1001, 1002, 1003):
        recipe = target_recipe(
            asked.model_copy(update={"target": asked.target.model_copy(update={"seed": seed})})
        )
        one_thread = recipe.parallel.model_copy(update={"num_threads": 1})
        runs[f"target-{seed}"] = recipe.model_copy(update={"parallel": one_thread}), None
    trained = novels.train_side_by_side(runs, folder, num_workers)
    return [row.loss for run in trained.values() if (row := row_of(run.read_record())) is not None]


def laws_above(floor: float) -> dict[str, Fit]:
    """Return what is fitted to each draw, by name."""
    return {
        "chinchilla": fit,
        "auto": lambda rows: fit_auto(rows, for_factor=FACTOR),
        "auto above a floor": lambda rows: fit_auto(rows, for_factor=FACTOR, floor=floor),
        "kaplan above a floor": lambda rows: fit(rows, form="kaplan", floor=floor),
    }


def one_draw(
    laws: Mapping[str, Fit], rows: Sequence[Row], target: tuple[int, int], measured: float, **about: Any
) -> dict[str, Any]:
    """Return width, error and interval score of each law of one draw."""
    found: dict[str, Any] = {**about, "num_rows": len(rows)}
    for name, law_of in laws.items():
        said = law_of(rows).predict(*target)
        low, high = said.interval_80
        found[name] = {
            "half_width_frac": (high - low) / 2 / said.loss,
            "error_frac": said.loss / measured - 1,
            "is_inside": low <= measured <= high,
            # Gneiting and Raftery 2007, equation 43, of an 80% interval.
            "score_frac": (high - low + 10 * (max(0.0, low - measured) + max(0.0, measured - high)))
            / measured,
        }
    shown = ", ".join(
        f"{name} ±{found[name]['half_width_frac']:.2%} {found[name]['error_frac']:+.2%}" for name in laws
    )
    print(f"draw {about['draw']}, {about['way']}, {len(rows)} rows: {shown}", flush=True)
    return found


def summarized(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean width, mean absolute error and mean interval score of each law and way."""
    return {
        law: {
            way: {
                "mean_half_width_frac": statistics.fmean(one[law]["half_width_frac"] for one in found if one["way"] == way),
                "mean_abs_error_frac": statistics.fmean(abs(one[law]["error_frac"]) for one in found if one["way"] == way),
                "mean_score_frac": statistics.fmean(one[law]["score_frac"] for one in found if one["way"] == way),
                "num_inside": sum(one[law]["is_inside"] for one in found if one["way"] == way),
                "num_draws": sum(one["way"] == way for one in found),
            }
            for way in WAYS
        }
        for law in (key for key, value in found[0].items() if isinstance(value, dict))
    }  # fmt: skip


def checks(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Print and return what was asked beside what was found."""
    found = []
    for law, by_way in summary.items():
        for key, what in (
            ("mean_half_width_frac", "width"),
            ("mean_abs_error_frac", "error"),
            ("mean_score_frac", "interval score"),
        ):
            designed, even = (by_way[way][key] for way in WAYS)
            found.append(
                novels.judged(
                    f"{law}, mean {what}",
                    f"below the even grid's {even:.2%}",
                    f"{designed:.2%}",
                    holds=designed < even,
                )
            )
    return found


if __name__ == "__main__":
    main()
