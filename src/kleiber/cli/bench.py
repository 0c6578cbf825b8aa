"""`kleiber bench`: speed, memory and quality by engine and precision, beside the limits of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kleiber.cli.options import Json, ModuleCode, OtherRecipe, Seed, parse_choice, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from kleiber.runs.bench_result import BenchSettings

__all__ = ["EXAMPLE", "StageBars", "bench"]

EXAMPLE = "kleiber bench runs/small runs/small-int4 --engine all -b 1,8"
_COMMAND = "kleiber bench runs/small"
_PICTURES = (".html", ".svg", ".png")


def bench(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Runs, or folders in the Hugging Face layout."),
    ] = None,
    *,
    engine: Annotated[
        str, typer.Option("--engine", metavar="all|auto|NAME,NAME", help="Engines that run them.")
    ] = "all",
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="stored|fp32,int8,int4", help="Of the weights; stored is as they are."
        ),
    ] = "stored",
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt-tokens", "-p", metavar="WHOLE", help="Tokens that are read; 512, or what fits."
        ),
    ] = None,
    new: Annotated[
        str | None,
        typer.Option(
            "--new-tokens", "-n", metavar="WHOLE", help="Tokens that follow them; 128, or what fits."
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option("--batch", "-b", metavar="WHOLE,WHOLE", help="Sequences or samples at once.")
    ] = "1",
    rounds: Annotated[str, typer.Option("--rounds", metavar="WHOLE", help="Turns of each; 2 or more.")] = "5",
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="WHOLE", help="Of each engine; torch's number.")
    ] = None,
    has_quality: Annotated[
        bool, typer.Option("--quality/--no-quality", help="Whether quality is measured too.")
    ] = True,
    samples: Annotated[
        str,
        typer.Option(
            "--samples", metavar="WHOLE", help="That quality is measured on at most; sequences of a text."
        ),
    ] = "256",
    max_quality_loss: Annotated[
        str,
        typer.Option("--max-quality-loss", metavar="1%", help="That the fastest may lose of its measure."),
    ] = "1%",
    has_memory: Annotated[
        bool,
        typer.Option("--memory/--no-memory", help="Whether load time and peak memory are measured too."),
    ] = True,
    recipe: OtherRecipe = None,
    module: ModuleCode = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The benchmark's document.")
    ] = Path("bench.json"),
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="The tables in Markdown.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="One line for each kind of call.")
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart", metavar="FILE", help="The roofline, as .html (opens with no network), .svg or .png."
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare", metavar="FILE FILE", help="Two documents side by side; nothing is measured."
        ),
    ] = None,
    seed: Seed = "0",
    json_: Json = False,
) -> None:
    """Measure models behind engines: time to the first token, time a token, samples a second, memory, quality.

    All take turns in one run, so that gains have intervals. Each figure stands beside its limit, the memory's rate at that
    working set or the products' peak, both measured in the same rounds. Where `kleiber calibrate` has been run, times are
    predicted first, and a run's ledger keeps both.

    With --json: the document; with --compare: pairs of calls.
    """
    out = Output(json_)
    if compare is not None:
        _compare(out, compare, runs or [])
        return
    if not runs:
        raise UsageError("a benchmark needs a model, or --compare two documents.", hint=EXAMPLE)
    settings = _settings(
        engine=engine,
        precision=precision,
        prompt=prompt,
        new=new,
        batch=batch,
        rounds=rounds,
        threads=threads,
        samples=samples,
        max_quality_loss=max_quality_loss,
        seed=seed,
    ).model_copy(update={"has_quality": has_quality, "has_memory": has_memory})
    if chart is not None:
        parse_choice(chart.suffix, "the ending of --chart", f"{_COMMAND} --chart roofline", _PICTURES)
    from kleiber.cli.bench_table import as_csv, as_markdown, print_bench
    from kleiber.infer.bench import add_to_ledgers
    from kleiber.infer.bench import bench as measure
    from kleiber.runs import read_recipe
    from kleiber.runs.files import write_text

    other = None if recipe is None else read_recipe(recipe)
    with out.progress() as bar:
        result = measure(runs, settings, recipe=other, module=module, on_progress=StageBars(bar))
    result.write(output)
    add_to_ledgers(result)
    print_bench(out, result)
    written = [output]
    for path, text in ((markdown, as_markdown), (csv, as_csv)):
        if path is not None:
            write_text(path, text(result))
            written.append(path)
    if chart is not None:
        from kleiber.report.bench_chart import write_bench_chart

        written.append(write_bench_chart(result, chart))
    out.say(f"\nWritten: {', '.join(map(str, written))}.")
    out.document(result.model_dump(mode="json"))


class StageBars:
    """A bar for each stage of a benchmark."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, what: str, *, total: int | None = None) -> None:
        """Move the stage's bar on and say what begins."""
        if stage not in self._tasks:
            for done in self._tasks.values():
                self._bar.update(done, visible=False)
            self._tasks[stage] = self._bar.add_task(stage, total=total, note="")
        else:
            self._bar.advance(self._tasks[stage])
        self._bar.update(self._tasks[stage], note=what)


