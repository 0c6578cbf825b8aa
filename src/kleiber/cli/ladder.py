"""`kleiber ladder plan|run|status`: many small runs, planned, trained and looked at."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kleiber.cli.bars import RunBars
from kleiber.cli.options import Json
from kleiber.cli.output import Output
from kleiber.units import format_bytes, format_count, format_flops, format_loss, format_seconds

if TYPE_CHECKING:
    from kleiber.study.ladder_plan import LadderPlan, RunPlan

__all__ = ["EXAMPLE", "app", "print_ladder_plan"]

EXAMPLE = "kleiber ladder run ladder.yaml -o runs/study"
_PLAN = "kleiber ladder plan ladder.yaml"
_STATUS = "kleiber ladder status runs/study"

Design = Annotated[
    Path, typer.Argument(metavar="LADDER", help="A design in YAML; see kleiber schema ladder.")
]

app = typer.Typer(help="Plan, train and watch the small runs that a law is fitted to.")


@app.command(epilog=f"Example: {_PLAN}")
def plan(design: Design, json_: Json = False) -> None:
    """Say what a ladder and its target will need, before anything runs.

    With --json: rungs (a list of name, num_params, num_tokens, train_flops, memory_bytes, step_time_s,
    total_time_s), target (the same), num_workers, ladder_time_s, total_time_s, total_flops, assumptions.
    """
    from kleiber.cost import load_calibration
    from kleiber.study.design import read_design
    from kleiber.study.ladder_plan import plan_ladder

    out = Output(json_)
    found = plan_ladder(read_design(design), load_calibration())
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
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the ladder that stands there.")] = False,
    json_: Json = False,
) -> None:
    """Train every run of a ladder, several side by side.

    What is finished is skipped, what was killed goes on: run the same command again.

    With --json: folder, rows (a list of run, trunk, num_params, num_tokens, loss).
    """
    from kleiber.study.design import read_design
    from kleiber.study.ladder import DESIGN_FILE, run_ladder

    asked, folder, out = read_design(design), output or Path("runs") / design.stem, Output(json_)
    if fresh:
        shutil.rmtree(folder / "ladder", ignore_errors=True)
        (folder / DESIGN_FILE).unlink(missing_ok=True)
    with out.progress() as bar:
        rows = run_ladder(asked, folder, on_event=RunBars(bar).on_event)
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
    out.say(
        f"{len(rows)} runs in {folder / 'ladder'}. Next: kleiber fit {folder / 'ladder'} -o {folder}/law.json"
    )
    keys = {"run", "trunk", "num_params", "num_tokens", "loss"}
    out.document({"folder": str(folder), "rows": [row.model_dump(mode="json", include=keys) for row in rows]})


@app.command(epilog=f"Example: {_STATUS}")
def status(
    folder: Annotated[Path, typer.Argument(help="The study that kleiber ladder run works in.")],
    json_: Json = False,
) -> None:
    """Show where each run of a ladder stands.

    With --json: runs (a list of run, status, step, num_steps, val_loss) and num_finished.
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
    num_finished = sum(one.status == "finished" for one in runs)
    out.say(f"{num_finished} of {len(runs)} runs have finished.")
    out.document({"runs": [asdict(one) for one in runs], "num_finished": num_finished})


def print_ladder_plan(out: Output, found: LadderPlan) -> None:
    """Print what each rung and the target will need, with the total."""
    out.table(
        ["", "params", "embed", "body", "head", "tokens", "FLOP", "memory", "time"],
        (_need(one) for one in (*found.rungs, found.target)),
    )
    for sentence in found.assumptions:
        out.say(f"- {sentence}")
    out.say(
        f"{len(found.rungs)} rungs, {found.num_workers} at a time: {format_seconds(found.ladder_time_s)}. With the "
        f"target: {format_seconds(found.total_time_s)} and {format_flops(found.total_flops)}."
    )


def _need(one: RunPlan) -> list[str]:
    count = one.num_params
    return [
        one.name,
        *(format_count(group) for group in (count.total, count.embedding, count.body, count.head)),
        format_count(one.num_tokens),
        format_flops(one.train_flops).removesuffix("FLOP"),
        format_bytes(one.memory_bytes.peak),
        format_seconds(one.total_time_s),
    ]
