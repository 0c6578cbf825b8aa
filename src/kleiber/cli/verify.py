"""`kleiber verify`: a forecast beside the run it was about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kleiber.cli.options import Json
from kleiber.cli.output import Output

__all__ = ["EXAMPLE", "verify"]

EXAMPLE = "kleiber verify forecast.json runs/big"


def verify(
    forecast: Annotated[
        Path, typer.Argument(help="A forecast, or an advice, that was written before the run.")
    ],
    run: Annotated[Path, typer.Argument(help="The run folder it is about.")],
    json_: Json = False,
) -> None:
    """Score a forecast against its run, beside two naive ones, and write the run's ledger.

    Another size, horizon, evaluation set or way of counting is refused. Of an advice the route is scored that the run took.

    With --json: ledger (a list of quantity, unit, predicted, measured, error_frac, skill, method, interval_80,
    is_inside) and skill, that of the law's forecast: |error| / (loss of the best rung - loss of the run).
    """
    from kleiber import scaling
    from kleiber.cli.ledger_table import ledger_document, print_ledger
    from kleiber.runs import RunFolder, write_ledger
    from kleiber.study.advice.scored import read_if_advice, scored
    from kleiber.study.ledger import plan_entries

    folder = RunFolder(run)
    record = folder.read_record()
    advice = read_if_advice(forecast)
    if advice is not None:
        entries = [*scored(advice, record, folder.read_receipt())]
    else:
        entries = [*scaling.verify(scaling.Forecast.read(forecast), record), *plan_entries(record)]
    write_ledger(folder.ledger_path, entries)
    out = Output(json_)
    print_ledger(out, entries)
    out.say(f"Written to {folder.ledger_path}.")
    out.document(ledger_document(entries))
