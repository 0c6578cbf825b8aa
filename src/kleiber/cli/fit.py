"""`kleiber fit`: rows into a law."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kleiber.cli.options import Json, Seed, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError, nearest

if TYPE_CHECKING:
    from kleiber.scaling import Columns, Law

__all__ = ["EXAMPLE", "fit", "parse_columns", "print_law"]

EXAMPLE = "kleiber fit runs/demo/ladder -o law.json"
_COMMAND = "kleiber fit runs/demo/ladder"
_TABLE = "Columns of a table"


def fit(
    rows: Annotated[
        list[Path], typer.Argument(metavar="ROWS", help="Run folders, folders of runs, CSV files.")
    ],
    *,
    params_column: Annotated[
        str | None,
        typer.Option("--params-column", metavar="NAME", help="Parameters.", rich_help_panel=_TABLE),
    ] = None,
    tokens_column: Annotated[
        str | None,
        typer.Option("--tokens-column", metavar="NAME", help="Training tokens.", rich_help_panel=_TABLE),
    ] = None,
    loss_column: Annotated[
        str | None,
        typer.Option("--loss-column", metavar="NAME", help="Loss, in nats a token.", rich_help_panel=_TABLE),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns",
            metavar="FIELD=NAME",
            help="Any field: trunk, seed, body, ...",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    count: Annotated[
        Literal["total", "body", "matmul"],
        typer.Option("--count", metavar="total|body|matmul", help="Which parameters N counts."),
    ] = "total",
    drop_highest: Annotated[
        str, typer.Option("--drop-highest", metavar="WHOLE", help="Leave out so many rows of highest loss.")
    ] = "0",
    bootstrap: Annotated[
        str, typer.Option("--bootstrap", metavar="WHOLE", help="Refits for the intervals, 100 or more.")
    ] = "400",
    seed: Seed = "0",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the law here.")
    ] = None,
    json_: Json = False,
) -> None:
    """Fit L(N, D) = E + A/N^alpha + B/D^beta to finished runs or to the rows of a table.

    A run that started with a forecast stays out: the law is tested on it.

    With --json: form, coefficients (E A B alpha beta), intervals (80 and 95 of each), objective, num_rows,
    convention, e_determined, notes, law (the file written, or null).
    """
    num_dropped = parse_whole(drop_highest, "--drop-highest", _COMMAND)
    num_bootstrap = parse_whole(bootstrap, "--bootstrap", _COMMAND, minimum=100, maximum=1_000_000)
    number = parse_whole(seed, "--seed", _COMMAND)
    from kleiber import scaling

    named = {"params": params_column, "tokens": tokens_column, "loss": loss_column}
    table = parse_columns([*(columns or []), *(f"{field}={name}" for field, name in named.items() if name)])
    out = Output(json_)
    found = scaling.read_rows(rows, table, drop_highest=num_dropped, on_notice=out.notice)
    law = scaling.fit(found, convention=count, num_bootstrap=num_bootstrap, seed=number)
    if output:
        law.write(output)
    print_law(out, law)
    out.say(f"Written to {output}." if output else "Add -o law.json to keep it.")
    out.document(_document(law, output))


def parse_columns(assignments: list[str]) -> Columns:
    """Return the mapping that `FIELD=NAME` assignments give.

    Raises:
        UsageError: An assignment is malformed, or its field is unknown.
    """
    from kleiber.scaling import Columns

    known = [field.name for field in fields(Columns)]
    named: dict[str, str] = {}
    for assignment in assignments:
        field, separator, name = assignment.partition("=")
        if not (separator and name):
            raise UsageError("--columns takes FIELD=NAME.", got=assignment, hint="--columns loss=val_loss")
        if field not in known:
            raise UsageError(f"--columns knows no field {field!r}. {nearest(field, known)}")
        named[field] = name
    return Columns(**named)


def print_law(out: Output, law: Law) -> None:
    """Print the coefficients with their intervals, and what a reader must know."""
    out.say(
        f"L(N, D) = E + A/N^alpha + B/D^beta over {law.num_rows} rows; N counts {law.convention} parameters"
    )
    out.table(
        ["", "value", "80% interval", "95% interval"],
        (
            [name, _value(law, name), *(f"{low:.4g} to {high:.4g}" for low, high in _levels(law, name))]
            for name in law.coefficients
        ),
    )
    for note in law.notes:
        out.say(f"note: {note}")


def _document(law: Law, output: Path | None) -> dict[str, Any]:
    keys = (
        "form",
        "coefficients",
        "intervals",
        "objective",
        "num_rows",
        "convention",
        "e_determined",
        "notes",
    )
    document = law.model_dump(mode="json", include=set(keys))
    return {key: document[key] for key in keys} | {"law": str(output) if output else None}


def _value(law: Law, name: str) -> str:
    return "not determined" if name == "E" and not law.e_determined else f"{law.coefficients[name]:.4g}"


def _levels(law: Law, name: str) -> list[tuple[float, float]]:
    return [law.intervals[name]["80"], law.intervals[name]["95"]]
