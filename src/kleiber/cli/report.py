"""`kleiber report`: run folders into one offline HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kleiber.cli.options import Json
from kleiber.cli.output import Output

__all__ = ["EXAMPLE", "report"]

EXAMPLE = "kleiber report runs/demo -o report.html --lang zh"


def report(
    paths: Annotated[list[Path], typer.Argument(metavar="PATHS", help="Run folders, or folders of runs.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The HTML file.")] = Path(
        "report.html"
    ),
    lang: Annotated[
        Literal["en", "zh"], typer.Option("--lang", metavar="en|zh", help="Language of the page.")
    ] = "en",
    json_: Json = False,
) -> None:
    """Write curves, law, forecast, ledger and samples of runs as one HTML file that needs no network.

    With --json: report (the file written), lang.
    """
    from kleiber.report import write_report

    out = Output(json_)
    written = write_report(paths, output, lang=lang)
    out.say(f"{written}: open it in a browser.")
    out.document({"report": str(written), "lang": lang})
