"""`kleiber study`: what growing a family's parameter count does, on given data, in a given time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kleiber.cli.bars import RunBars
from kleiber.cli.options import Json, Preset, Seed, Sets, assignments, parse_positive, parse_whole
from kleiber.cli.output import Output
from kleiber.errors import UsageError
from kleiber.units import format_count, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from kleiber.runs import Recipe
    from kleiber.study.growing.asked import Asked
    from kleiber.study.growing.document import Study
    from kleiber.study.growing.run import Planned, StudyEvent

__all__ = ["EXAMPLE", "study"]

EXAMPLE = "kleiber study gpt --data text:book.txt --budget-s 900 -o runs/study"


def study(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY", help="A family such as gpt, mlp or convnet, or a recipe in YAML with one."
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The study; without it runs/study- and the family."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="SOURCE", help="As data.source of a recipe; stdlib or digits by default."
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget-s", metavar="SECONDS", help="Wall clock of the whole study.")
    ] = "900",
    decades: Annotated[
        str, typer.Option("--decades", metavar="NUMBER", help="Powers of ten that N spans.")
    ] = "1.5",
    params: Annotated[
        str | None,
        typer.Option(
            "--params",
            metavar="LOW..HIGH",
            help="Smallest and largest N; without it what the budget is worth.",
        ),
    ] = None,
    sizes: Annotated[
        str, typer.Option("--sizes", metavar="WHOLE", help="Sizes that grow in depth and width together.")
    ] = "7",
    seeds: Annotated[str, typer.Option("--seeds", metavar="WHOLE", help="Runs of each of them.")] = "3",
    workers: Annotated[
        str | None,
        typer.Option("--workers", metavar="WHOLE", help="Runs side by side; all cores by default."),
    ] = None,
    preset: Preset = None,
    sets: Sets = None,
    seed: Seed = "0",
    lang: Annotated[
        Literal["en", "zh"], typer.Option("--lang", metavar="en|zh", help="Language of the page.")
    ] = "en",
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what stands in the folder.")] = False,
    json_: Json = False,
) -> None:
    """Measure what growing a model does: quality, compute, memory, bytes, latency, overfitting, stability, seeds.

    Trains sizes over some decades of N, by depth and width together and by each alone, and fits a power law with its
    interval to every quantity. Writes study.json and one page, study.html. The sizes and steps are chosen so that
    all fits the budget. What is finished is skipped, what was killed goes on: run the same command again.

    With --json: the study's document (family, source, members, curves: a list of quantity, points, trends, ...),
    folder, report.
    """
    from kleiber.report.study import write_study_page
    from kleiber.study.growing.run import run_study

    asked = _asked(
        source, data, budget, decades, params, sizes, seeds, workers, assignments(preset, sets), seed
    )
    out, folder = Output(json_), output or Path("runs") / f"study-{asked.base.model.family}"
    with out.progress() as bar:
        found = run_study(asked, folder, on_event=_Story(out, bar, RunBars(bar)).tell, fresh=fresh)
    page = write_study_page(found, folder / "study.html", lang=lang)
    _print(out, found)
    out.say(f"\n{page}: open it in a browser.")
    out.document(found.model_dump(mode="json") | {"folder": str(folder), "report": str(page)})


def _asked(  # noqa: PLR0917 - the options of one command
    source: str,
    data: str | None,
    budget: str,
    decades: str,
    params: str | None,
    sizes: str,
    seeds: str,
    workers: str | None,
    sets: list[str],
    seed: str,
) -> Asked:
    from kleiber.runs.machine import num_cores
    from kleiber.study.growing.asked import Asked

    low, high = _range(params)
    return Asked(
        base=_recipe(source, data, sets),
        budget_s=parse_positive(budget, "--budget-s", "kleiber study gpt", example="900"),
        decades=parse_positive(decades, "--decades", "kleiber study gpt", example="1.5"),
        low=low,
        high=high,
        num_sizes=parse_whole(sizes, "--sizes", "kleiber study gpt", minimum=3, maximum=40, example=7),
        num_seeds=parse_whole(seeds, "--seeds", "kleiber study gpt", minimum=1, maximum=20, example=3),
        num_workers=num_cores()
        if workers is None
        else parse_whole(workers, "--workers", "kleiber study gpt", minimum=1, maximum=4096),
        seed=parse_whole(seed, "--seed", EXAMPLE, maximum=2**31 - 100),
    )


def _recipe(source: str, data: str | None, sets: list[str]) -> Recipe:
    from kleiber.models import parse_size
    from kleiber.runs import read_recipe
    from kleiber.study.growing.asked import usual_recipe

    if source.endswith((".yaml", ".yml")):
        return read_recipe(Path(source)).with_values([*([f"data.source={data}"] if data else []), *sets])
    return usual_recipe(parse_size(source), data, sets)


def _range(params: str | None) -> tuple[float | None, float | None]:
    if params is None:
        return None, None
    low, separator, high = params.partition("..")
    bounds = (
        [parse_positive(one, "--params", "kleiber study gpt", example="1e4..1e6") for one in (low, high)]
        if separator
        else []
    )
    if len(bounds) < 2 or bounds[0] >= bounds[1]:
        raise UsageError(
            "--params takes the smallest and the largest number of parameters.",
            got=params,
            hint="kleiber study gpt --params 1e4..1e6",
        )
    return bounds[0], bounds[1]


@dataclass(frozen=True)
class _Story:
    """Tells what happens as it happens."""

    out: Output
    bar: Bar
    runs: RunBars

    def tell(self, event: StudyEvent) -> None:
        """Move the bars, or print what a person should read between them."""
        from kleiber.fleet import Done, Progressed

        if isinstance(event, Progressed | Done):
            self.runs.on_event(event)
            return
        self.bar.stop()
        if isinstance(event, str):
            self.out.say(f"{event} ...")
        else:
            _print_plan(self.out, event)
        self.bar.start()


def _print_plan(out: Output, planned: Planned) -> None:
    out.table(
        ["size", "N", "line", "step"],
        (
            [
                one.name.rpartition("-n")[0],
                format_count(one.num_params),
                ", ".join(one.lines),
                format_seconds(planned.step_times_s[one.name]),
            ]
            for one in planned.members
        ),
        words=(0, 2),
    )
    for sentence in planned.plan.says:
        out.say(f"  {sentence}")
    out.say(
        f"  {planned.plan.num_steps} steps a run: about {format_seconds(planned.plan.expected_s)} of training."
    )


def _print(out: Output, found: Study) -> None:
    """Print the exponents."""
    from kleiber.report.study import trend_rows
    from kleiber.report.study.words import read_study_words

    head, rows = trend_rows(found)
    out.table(head, rows, words=(0, 1))
    if found.is_rate_at_edge:
        out.say(f"- {read_study_words('en')('how_rate_edge')}")
    for note in found.notes:
        out.say(f"- {note}")
