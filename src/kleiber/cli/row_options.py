"""Options of the commands that read finished runs as rows: which rows, and what their columns are."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kleiber.errors import UsageError, nearest

if TYPE_CHECKING:
    from kleiber.scaling import Columns

__all__ = [
    "ROWS_PANEL",
    "TABLE_PANEL",
    "Count",
    "DropHighest",
    "LossUnit",
    "TableColumns",
    "Where",
    "check_written",
    "parse_columns",
    "parse_list",
]

TABLE_PANEL = "Columns of a table"
ROWS_PANEL = "Which rows"

TableColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="FIELD=NAME",
        help="Any field: trunk, seed, body, unique_tokens, active_params, flops, ...; keys of a column `extra` are columns.",
        rich_help_panel=TABLE_PANEL,
    ),
]
LossUnit = Annotated[
    Literal["nats", "bits"],
    typer.Option(
        "--loss-unit", metavar="nats|bits", help="Of a table's losses.", rich_help_panel=TABLE_PANEL
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Keep rows such as 'loss < 4 and group == \"rpj\"'; of runs: keys of the recipe.",
        rich_help_panel=ROWS_PANEL,
    ),
]
Count = Annotated[
    Literal["total", "body", "matmul"],
    typer.Option("--count", metavar="total|body|matmul", help="Which parameters N counts."),
]
DropHighest = Annotated[
    str, typer.Option("--drop-highest", metavar="WHOLE", help="Leave out so many rows of highest loss.")
]


_WRITTEN = (".json", ".html", ".svg", ".png")


def check_written(output: Path | None, example: str) -> None:
    """Refuse a file that would be neither a document nor a chart, before minutes are spent.

    Raises:
        UsageError: It has another ending.
    """
    if output is not None and output.suffix not in _WRITTEN:
        raise UsageError(
            "-o writes .json for a report, or a chart as .html, .svg or .png.",
            got=str(output),
            hint=f"{example} -o {output.stem or 'chart'}.html",
        )


def parse_list(text: str) -> list[str]:
    """Return the parts between commas.

    Example:
        >>> parse_list("1e20, 1e21,")
        ['1e20', '1e21']
    """
    return [part.strip() for part in text.split(",") if part.strip()]


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
