"""`kleiber ladder tune|check|design|plan|run|status`: many small runs, designed, planned, trained and looked at."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kleiber.cli.bars import RunBars
from kleiber.cli.ladder_design import DESIGN_EXAMPLE, design
from kleiber.cli.ladder_rates import CHECK_EXAMPLE, TUNE_EXAMPLE, check, tune
from kleiber.cli.options import Design, DesignSets, Json
from kleiber.cli.output import Output
from kleiber.units import format_bytes, format_count, format_flops, format_loss, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from kleiber.fleet import Executor, JobEvent
    from kleiber.runs import Convention, Row
    from kleiber.study.adaptive import Decision
    from kleiber.study.design import LadderDesign
    from kleiber.study.ladder_plan import LadderPlan, RunPlan

__all__ = ["EXAMPLE", "app", "print_ladder_plan"]

EXAMPLE = "kleiber ladder run examples/ladder.yaml -o runs/study"
_PLAN = "kleiber ladder plan examples/ladder.yaml --set base.data.context=256"
_STATUS = "kleiber ladder status runs/study"

app = typer.Typer(help="Design, plan, train and watch the small runs that a law is fitted to.")
app.command(epilog=f"Example: {TUNE_EXAMPLE}")(tune)
app.command(epilog=f"Example: {CHECK_EXAMPLE}")(check)
app.command(epilog=f"Example: {DESIGN_EXAMPLE}")(design)


@app.command(epilog=f"Example: {_PLAN}")
def plan(design: Design, *, sets: DesignSets = None, json_: Json = False) -> None:
    """Say what a ladder and its target will need, before anything runs.

    With --json: rungs (a list of name, num_params, num_tokens, train_flops, memory_bytes, step_time_s,
    total_time_s), target (the same), num_workers, ladder_time_s, total_time_s, total_flops, assumptions.
    """
    from kleiber.cost import load_calibration
    from kleiber.study.design import read_design
    from kleiber.study.ladder_plan import plan_ladder

    out = Output(json_)
    asked = read_design(design).with_values(sets or [])
    if asked.base.task.name != "lm":  # text that is modelled says by itself what it looks like
        from kleiber.study.ladder import prepare_data

        asked = prepare_data(asked)
    found = plan_ladder(asked, load_calibration())
    print_ladder_plan(out, found)
    out.document(found.model_dump(mode="json"))


@app.command(epilog=f"Example: {EXAMPLE}")
def run(
    design: Design,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The study; without it runs/ and the design's name."
        ),
    ] = None,
    sets: DesignSets = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Plan the rest of a designed ladder anew as its rungs finish.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Train on a Ray cluster that shares this folder: auto for the one of this machine, HOST:PORT, or local to start one.",
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the ladder that stands there.")] = False,
    json_: Json = False,
) -> None:
    """Train every run of a ladder, several side by side, and write the recipe of the target that it is for.

    The plan is shown first; a machine that was never measured is measured for it, which takes some seconds. What is
    finished is skipped, what was killed goes on: run the same command again.

    A rung that diverges is trained once more at half the rates, else left out, and stops no other. With --adaptive the cheap
    rungs of a designed ladder are trained first, and the rest is planned anew from their rows within the same budget.

    With --json: folder, rows (a list of run, trunk, num_params, num_tokens, loss), excluded (a list of run, reason), target
    (recipe, num_params, num_tokens).
    """
    from kleiber.fleet import RayExecutor
    from kleiber.study.design import read_design
    from kleiber.study.ladder import current_ladder, ladder_excluded, run_ladder

    asked, folder = read_design(design).with_values(sets or []), output or Path("runs") / design.stem
    out = Output(json_)
    asked, planned = _prepare(asked, folder, out, fresh=fresh)
    with out.progress() as bar:
        on_event = RunBars(bar).on_event
        executor = RayExecutor(asked.num_workers, ray) if ray else None
        if adaptive:
            rows = _run_adaptive(asked, folder, out, on_event, executor)
        else:
            rows = run_ladder(asked, folder, executor=executor, on_event=on_event)
    out.table(
        ["run", "N", "tokens", "loss"],
        (
            [
                row.run,
                format_count(row.num_params.by(asked.count)),
                format_count(row.num_tokens),
                format_loss(row.loss),
            ]
            for row in rows
        ),
    )
    excluded = ladder_excluded(current_ladder(folder), folder)
    for one in excluded:
        out.say(f"Left out: {one.reason}")
    target = _say_next(out, folder, len(rows), planned, asked.count)
    keys = {"run", "trunk", "num_params", "num_tokens", "loss"}
    documents = [row.model_dump(mode="json", include=keys) for row in rows]
    reasons = [one.model_dump(mode="json") for one in excluded]
    out.document({"folder": str(folder), "rows": documents, "excluded": reasons, "target": target})


def _run_adaptive(
    asked: LadderDesign,
    folder: Path,
    out: Output,
    on_event: Callable[[JobEvent], None],
    executor: Executor | None,
) -> list[Row]:
    from kleiber.cost import load_calibration
    from kleiber.study.adaptive import run_adaptive

    def tell(decision: Decision) -> None:
        rest = "planned anew" if decision.is_changed else "as it was planned"
        num_next = sum(len(rung.seeds) for rung in decision.wave)
        num_rest = sum(len(rung.seeds) for rung in decision.rest)
        out.say(
            f"{decision.num_rows} rows: {num_next} trunks next, {num_rest} after them, {rest}; foreseen "
            f"±{decision.half_width_frac:.2%}."
        )

    return run_adaptive(
        asked,
        folder,
        calibration=load_calibration(),
        executor=executor,
        on_event=on_event,
        on_decision=tell,
    )


def _prepare(
    asked: LadderDesign, folder: Path, out: Output, *, fresh: bool
) -> tuple[LadderDesign, LadderPlan]:
    """Return design and plan, after showing it; the data is ready then, and the design stands in the folder."""
    from kleiber.cost import load_calibration
    from kleiber.study.design import rungs_of
    from kleiber.study.ladder import forget_ladder, measure_machine, open_ladder, prepare_data
    from kleiber.study.ladder_plan import plan_ladder

    asked = prepare_data(asked, lambda stage: out.say(f"{stage} ..."))
    if fresh:
        rungs_of(asked)  # what breaks a rule is refused before anything is removed
        forget_ladder(folder)
    open_ladder(folder, asked)
    calibration = load_calibration()
    # Rates alone say nothing of runs side by side: a ladder's own sizes are probed.
    if calibration is None or (calibration.rates is not None and not calibration.probes):
        out.say("measuring this machine ...")
        calibration = measure_machine(asked)
    planned = plan_ladder(asked, calibration)
    print_ladder_plan(out, planned)
    return asked, planned


def _say_next(
    out: Output, folder: Path, num_rows: int, planned: LadderPlan, count: Convention
) -> dict[str, Any]:
    """Say how the study goes on; return what programs are told of the target."""
    from kleiber.study.ladder import TARGET_FILE

    target, recipe, ladder = planned.target, folder / TARGET_FILE, folder / "ladder"
    out.say(f"{num_rows} runs in {ladder}; the recipe of the target is {recipe}. Next:")
    out.say(f"  kleiber fit {ladder} -o {folder}/law.json{'' if count == 'total' else f' --count {count}'}")
    out.say(
        f"  kleiber forecast {folder}/law.json --params {target.num_params.by(count)} --tokens {target.num_tokens} "
        f"-o {folder}/forecast.json"
    )
    out.say(f"  kleiber train {recipe} --forecast {folder}/forecast.json -o {folder}/target")
    return {
        "recipe": str(recipe),
        "num_params": target.num_params.model_dump(mode="json"),
        "num_tokens": target.num_tokens,
    }


@app.command(epilog=f"Example: {_STATUS}")
def status(
    folder: Annotated[Path, typer.Argument(help="The study that kleiber ladder run works in.")],
    json_: Json = False,
) -> None:
    """Show where each run of a ladder stands.

    With --json: runs (a list of run, status, step, num_steps, val_loss, reason of what failed) and num_finished.
    """
    from kleiber.study.ladder import ladder_status

    out, runs = Output(json_), ladder_status(folder)
    out.table(
        ["run", "status", "steps", "loss"],
        (
            [
                one.run,
                one.status,
                f"{one.step} of {one.num_steps}",
                format_loss(one.val_loss) if one.val_loss else "",
            ]
            for one in runs
        ),
    )
    for one in runs:
        if one.reason:
            out.say(f"{one.status}: {one.reason}")
    num_finished = sum(one.status == "finished" for one in runs)
    out.say(f"{num_finished} of {len(runs)} runs have finished.")
    out.document({"runs": [asdict(one) for one in runs], "num_finished": num_finished})


def print_ladder_plan(out: Output, found: LadderPlan) -> None:
    """Print what a rung of each size and the target will need, with the total."""
    by_size: dict[tuple[str, ...], list[RunPlan]] = {}
    for rung in found.rungs:
        by_size.setdefault(_need(rung), []).append(rung)
    out.table(
        ["each", "params", "embed", "body", "head", "tokens", "FLOP", "memory", "time"],
        [
            *((f"{len(rungs)} x {_size_of(rungs[0])}", *need) for need, rungs in by_size.items()),
            (found.target.name, *_need(found.target)),
        ],
    )
    for sentence in found.assumptions:
        out.say(f"- {sentence}")
    out.say(
        f"{len(found.rungs)} rungs, {found.num_workers} at a time: {format_seconds(found.ladder_time_s)}. With the "
        f"target: {format_seconds(found.total_time_s)} and {format_flops(found.total_flops)}."
    )


def _size_of(rung: RunPlan) -> str:
    return rung.name.rpartition("-s")[0]


def _need(one: RunPlan) -> tuple[str, ...]:
    count = one.num_params
    return (
        *(format_count(group) for group in (count.total, count.embedding, count.body, count.head)),
        format_count(one.num_tokens),
        format_flops(one.train_flops).removesuffix("FLOP"),
        format_bytes(one.memory_bytes.peak),
        format_seconds(one.total_time_s),
    )
