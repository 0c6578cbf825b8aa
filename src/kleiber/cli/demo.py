"""`kleiber demo`: the whole loop on real text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kleiber.cli.bars import RunBars
from kleiber.cli.options import Json, Seed, parse_whole
from kleiber.cli.output import Output
from kleiber.cli.serve import PACKAGES
from kleiber.units import format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from kleiber.study.demo import DemoEvent

__all__ = ["EXAMPLE", "demo"]

EXAMPLE = "kleiber demo"


def demo(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The study.")] = Path(
        "runs/demo"
    ),
    seed: Seed = "0",
    lang: Annotated[
        Literal["en", "zh"], typer.Option("--lang", metavar="en|zh", help="Language of the report.")
    ] = "en",
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what stands in the folder.")] = False,
    json_: Json = False,
) -> None:
    """Study how loss falls with size on real text, forecast a bigger model, train it, and show both.

    Minutes on two CPU cores, no GPU, no network. What is finished is skipped when the command runs again.

    With --json: ledger (a list of quantity, unit, predicted, measured, error_frac, skill, method, interval_80,
    is_inside), skill (of the law's forecast), folder, report, served (text, num_tokens, first_token_s, tokens_per_s; null
    without the extra serve).
    """
    from kleiber.study.demo_design import MAX_SEED

    number = parse_whole(seed, "--seed", EXAMPLE, maximum=MAX_SEED)
    from kleiber.cli.ledger_table import ledger_document
    from kleiber.report import write_report
    from kleiber.study.demo import run_demo

    out = Output(json_)
    with out.progress() as bar:
        entries = run_demo(output, seed=number, fresh=fresh, on_event=_Story(out, bar, RunBars(bar)).tell)
    reply = _serve(out, output / "target")
    page = write_report([output], output / "report.html", lang=lang)
    out.say(f"\n{page}: open it in a browser.")
    out.document(ledger_document(entries) | {"folder": str(output), "report": str(page), "served": reply})


def _serve(out: Output, folder: Path) -> dict[str, Any] | None:
    """Serve one streamed reply, and say how to open the page; return the reply."""
    try:
        from kleiber.serve.trial import streamed_reply
    except ModuleNotFoundError as error:
        if (package := str(error.name).partition(".")[0]) not in PACKAGES:
            raise
        out.say(f"\nNothing is served: {package} is not installed.  pip install 'kleiber[serve]'")
        return None
    prompt = "def __init__(self, "
    out.say("\nServing one reply over HTTP ...")
    out.write(prompt)
    reply = streamed_reply(folder, prompt, on_text=out.write)
    out.say(
        f"\n  {reply.num_tokens} tokens: the first after {format_seconds(reply.first_token_s)}, "
        f"then {reply.tokens_per_s:,.0f} a second."
    )
    out.say(f"  kleiber serve {folder}   and http://127.0.0.1:8000/ in a browser is a page to try it")
    return dataclasses.asdict(reply)


@dataclass(frozen=True)
class _Story:
    """Tells what happens as it happens."""

    out: Output
    bar: Bar
    runs: RunBars

    def tell(self, event: DemoEvent) -> None:
        """Move the bars, or print what a person should read between them."""
        from kleiber.fleet import Progressed

        if isinstance(event, Progressed):
            self.runs.on_event(event)
            return
        self.bar.stop()
        self._print(event)
        self.bar.start()

    def _print(self, event: DemoEvent) -> None:
        from kleiber.cli.bench_table import print_bench
        from kleiber.cli.fit import print_law
        from kleiber.cli.forecast import print_forecasts
        from kleiber.cli.ladder import print_ladder_plan
        from kleiber.cli.ledger_table import print_ledger
        from kleiber.cli.receipt_table import print_receipt
        from kleiber.fleet import Done
        from kleiber.runs.bench_result import BenchResult
        from kleiber.runs.receipt import Receipt
        from kleiber.scaling import Forecast, Law
        from kleiber.study.demo import Prepared, Sample, Verified
        from kleiber.study.ladder_plan import LadderPlan
        from kleiber.units import format_count

        match event:
            case str():
                self.out.say(f"{event} ...")
            case Prepared(meta):
                self.out.say(
                    f"  {meta.num_documents} files of Python {meta.python_version}: "
                    f"{format_count(meta.num_train_tokens)} tokens to train on, {format_count(meta.num_val_tokens)} held out"
                )
            case LadderPlan():
                print_ladder_plan(self.out, event)
            case Done():
                self.out.say(f"  {event.job} has finished")
            case Law():
                print_law(self.out, event)
            case Forecast():
                print_forecasts(self.out, [event])
            case Verified(entries):
                print_ledger(self.out, entries)
            case BenchResult():
                print_bench(self.out, event)
            case Receipt():
                print_receipt(self.out, event)
            case Sample():
                self.out.say(f"\n--- {event.prompt!r} goes on:")
                self.out.write(f"{event.prompt}{event.text}\n")
