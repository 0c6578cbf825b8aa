"""`kleiber ladder design`: the rungs that tell most of a target for their cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kleiber.cli.options import DesignSets, Json, parse_positive
from kleiber.cli.output import Output
from kleiber.errors import UsageError
from kleiber.units import format_count, format_flops, format_seconds

if TYPE_CHECKING:
    from kleiber.cost import Calibration
    from kleiber.study.design import LadderDesign
    from kleiber.study.designing.designed import Designed

__all__ = ["DESIGN_EXAMPLE", "design"]

_FOR = "kleiber ladder design gpt --target gpt:depth=4,width=256@20e6"
DESIGN_EXAMPLE = f"{_FOR} --budget-flops 2e14 -o ladder.yaml"


def design(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE", help="What all runs share: a recipe or a ladder in YAML, or a family."
        ),
    ],
    *,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="SIZE@TOKENS", help="The run to come; without it that of a ladder."),
    ] = None,
    budget_flops: Annotated[
        str | None, typer.Option("--budget-flops", metavar="FLOP", help="Of all rungs.")
    ] = None,
    budget_s: Annotated[
        str | None,
        typer.Option("--budget-s", metavar="SECONDS", help="Wall clock of all rungs on this machine."),
    ] = None,
    budget_usd: Annotated[
        str | None, typer.Option("--budget-usd", metavar="USD", help="Price of that wall clock.")
    ] = None,
    usd_per_hour: Annotated[
        str | None, typer.Option("--usd-per-hour", metavar="USD", help="Of this machine.")
    ] = None,
    law: Annotated[
        Path | None, typer.Option("--law", metavar="LAW", help="Of earlier runs like these, if there is one.")
    ] = None,
    factor: Annotated[
        str,
        typer.Option("--factor", metavar="X", help="Compute of the target over the dearest run's, at least."),
    ] = "10",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The ladder that is written.")
    ] = Path("ladder.yaml"),
    sets: DesignSets = None,
    json_: Json = False,
) -> None:
    """Choose the rungs that make the forecast of a target as sure as a budget allows, and say what each buys.

    Sizes, horizons and repeats are chosen together: those that narrow the 80% interval at the target most for their cost,
    on average over three forms of law. A machine that was never measured is measured for a budget in seconds.

    With --json: ladder (the file), design (unit, budget, cost, factor, target_params, target_tokens, rungs (a list of
    name, model, num_params, num_tokens, num_trunks, cost, train_flops, half_width_without_frac), half_width_frac,
    least_half_width_frac, even (or null), rests_on, created_at).
    """
    from kleiber.scaling import Law
    from kleiber.study.designing.asked import asked_ladder
    from kleiber.study.designing.designed import design_ladder
    from kleiber.study.ladder import prepare_data

    out = Output(json_)
    unit, budget = _budget(budget_flops, budget_s, budget_usd, usd_per_hour)
    apart = parse_positive(factor, "--factor", DESIGN_EXAMPLE, example="10")
    asked = asked_ladder(base, target, sets or [])
    if asked.base.task.name != "lm":  # text that is modelled says by itself what it looks like
        asked = prepare_data(asked)
    found, said = design_ladder(
        asked,
        budget=budget,
        unit=unit,
        factor=apart,
        law=Law.read(law) if law else None,
        calibration=_calibration(asked, apart, out) if unit == "s" else None,
    )
    found.write(output)
    _print_design(out, said)
    out.say(f"Written to {output}. Next:")
    out.say(f"  kleiber ladder run {output} --adaptive -o runs/{output.stem}")
    out.document({"ladder": str(output), "design": said.model_dump(mode="json")})


def _budget(
    flops: str | None, seconds: str | None, usd: str | None, usd_per_hour: str | None
) -> tuple[Literal["flops", "s"], float]:
    """Return the one budget that was given, money as the time that it pays."""
    given = {
        name: parse_positive(text, name, _FOR)
        for name, text in (("--budget-flops", flops), ("--budget-s", seconds), ("--budget-usd", usd))
        if text is not None
    }
    if len(given) != 1:
        raise UsageError(
            "A design takes one budget: --budget-flops, --budget-s or --budget-usd.",
            got=" and ".join(given) or "none",
            hint=DESIGN_EXAMPLE,
        )
    ((name, amount),) = given.items()
    if name != "--budget-usd":
        if usd_per_hour is not None:
            raise UsageError("--usd-per-hour has no effect without --budget-usd.", got=usd_per_hour)
        return ("flops" if name == "--budget-flops" else "s"), amount
    if usd_per_hour is None:
        raise UsageError(
            "--budget-usd needs the price of this machine.", hint="--budget-usd 2 --usd-per-hour 0.10"
        )
    return "s", amount / parse_positive(
        usd_per_hour, "--usd-per-hour", f"{_FOR} --budget-usd 2", example="0.10"
    ) * 3600


def _calibration(asked: LadderDesign, factor: float, out: Output) -> Calibration:
    """Return what is known of this machine; one that was never measured is measured by three sizes and the target."""
    from kleiber.cost import load_calibration
    from kleiber.study.designing.designed import probe_ladder
    from kleiber.study.ladder import measure_machine

    known = load_calibration()
    if known is not None and (known.probes or known.rates):
        return known
    out.say("measuring this machine ...")
    return measure_machine(probe_ladder(asked, factor))


def _print_design(out: Output, said: Designed) -> None:
    show = format_flops if said.unit == "flops" else format_seconds
    out.table(
        ["rung", "N", "trunks", "runs", "tokens", "cost", "without it"],
        (
            [
                one.name,
                format_count(one.num_params),
                str(one.num_trunks),
                str(len(one.num_tokens)),
                f"{format_count(one.num_tokens[0])} to {format_count(one.num_tokens[-1])}",
                show(one.cost),
                f"±{one.half_width_without_frac:.2%}",
            ]
            for one in said.rungs
        ),
    )
    out.say(f"- {said.rests_on}")
    out.say(
        f"Foreseen at N = {format_count(said.target_params)} on {format_count(said.target_tokens)} tokens: an 80% interval of "
        f"±{said.half_width_frac:.2%}, of which one run's own scatter is ±{said.least_half_width_frac:.2%}. It costs "
        f"{show(said.cost)} of {show(said.budget)}."
    )
    if said.even is not None:
        out.say(
            f"The best even grid within that ({len(said.even.sizes)} sizes, {len(said.even.num_tokens)} horizons, "
            f"{said.even.num_seeds} seeds): ±{said.even.half_width_frac:.2%} for {show(said.even.cost)}."
        )
