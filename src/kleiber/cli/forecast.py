"""`kleiber forecast`: a law and a size into a loss with its interval, before the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kleiber.cli.options import Json, parse_positive
from kleiber.cli.output import Output
from kleiber.errors import UsageError
from kleiber.units import format_accuracy, format_count, format_loss

if TYPE_CHECKING:
    from kleiber.scaling import Forecast, Law

__all__ = ["EXAMPLE", "forecast", "print_forecasts"]

EXAMPLE = "kleiber forecast law.json --params 1.2e9 --tokens 30e9 -o forecast.json"
_KEYS = ("loss", "interval_80", "interval_95", "hash")


def forecast(
    law: Annotated[Path, typer.Argument(help="A law that kleiber fit has written.")],
    *,
    params: Annotated[
        str | None, typer.Option("--params", metavar="NUMBER", help="Size, counted as the law counts it.")
    ] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", metavar="NUMBER", help="Training tokens.")] = None,
    unique_tokens: Annotated[
        str | None,
        typer.Option(
            "--unique-tokens", metavar="NUMBER", help="Different tokens, for a law of repeated data."
        ),
    ] = None,
    active_params: Annotated[
        str | None,
        typer.Option(
            "--active-params", metavar="NUMBER", help="Active ones, for a law of mixtures of experts."
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            "--rows",
            metavar="FILE",
            help="A table with a line for each size and tokens, in place of the two.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the forecast here, before its run."),
    ] = None,
    json_: Json = False,
) -> None:
    """Say what loss a bigger run will reach, with its interval, beside what one would say without a law.

    That is the last rung's loss, and a straight line of log loss against log compute through the best rungs. Compute
    is 6 N D there, with N counted as the law counts it.

    With --json: loss (nats a token, or an accuracy), interval_80, interval_95, hash; with --rows a list predictions of these, in
    the file's order, each beside its num_params and num_tokens.
    """
    command = f"kleiber forecast {law}"
    points = _points(params, tokens, rows, output, command)
    further = {
        name: None if text is None else parse_positive(text, option, command)
        for name, option, text in (
            ("unique_tokens", "--unique-tokens", unique_tokens),
            ("active_params", "--active-params", active_params),
        )
    }
    from kleiber import scaling

    known = scaling.Law.read(law)
    if rows:
        points = scaling.read_points(rows)
    found = [scaling.forecast(known, size, num_tokens, **further) for size, num_tokens in points]
    out = Output(json_)
    print_forecasts(out, found)
    out.say(_reach(known, found))
    if rows:
        predictions = (
            {"num_params": one.num_params, "num_tokens": one.num_tokens} | _document(one) for one in found
        )
        out.document({"predictions": list(predictions)})
        return
    if output:
        found[0].write(output)
    out.say(
        f"Written to {output}, hash {found[0].hash}." if output else "Add -o forecast.json to be held to it."
    )
    out.document(_document(found[0]))


def _points(
    params: str | None, tokens: str | None, rows: Path | None, output: Path | None, command: str
) -> list[tuple[float, float]]:
    """Return the size and tokens that were typed; none when a table has them."""
    if rows:
        if params or tokens or output:
            raise UsageError(
                "--rows stands in place of --params, --tokens and -o.", hint=f"{command} --rows {rows} --json"
            )
        return []
    if params is None or tokens is None:
        missing = "--params" if params is None else "--tokens"
        raise UsageError(f"A forecast needs {missing}.", hint=f"{command} --params 1.2e9 --tokens 30e9")
    return [
        (
            parse_positive(params, "--params", f"{command} --tokens 30e9"),
            parse_positive(tokens, "--tokens", f"{command} --params 1.2e9"),
        )
    ]


def print_forecasts(out: Output, found: Sequence[Forecast]) -> None:
    """Print one line a forecast; for a single one, what would be said without a law."""
    is_accuracy = found[0].loss_unit == "accuracy"
    shown = format_accuracy if is_accuracy else format_loss
    out.table(
        [
            f"N ({found[0].convention})",
            "tokens",
            "accuracy" if is_accuracy else "loss",
            "80% interval",
            "95% interval",
        ],
        (
            [
                format_count(one.num_params),
                format_count(one.num_tokens),
                shown(one.loss),
                *(f"{shown(low)} to {shown(high)}" for low, high in (one.interval_80, one.interval_95)),
            ]
            for one in found
        ),
    )
    if len(found) == 1:
        naive = found[0].naive
        out.say(
            f"Without a law: {shown(naive.last_rung_loss)} as the last rung, "
            f"{shown(naive.log_log_line_loss)} by a straight log-log line."
        )


def _reach(law: Law, found: Sequence[Forecast]) -> str:
    """Return how far beyond its rows a law is asked: intervals of a far forecast are themselves a forecast."""
    from kleiber.scaling import rule_of_thumb_flops

    spent = max(rule_of_thumb_flops(row.num_params.by(law.convention), row.num_tokens) for row in law.rows)
    times = max(rule_of_thumb_flops(one.num_params, one.num_tokens) for one in found) / spent
    which = "The run takes" if len(found) == 1 else "The dearest takes"
    return f"{which} {times:.2g} times the compute of the dearest of the law's {law.num_rows} rows (6 N D)."


def _document(one: Forecast) -> dict[str, Any]:
    return {key: getattr(one, key) for key in _KEYS}
