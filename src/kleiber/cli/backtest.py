"""`kleiber backtest`: how good the forecasts of these rows would have been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kleiber.cli.options import Json, Seed, parse_positive, parse_whole
from kleiber.cli.output import Output
from kleiber.cli.row_options import (
    ROWS_PANEL,
    Count,
    DropHighest,
    LossUnit,
    TableColumns,
    Where,
    check_written,
    parse_columns,
    parse_list,
)
from kleiber.errors import DataError, UsageError

if TYPE_CHECKING:
    from kleiber.runs import Convention, Row
    from kleiber.scaling import Foretold, Score

__all__ = ["EXAMPLE", "backtest"]

EXAMPLE = "kleiber backtest rows.csv --factors 3,10,30"
_COMMAND = "kleiber backtest rows.csv"
_FORMS = "auto,chinchilla,tied,quadratic,frontier"


def backtest(
    rows: Annotated[
        list[Path],
        typer.Argument(
            metavar="ROWS", help="Run folders, folders of runs, tables: CSV, TSV, JSON lines, parquet."
        ),
    ],
    *,
    forms: Annotated[
        str,
        typer.Option("--forms", metavar="NAME,...", help="Of a law; auto chooses from the cheap part alone."),
    ] = _FORMS,
    estimators: Annotated[
        str, typer.Option("--estimators", metavar="NAME,...", help="projection, approach3.")
    ] = "projection",
    factors: Annotated[
        str,
        typer.Option(
            "--factors",
            metavar="NUMBER,...",
            help="Compute of what is foretold over that of the dearest row that is fitted, at least.",
        ),
    ] = "10,30,100",
    floor: Annotated[
        str | None,
        typer.Option(
            "--floor",
            metavar="NATS",
            help="Loss that remains: of the form kaplan, which auto tries then too.",
        ),
    ] = None,
    columns: TableColumns = None,
    loss_unit: LossUnit = "nats",
    where: Where = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="COLUMN", help="Backtest groups apart.", rich_help_panel=ROWS_PANEL),
    ] = None,
    count: Count = "total",
    drop_highest: DropHighest = "0",
    bootstrap: Annotated[
        str, typer.Option("--bootstrap", metavar="WHOLE", help="Refits of each law, 20 or more.")
    ] = "100",
    seed: Seed = "0",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="backtest.json, which report shows, or a chart: .html, .svg, .png.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Fit laws to the cheap part of finished runs, ask them about the dear part, and score what they said.

    Rows are cut by compute at up to four places for each factor. Errors are of the loss; each cut counts alike. Skill is the part
    of the naive forecasts' error that the law saves. The interval score is the 80% interval's mean width plus what it pays for misses.

    With --json: groups: name (empty without --by): scores (method, factor, num_cuts, num_cells, error, worst, skill,
    interval_score, coverage_80, coverage_95), skipped (sentences). backtest (the file written, or null).
    """
    num_dropped = parse_whole(drop_highest, "--drop-highest", _COMMAND)
    num_bootstrap = parse_whole(bootstrap, "--bootstrap", _COMMAND, minimum=20, maximum=100_000)
    number = parse_whole(seed, "--seed", _COMMAND)
    asked = [parse_positive(text, "--factors", _COMMAND, example="10,30") for text in parse_list(factors)]
    remaining = 0.0 if floor is None else parse_positive(floor, "--floor", _COMMAND, example="1.2")
    if remaining and not {"auto", "kaplan"} & set(parse_list(forms)):
        raise UsageError(
            "--floor has no effect without the form kaplan or auto: others fit their own.",
            got=forms,
            hint=f"{_COMMAND} --forms auto,kaplan --floor 1.2",
        )
    named = {"--forms": parse_list(forms), "--estimators": parse_list(estimators), "--factors": asked}
    for option, given in named.items():
        if not given:
            raise UsageError(f"{option} needs at least one.", hint=EXAMPLE)
    check_written(output, EXAMPLE)
    from kleiber import scaling

    out = Output(json_)
    reading: dict[str, Any] = {
        "where": where,
        "loss_unit": loss_unit,
        "drop_highest": num_dropped,
        "on_notice": out.notice,
    }
    table = parse_columns(columns or [])
    groups: dict[str, list[Row]] = (
        scaling.read_groups(rows, by, table, **reading)
        if by
        else {"": scaling.read_rows(rows, table, **reading)}
    )
    document: dict[str, Any] = {}
    foretold: dict[str, tuple[int, Sequence[Foretold], Sequence[str]]] = {}
    for name, found in groups.items():
        skipped: list[str] = []
        try:
            cells = scaling.backtest_rows(
                found,
                forms=parse_list(forms),
                estimators=parse_list(estimators),
                factors=asked,
                floor=remaining,
                convention=count,
                num_bootstrap=num_bootstrap,
                seed=number,
                on_skip=skipped.append,
            )
        except DataError as error:
            if not name:
                raise
            raise DataError(f"Group {name!r}: {error.message}", got=error.got, hint=error.hint) from None
        scored = scaling.scores(cells)
        _print(out, name, len(found), scored, skipped)
        document[name] = {"scores": [asdict(one) for one in scored], "skipped": skipped}
        foretold[name] = (len(found), cells, skipped)
    if output:
        _write(output, foretold, count)
        out.say(f"Written to {output}.")
    out.document({"groups": document, "backtest": str(output) if output else None})


def _write(
    output: Path, foretold: dict[str, tuple[int, Sequence[Foretold], Sequence[str]]], count: Convention
) -> None:
    from kleiber.scaling.backtest_document import Backtest

    found = Backtest.of_cells(foretold, count)
    if output.suffix == ".json":
        found.write(output)
        return
    from kleiber.report.backtest_chart import write_backtest_chart

    write_backtest_chart(found, output)


def _print(out: Output, name: str, num_rows: int, scored: Sequence[Score], skipped: Sequence[str]) -> None:
    out.say(
        f"{name + ': ' if name else ''}{num_rows} rows; cells are rows foretold; 80% and 95%: how many the intervals held"
    )
    out.table(
        [
            "at",
            "form",
            "cuts",
            "cells",
            "error",
            "worst",
            "skill",
            "score",
            "80%",
            "95%",
        ],
        (
            [
                f"{one.factor:g}x",
                one.method,
                str(one.num_cuts),
                str(one.num_cells),
                f"{one.error:.2%}",
                f"{one.worst:.1%}",
                f"{one.skill:+.2f}",
                f"{one.interval_score:.3f}",
                f"{one.coverage_80:.0%}",
                f"{one.coverage_95:.0%}",
            ]
            for one in sorted(scored, key=lambda one: (one.factor, one.error))
        ),
        words=(1,),
    )
    for sentence in skipped:
        out.say(f"note: {sentence}")
    few = {one.factor for one in scored if one.num_cuts == 1}
    if few:
        shown = ", ".join(f"{factor:g}" for factor in sorted(few))
        out.say(f"note: One cut only at a factor of {shown}: who won there may have won by luck.")