def _settings(
    *,
    engine: str,
    precision: str,
    prompt: str | None,
    new: str | None,
    batch: str,
    rounds: str,
    threads: str | None,
    samples: str,
    max_quality_loss: str,
    seed: str,
) -> BenchSettings:
    counted: dict[str, Any] = {
        "prompt_tokens": None if prompt is None else parse_whole(prompt, "-p", _COMMAND, minimum=1),
        "new_tokens": None if new is None else parse_whole(new, "-n", _COMMAND, minimum=1),
        "batches": tuple(parse_whole(one, "-b", _COMMAND, minimum=1) for one in _words(batch, "-b", "1,8")),
        "num_rounds": parse_whole(rounds, "--rounds", _COMMAND, minimum=2),
        "quality_samples": parse_whole(samples, "--samples", _COMMAND, minimum=2),
        "seed": parse_whole(seed, "--seed", _COMMAND),
    }
    num_threads = None if threads is None else parse_whole(threads, "--threads", _COMMAND, minimum=1)
    names = _words(engine, "--engine", "all")
    import torch

    from kleiber.runs.bench_result import BenchSettings

    return BenchSettings(
        engines=() if names == ("all",) else names,
        precisions=_words(precision, "--precision", "fp32,int8"),
        max_quality_loss=_share(max_quality_loss),
        num_threads=num_threads or torch.get_num_threads(),
        **counted,
    )


def _words(text: str, name: str, example: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if not all(words) or len(set(words)) < len(words):
        raise UsageError(
            f"{name} takes words with commas between them, each once.",
            got=text,
            hint=f"{_COMMAND} {name} {example}",
        )
    return words


def _share(text: str) -> float:
    """Return the part of one that was typed as `1%`."""
    number, sign, rest = text.strip().partition("%")
    try:
        value = float(number) / 100
    except ValueError:
        value = -1.0
    if not (sign and not rest and 0 < value < 1):
        raise UsageError(
            "--max-quality-loss is a percentage above 0% and below 100%.",
            got=text,
            hint=f"{_COMMAND} --max-quality-loss 1%",
        )
    return value


def _compare(out: Output, paths: tuple[Path, Path], runs: list[Path]) -> None:
    if runs:
        raise UsageError(
            "--compare measures nothing: it takes two documents and no runs.",
            got=" ".join(map(str, runs)),
            hint="kleiber bench --compare here.json there.json",
        )
    from kleiber.cli.bench_table import print_compared
    from kleiber.infer.bench.compared import compared
    from kleiber.runs.bench_result import BenchResult

    first, second = (BenchResult.read(path, UsageError) for path in paths)
    pairs = compared(first, second)
    print_compared(out, pairs, first, second)
    out.document(
        {
            "first": str(paths[0]),
            "second": str(paths[1]),
            "calls": [
                {
                    "model": one.model,
                    "engine": one.engine,
                    "precision": one.precision,
                    "kind": one.kind,
                    "batch": one.batch,
                    "first_per_s": one.first.throughput_per_s.model_dump(),
                    "second_per_s": one.second.throughput_per_s.model_dump(),
                    "ratio": one.ratio.model_dump(),
                }
                for one in pairs
            ],
        }
    )
