"""`kleiber ladder tune|check`: rates found on a small model, and whether they carry over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kleiber.cli.options import Design, DesignSets, Json, parse_choice, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError
from kleiber.units import format_count, format_flops, format_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kleiber.study.tuning.coordinates import CoordinateCheck
    from kleiber.study.tuning.document import Tuning

__all__ = ["CHECK_EXAMPLE", "TUNE_EXAMPLE", "check", "tune"]

TUNE_EXAMPLE = "kleiber ladder tune examples/ladder.yaml -o runs/tuned"
CHECK_EXAMPLE = "kleiber ladder check runs/tuned/ladder.yaml --widths 32,64,128,256"
_RULES = ("completep", "mup_simple", "standard")
_MULTIPLES = (1, 2, 4, 8)


def tune(
    design: Design,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Gets ladder.yaml, tuning.json and the trials; without it runs/ and the design's name with -tuned.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="SIZE",
            help="The small model, such as gpt:depth=2,width=64; without it the ladder's smallest.",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps",
            metavar="WHOLE,...",
            help="Of a trial, without it the ladder's shortest horizon; several fit how rates fall with the horizon.",
        ),
    ] = None,
    max_trials: Annotated[
        str, typer.Option("--max-trials", metavar="WHOLE", help="Rates that are tried, in all.")
    ] = "16",
    seeds: Annotated[
        str,
        typer.Option("--seeds", metavar="WHOLE", help="Trainings of each trial, whose losses are averaged."),
    ] = "1",
    rule: Annotated[
        str,
        typer.Option(
            "--rule", metavar="NAME", help="completep, mup_simple or standard: how the rates carry over."
        ),
    ] = "completep",
    sets: DesignSets = None,
    json_: Json = False,
) -> None:
    """Tune a design's two rates on a small model, and write the design with the rule by which they carry over.

    Both rates together first, in powers of two from the design's, then that of the hidden matrices alone; a parabola says where
    between powers the best stands. What was killed goes on: run the same command again.

    With --json: folder, design, proxy, num_params, trials (a list of num_steps, lr, matrix_lr, loss), best (a list of num_steps,
    num_tokens, lr, matrix_lr, loss, is_bracketed), rule, token_exponent, is_exponent_fitted, train_flops, notes.
    """
    from kleiber.cli.bars import RunBars
    from kleiber.models import parse_size
    from kleiber.study.design import read_design
    from kleiber.study.ladder import prepare_data
    from kleiber.study.tuning.tune import TUNED_FILE, TuneSettings
    from kleiber.study.tuning.tune import tune as search

    command = f"kleiber ladder tune {design}"
    settings = TuneSettings(
        rule=parse_choice(rule, "--rule", command, _RULES),  # type: ignore[arg-type] # one of these
        model=parse_size(model) if model else None,
        horizons=_sizes(steps, "--steps", command, "500,1000") if steps else (),
        num_seeds=parse_whole(seeds, "--seeds", command, minimum=1, maximum=100),
        max_trials=parse_whole(max_trials, "--max-trials", command, minimum=1, maximum=1000, example=16),
    )
    out, folder = Output(json_), output or Path("runs") / f"{design.stem}-tuned"
    asked = read_design(design).with_values(sets or [])
    asked = prepare_data(asked, lambda stage: out.say(f"{stage} ..."))
    with out.progress() as bar:
        tuning = search(asked, folder, settings, RunBars(bar).show)
    path = folder / TUNED_FILE
    _print_tuning(out, tuning)
    out.say(f"The design with these rates and {tuning.rule} is {path}. Next:")
    out.say(f"  kleiber ladder check {path}")
    out.say(f"  kleiber ladder run {path} -o runs/study")
    document = tuning.model_dump(mode="json", exclude={"created_at"})
    out.document({"folder": str(folder), "design": str(path), **document})


def check(
    design: Design,
    *,
    widths: Annotated[
        str | None,
        typer.Option(
            "--widths",
            metavar="WHOLE,...",
            help="Without it 1, 2, 4 and 8 times that at which the rates were tuned.",
        ),
    ] = None,
    depths: Annotated[
        str | None,
        typer.Option(
            "--depths",
            metavar="WHOLE,...",
            help="Without it 1, 2, 4 and 8 times that at which the rates were tuned.",
        ),
    ] = None,
    steps: Annotated[str, typer.Option("--steps", metavar="WHOLE", help="Of training, at full rates.")] = "4",
    sets: DesignSets = None,
    json_: Json = False,
) -> None:
    """Show how far activations move in the first steps over widths and depths: where that is flat, rates carry over.

    With --json: rule, num_steps, is_flat, rows (a list of axis, what, sizes, moved, slope).
    """
    from kleiber.study.design import read_design
    from kleiber.study.ladder import prepare_data
    from kleiber.study.tuning.coordinates import check_coordinates
    from kleiber.study.tuning.proxy import base_sized

    command, out = f"kleiber ladder check {design}", Output(json_)
    asked = prepare_data(read_design(design).with_values(sets or []), lambda stage: out.say(f"{stage} ..."))
    recipe, width, depth = base_sized(asked)
    found = check_coordinates(
        recipe,
        widths=_sizes(widths, "--widths", command, "32,64,128")
        if widths
        else [width * m for m in _MULTIPLES],
        depths=_sizes(depths, "--depths", command, "2,4,8") if depths else [depth * m for m in _MULTIPLES],
        num_steps=parse_whole(steps, "--steps", command, minimum=1, maximum=1000, example=4),
    )
    _print_check(out, found)
    rows = [row.model_dump(mode="json") for row in found.rows]
    out.document({"rule": found.rule, "num_steps": found.num_steps, "is_flat": found.is_flat, "rows": rows})


def _sizes(text: str, name: str, command: str, example: str) -> tuple[int, ...]:
    """Return rising whole numbers that were typed with commas between.

    Raises:
        UsageError: One is no whole number, or they do not rise.
    """
    sizes = tuple(
        parse_whole(one.strip(), name, command, minimum=1, maximum=10**9) for one in text.split(",")
    )
    if list(sizes) != sorted(set(sizes)):
        raise UsageError(f"{name} takes numbers that rise.", got=text, hint=f"{command} {name} {example}")
    return sizes


def _print_tuning(out: Output, tuning: Tuning) -> None:
    out.table(
        ["steps", "lr", "matrix_lr", "loss"],
        (
            [
                str(one.num_steps),
                f"{one.lr:.3g}",
                f"{one.matrix_lr:.3g}",
                "diverged" if one.loss is None else format_loss(one.loss),
            ]
            for one in sorted(tuning.trials, key=lambda one: (one.num_steps, one.lr, one.matrix_lr))
        ),
    )
    for one in tuning.best:
        out.say(
            f"Best at {one.num_steps} steps ({format_count(one.num_tokens)} tokens): lr {one.lr:.3g}, matrix_lr {one.matrix_lr:.3g}."
        )
    whose = (
        "fitted to these horizons" if tuning.is_exponent_fitted else "as published; several --steps fit it"
    )
    out.say(f"At other horizons rates go with tokens^-{tuning.token_exponent:.2f}, {whose}.")
    out.say(
        f"{len(tuning.trials)} trials of a model with {format_count(tuning.num_params)} parameters took "
        f"{format_flops(tuning.train_flops)}."
    )
    for note in tuning.notes:
        out.notice(note)


def _print_check(out: Output, found: CoordinateCheck) -> None:
    for axis in ("width", "depth"):
        rows = [row for row in found.rows if row.axis == axis]
        if rows:
            out.table(
                [f"moved by {axis}", *(str(size) for size in rows[0].sizes), "power", ""],
                (
                    [
                        row.what,
                        *(f"{moved:.3g}" for moved in row.moved),
                        f"{row.slope:+.2f}",
                        "flat" if row.is_flat else "not flat",
                    ]
                    for row in rows
                ),
                words=(0, len(rows[0].sizes) + 2),
            )
    out.say(_verdict(found.rule, found.num_steps, [row.what for row in found.rows if not row.is_flat]))


def _verdict(rule: str, num_steps: int, uneven: Sequence[str]) -> str:
    said = f"After {num_steps} steps with {rule}"
    if not uneven:
        return f"{said} activations have moved alike at all sizes: rates carry over."
    names = ", ".join(dict.fromkeys(uneven))
    return f"{said} some have moved more at one size than at another ({names}): rates do not carry over."
