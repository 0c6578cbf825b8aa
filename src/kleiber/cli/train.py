"""`kleiber train`: a recipe into a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kleiber.cli.bars import RunBars
from kleiber.cli.options import Json, Preset, Sets, assignments
from kleiber.cli.output import Output
from kleiber.units import (
    format_bytes,
    format_count,
    format_flops,
    format_loss,
    format_measure,
    format_seconds,
)

if TYPE_CHECKING:
    from kleiber.runs import Baseline, Estimate, Predicted, Recipe, Record, Result
    from kleiber.study.plan import Plan

__all__ = ["EXAMPLE", "train"]

EXAMPLE = "kleiber train examples/recipe.yaml -o runs/small --set train.num_steps=2000"


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe in YAML; kleiber schema says what it takes.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The run folder; without it runs/ and the recipe's name."
        ),
    ] = None,
    preset: Preset = None,
    sets: Sets = None,
    forecast: Annotated[
        Path | None,
        typer.Option(
            "--forecast",
            metavar="FILE",
            help="A forecast of this run; it is checked before step 0, and its hash goes into the record.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what stands in the folder and start again.")
    ] = False,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline",
            help="Also fit classical methods to the same data: n-grams, a linear model, boosted trees.",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Train what a recipe says, or go on with a run that was stopped.

    The same command resumes: bit for bit on a CPU with the same number of threads. A finished run stays as it is.
    Memory and time are predicted before the run starts, and kleiber verify shows what they came to.

    With --json: run, loss, val_loss (nats a token of text), test_loss, num_tokens, tokens_per_s (samples where a sample is
    the unit), mfu_frac, total_time_s, val_metrics and test_metrics with 95% intervals, stopped_by, baseline, folder.
    """
    from kleiber.runs import RunFolder, read_recipe

    asked = read_recipe(recipe).with_values(assignments(preset, sets))
    folder = output or Path("runs") / recipe.stem
    out = Output(json_)
    if asked.train.fits_memory and (fresh or not RunFolder(folder).exists()):
        from kleiber.study.micro_batch import fit_micro_batch

        asked, says = fit_micro_batch(asked)
        out.say(says)
    predicted = _predicted(asked, folder, forecast, out, fresh=fresh)
    from kleiber.train import train as train_run

    with out.progress() as bar:
        record = train_run(
            asked,
            folder,
            resume=not fresh,
            predicted=predicted,
            on_progress=RunBars(bar).show,
            on_notice=out.notice,
        )
    beside = _baseline(record.recipe, folder, out) if baseline else None
    _print(out, record, folder, beside)


def _baseline(recipe: Recipe, folder: Path, out: Output) -> Baseline:
    """Return what classical methods reach, from the folder where they have been asked before."""
    from kleiber.runs import RunFolder
    from kleiber.study.baseline import run_baseline

    run = RunFolder(folder)
    found = run.read_baseline()
    if found is None:
        found = run_baseline(recipe, on_progress=lambda stage: out.say(f"{stage} ..."))
        found.write(run.baseline_path)
    return found


def _predicted(
    recipe: Recipe, folder: Path, forecast: Path | None, out: Output, *, fresh: bool
) -> Predicted | None:
    """Return what is said of a run that starts; None for one that goes on, of which it was said then."""
    from kleiber.cost import load_calibration
    from kleiber.models.hf.spec import HFSpec
    from kleiber.runs import RunFolder
    from kleiber.scaling import Forecast
    from kleiber.study.prediction import check_started, predict

    foretold, run = None if forecast is None else Forecast.read(forecast), RunFolder(folder)
    if run.exists() and not fresh:
        if foretold is not None:
            check_started(run.read_record(), foretold)
        return None
    calibration = load_calibration()
    found, predicted = predict(
        recipe,
        run.name,
        calibration=calibration,
        forecast=foretold,
        on_progress=lambda stage: out.say(f"{stage} ..."),
    )
    out.say(
        f"{_plan_line(run.name, found, recipe.unit)}{'' if calibration else ' (this machine was never measured)'}."
    )
    for note in found.spec.notes() if isinstance(found.spec, HFSpec) else ():
        out.say(note)
    return predicted


def _plan_line(run: str, found: Plan, unit: str) -> str:
    return (
        f"{run}: {format_count(found.num_params.total)} parameters, {format_count(found.num_tokens)} {unit}s, "
        f"{format_flops(found.train_flops)}; expected {format_seconds(found.total_time_s)}, "
        f"{format_seconds(found.step_time_s)} a step, {format_bytes(found.memory_bytes.peak)}"
    )


def _print(out: Output, record: Record, folder: Path, baseline: Baseline | None) -> None:
    result = record.result
    if result is None:  # `train` returns finished runs only
        raise AssertionError(f"{folder} has no result")
    for note in _data_notes(record):
        out.say(note)
    out.say(f"{record.run}: {_came_to(record, result)}")
    if result.stopped_by:
        out.say(f"Stopped at step {result.num_steps}: {result.stopped_by}.")
    for split, metrics in (("validation", result.val_metrics), ("test", result.test_metrics)):
        if metrics:
            out.say(f"{split}: " + ", ".join(_measure(name, found) for name, found in metrics.items()))
    out.say(
        f"{format_seconds(result.total_time_s)}, {format_count(result.tokens_per_s)} {record.data.unit}s/s, "
        f"{result.mfu_frac:.1%} of this machine's measured peak. In {folder}."
    )
    for result_beside in baseline.results if baseline else ():
        shown = result_beside.test_metrics or result_beside.val_metrics
        split = "test" if result_beside.test_metrics else "validation"
        measures_beside = ", ".join(_measure(name, found) for name, found in shown.items())
        out.say(
            f"{result_beside.method}, {split}: {measures_beside} in {format_seconds(result_beside.time_s)}"
        )
    keys = ("loss", "val_loss", "test_loss", "num_tokens", "tokens_per_s", "mfu_frac", "total_time_s")
    measures = {
        key: {name: found.model_dump() for name, found in getattr(result, key).items()}
        for key in ("val_metrics", "test_metrics")
    }
    out.document(
        {"run": record.run}
        | {key: getattr(result, key) for key in keys}
        | measures
        | {"baseline": baseline.model_dump() if baseline else None}
        | {"stopped_by": result.stopped_by, "folder": str(folder)}
    )


def _data_notes(record: Record) -> Iterator[str]:
    """Yield what was done to the data, a sentence each; what was left out comes first."""
    if record.data.num_bad_samples:
        num, source = record.data.num_bad_samples, record.data.source
        yield f"{num:,} of the samples of {source} could not be read and {'was' if num == 1 else 'were'} left out."
    yield from (f"{note.removesuffix('.')}." for note in record.data.notes)


def _came_to(record: Record, result: Result) -> str:
    """Return the loss and what it was measured on and after."""
    unit = record.data.unit
    after = f"after {format_count(result.num_tokens)} {unit}s"
    per_token = " nats/token" if unit == "token" else ""
    return (
        f"loss {format_loss(result.val_loss)}{per_token} on {format_count(record.data.num_val_tokens)} held-out "
        f"{unit}s {after}"
    )


def _measure(name: str, found: Estimate) -> str:
    digits = [format_measure(value) for value in (found.value, found.low, found.high)]
    return f"{name.replace('_', ' ')} {digits[0]} ({digits[1]} to {digits[2]})"
